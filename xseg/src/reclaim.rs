//! What is done with the leftovers of the dead.
//!
//! A seat's owner may die between any two instructions. What it held is then named by state
//! words and buffer words that carry its seat, and nothing else has to be known about it.
//!
//! What always holds:
//! - Only seats whose owner is dead are swept, and only clients' seats: what a peer left belongs
//!   to its successor ([`crate::seat::Seat::recover`]).
//! - A slot that a server works on (SERVING) is never freed here: the server answers it, sees the
//!   dead owner and frees it (`Seat::answer`). Exactly one of the two frees it.
//! - Buffers of the dead are freed only when no server holds a request of theirs any more, for
//!   until then data may land in them. So slots are looked at first, buffers afterwards.
//! - Ports of the dead are unbound only if they are still bound to them.

use crate::bell::Bells;
use crate::buffer;
use crate::inbox::{self, status};
use crate::layout::SEATS;
use crate::protocol::PortNo;
use crate::segment::Segment;
use crate::slot::Answer;
use crate::sync::{AtomicU32, Ordering, fence};
use crate::word::{SeatNo, SlotNo, State, StateCell, Word};

/// Seats below this one are peers', each belongs to a role; those from here on are clients'.
pub const FIRST_CLIENT: u16 = 16;

/// Whether `seat` is one of those that peers sit at.
pub fn is_peer(seat: SeatNo) -> bool {
    seat.0 < FIRST_CLIENT
}

/// What a sweep did, and what it had to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Slots freed.
    pub slots: u32,
    /// Requests of the living that the dead had not started: answered with EIO.
    pub failed: u32,
    /// Slots whose word said nothing sensible: freed.
    pub wiped: u32,
    /// Buffers freed.
    pub buffers: u32,
    /// Ports unbound.
    pub ports: u32,
    /// Requests of the dead that a server still works on: sweep again later.
    pub serving: u32,
    /// Requests of the living that the dead were working on: only `recoverport` ends these.
    pub stranded: u32,
}

impl Swept {
    /// Whether nothing of the dead is left.
    pub fn is_clean(&self) -> bool {
        self.serving == 0 && self.stranded == 0
    }
}

/// Says in every region that the owner of `seat` is dead. From here on servers free what they
/// answer to it.
pub fn mark_dead(segments: &[&Segment], seat: SeatNo) {
    for member in segments.iter().filter_map(|s| s.member(seat)) {
        member.status.store(status::DEAD, Ordering::SeqCst);
    }
}

/// Makes `seat`'s record that of an empty seat; only when nobody sits there and nothing is left.
pub fn clear_member(segment: &Segment, seat: SeatNo) {
    let Some(member) = segment.member(seat) else {
        return;
    };
    member.status.store(status::EMPTY, Ordering::SeqCst);
    member.head.store(0, Ordering::SeqCst);
    member.rescan.store(0, Ordering::SeqCst);
    member.describe(0, 0, b"");
}

/// Makes every living seat look at all slots at its next turn, and wakes it: a dead sender may
/// have left requests that it did not push and bells that it did not ring.
pub fn alarm(segments: &[&Segment], bells: &dyn Bells, living: &dyn Fn(SeatNo) -> bool) {
    for seat in seats().filter(|&s| living(s)) {
        for member in segments.iter().filter_map(|s| s.member(seat)) {
            member.rescan.store(1, Ordering::SeqCst);
        }
        bells.ring(seat);
    }
}

fn seats() -> impl Iterator<Item = SeatNo> {
    (0..SEATS as u16).map(SeatNo)
}

/// Frees what the dead clients left in the public region. `dead` names seats that were marked
/// dead; peers' seats among them are passed over. Whoever is to receive a failed request is
/// woken through `bells`.
pub fn sweep(public: &Segment, bells: &dyn Bells, dead: &dyn Fn(SeatNo) -> bool) -> Swept {
    // Pairs with the fence in `Seat::answer`: it sees DEAD, or we see its ANSWERED.
    fence(Ordering::SeqCst);
    let mut swept = Swept::default();
    let mut busy = [false; SEATS as usize];
    let dead = |seat: SeatNo| !is_peer(seat) && dead(seat);
    for (index, slot) in public.slots().iter().enumerate() {
        let number = SlotNo(index as u32);
        match sweep_slot(&slot.state, &dead) {
            Left::Nothing => {}
            Left::Freed => swept.slots += 1,
            Left::Serving(owner) => {
                swept.serving += 1;
                busy[usize::from(owner.0)] = true;
            }
            Left::Unstarted(word) => {
                swept.failed += u32::from(fail(public, bells, number, word, libc::EIO));
            }
            Left::Stranded => swept.stranded += 1,
            Left::Strange(bits) => {
                swept.wiped += u32::from(slot.state.wipe(bits, fresh_generation(number)));
            }
        }
    }
    for seat in seats().filter(|&s| dead(s)) {
        if !busy[usize::from(seat.0)] {
            swept.buffers += buffer::give_back_all(public.words(), seat);
        }
        swept.ports += unbind(public, seat);
    }
    swept
}

/// What a look at one slot found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// Nothing of the dead.
    Nothing,
    /// Something of the dead, which is free now.
    Freed,
    /// A server works on it for a dead owner.
    Serving(SeatNo),
    /// Sent to the dead by the living, not started.
    Unstarted(Word),
    /// Sent to the dead by the living, started.
    Stranded,
    /// No word at all.
    Strange(u64),
}

pub(crate) fn sweep_slot(cell: &StateCell, dead: &dyn Fn(SeatNo) -> bool) -> Left {
    loop {
        let bits = cell.bits();
        let Some(word) = Word::decode_checked(bits) else {
            return Left::Strange(bits);
        };
        match word.state {
            State::Free => return Left::Nothing,
            State::Serving if dead(word.owner) => return Left::Serving(word.owner),
            State::Serving if dead(word.holder) => return Left::Stranded,
            _ if dead(word.owner) => {
                if free(cell, word) {
                    return Left::Freed;
                }
                // A server accepted it meanwhile: look again.
            }
            State::Queued if dead(word.holder) => return Left::Unstarted(word),
            _ => return Left::Nothing,
        }
    }
}

/// Frees a slot of the dead, unless its word changed meanwhile.
pub(crate) fn free(cell: &StateCell, word: Word) -> bool {
    cell.change(word, word.with(State::Free, word.owner))
}

/// What a server does after its answer: frees the slot itself if the owner is dead. Either it
/// sees DEAD here, or the sweeper, which said DEAD before it looked, sees ANSWERED (pairs with
/// the fence in [`sweep`]). True: freed.
pub(crate) fn free_if_dead(cell: &StateCell, answered: Word, status: &AtomicU32) -> bool {
    fence(Ordering::SeqCst);
    status.load(Ordering::SeqCst) == status::DEAD && free(cell, answered)
}

/// Answers a request in the place of its holder, which is dead. False: its word changed.
pub(crate) fn fail(
    segment: &Segment,
    bells: &dyn Bells,
    number: SlotNo,
    word: Word,
    errno: i32,
) -> bool {
    let Some(slot) = segment.slot(number) else {
        return false;
    };
    let serving = word.with(State::Serving, word.holder);
    // Taken first, so that only one writes the answer.
    if word.state != State::Serving && !slot.state.change(word, serving) {
        return false;
    }
    slot.write_answer(&Answer::failed(errno));
    let answered = serving.with(State::Answered, word.owner);
    if !slot.state.change(serving, answered) {
        return false;
    }
    if let Some(member) = segment.member(word.owner) {
        let link = |s| segment.slot(s).map(|x| &x.next);
        if inbox::push(&member.head, word.owner, number, link) {
            bells.ring(word.owner);
        }
        free_if_dead(&slot.state, answered, &member.status);
    }
    true
}

/// What a sender does after its request to a client: takes it back if that is dead. Either it
/// sees so here, or the sweeper, which said DEAD before it looked, sees QUEUED (pairs with the
/// fence in [`sweep`]). True: taken back, and free.
pub(crate) fn take_back_if_dead(cell: &StateCell, queued: Word, status: &AtomicU32) -> bool {
    fence(Ordering::SeqCst);
    status.load(Ordering::SeqCst) != status::ALIVE && free(cell, queued)
}

/// What became of the requests at a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRecovery {
    /// Answered with EIO.
    pub failed: u32,
    /// Left for the successor of a dead peer.
    pub waiting: u32,
    /// Left to a living server.
    pub served: u32,
}

/// Looks after what hangs at `port`. What waits for a dead client is answered with EIO; what
/// waits for a dead peer is left to its successor, which does it again, unless `force` says to
/// fail that too (then nothing of the dead peer may be under way any more). What a living server
/// has is left to it.
pub fn recover_port(
    segment: &Segment,
    bells: &dyn Bells,
    alive: &dyn Fn(SeatNo) -> bool,
    port: PortNo,
    force: bool,
) -> PortRecovery {
    let mut recovery = PortRecovery::default();
    for (index, slot) in segment.slots().iter().enumerate() {
        let Some(word) = Word::decode_checked(slot.state.bits()) else {
            continue;
        };
        let waits = matches!(word.state, State::Queued | State::Serving);
        if !waits || slot.port() != port {
            continue;
        }
        let number = SlotNo(index as u32);
        if alive(word.holder) {
            recovery.served += 1;
        } else if is_peer(word.holder) && !force {
            recovery.waiting += 1;
        } else {
            recovery.failed += u32::from(fail(segment, bells, number, word, libc::EIO));
        }
    }
    recovery
}

/// Unbinds the ports that are bound to `seat`, and returns how many.
pub fn unbind(segment: &Segment, seat: SeatNo) -> u32 {
    let bound = u64::from(seat.0) + 1;
    let unbound = segment.ports().iter().filter(|port| {
        port.compare_exchange(bound, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    });
    unbound.count() as u32
}

/// A generation for a slot whose own is lost: a token for one of its earlier lives, which a
/// server may still hold, fits it in one case of 16 million.
fn fresh_generation(slot: SlotNo) -> u32 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |t| t.as_nanos() as u64);
    let mixed = (now ^ u64::from(slot.0) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as u32
}

/// What a repair of the public region changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What was swept of seats that nobody sits at.
    pub swept: Swept,
    /// Ports of peers that were bound to somebody else.
    pub rebound: u32,
    /// Buffer words that said nothing sensible: freed.
    pub words: u32,
    /// Members whose status was wrong.
    pub members: u32,
}

impl std::fmt::Display for Repaired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = &self.swept;
        write!(
            f,
            "freed {} slots and {} buffers, wiped {} slots and {} buffers that said nothing \
             sensible, failed {} requests, unbound {} ports, bound {} again, mended {} seats; {} \
             requests of dead clients are still with a server, {} wait for a dead client \
             (recoverport fails them)",
            s.slots,
            s.buffers,
            s.wiped,
            self.words,
            s.failed,
            s.ports,
            self.rebound,
            self.members,
            s.serving,
            s.stranded
        )
    }
}

/// Mends the public region after somebody scribbled on it: words that say nothing sensible are
/// freed, the peers' ports are bound as the private region has them, members' records say who is
/// alive, what belongs to empty seats is swept, and everybody looks at every slot.
pub fn repair(
    public: &Segment,
    private: &Segment,
    bells: &dyn Bells,
    alive: &dyn Fn(SeatNo) -> bool,
) -> Repaired {
    let mut repaired = Repaired {
        rebound: rebind(public, private),
        words: buffer::wipe_strange(public.words()),
        members: mend_members(public, alive),
        ..Repaired::default()
    };
    repaired.swept = sweep(public, bells, &|seat| !alive(seat));
    for seat in seats().filter(|&s| !is_peer(s) && !alive(s)) {
        if repaired.swept.is_clean() {
            clear_member(public, seat);
        }
    }
    alarm(&[public, private], bells, alive);
    repaired
}

/// Binds the peers' ports as the private region, which no client can reach, has them.
fn rebind(public: &Segment, private: &Segment) -> u32 {
    let pairs = public.ports().iter().zip(private.ports());
    let wrong = pairs.filter(|(ours, theirs)| {
        let seat = theirs.load(Ordering::Acquire);
        seat != 0 && ours.swap(seat, Ordering::AcqRel) != seat
    });
    let rebound = wrong.count() as u32;
    let lost = public.ports().iter().enumerate().filter(|(port, cell)| {
        // Neither a seat nor nothing: nobody's.
        cell.load(Ordering::Acquire) != 0 && public.seat_of_port(*port as u32).is_none()
    });
    rebound
        + lost
            .map(|(_, cell)| cell.store(0, Ordering::Release))
            .count() as u32
}

fn mend_members(public: &Segment, alive: &dyn Fn(SeatNo) -> bool) -> u32 {
    let mut wrong = 0;
    for seat in seats() {
        let Some(member) = public.member(seat) else {
            continue;
        };
        let right = match (alive(seat), member.status.load(Ordering::SeqCst)) {
            (true, _) => status::ALIVE,
            (false, status::EMPTY) => status::EMPTY,
            (false, _) => status::DEAD,
        };
        wrong += u32::from(member.status.swap(right, Ordering::SeqCst) != right);
    }
    wrong
}

#[cfg(all(test, not(loom)))]
mod tests;
