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
mod tests {
    use crate::join::Local;
    use crate::protocol::{Operation, flags};
    use crate::report::{Finding, Report, verify};
    use crate::seat::{PRIVATE, PUBLIC};
    use crate::sync::Ordering;
    use crate::word::{SeatNo, State};
    use crate::{Answer, Event, Incoming, Name, RegionSpec, Request, Seat};

    const PORT: u32 = 1;

    fn table() -> (Local, Seat, Seat) {
        let local = Local::new(RegionSpec::public(16, 8, 64)).unwrap();
        let mut server = local.peer_seat("server").unwrap();
        assert!(server.bind(PORT, PORT));
        let client = local.client_seat("client").unwrap();
        (local, server, client)
    }

    fn send(client: &mut Seat, len: u64) {
        let buffer = client.take_buffer(PUBLIC, len).unwrap();
        let request = Request {
            data: buffer.address(),
            datalen: len,
            ..Request::new(Operation::Write, Name::try_from("v").unwrap())
        };
        let ticket = client.claim(PUBLIC).unwrap();
        client.submit(ticket, PORT, &request).unwrap();
    }

    fn accept(server: &mut Seat) -> Vec<Incoming> {
        let mut events = Vec::new();
        server.poll(&mut events);
        let requests = events.into_iter().filter_map(|event| match event {
            Event::Request(incoming) => Some(incoming),
            Event::Reply(..) => None,
        });
        requests.collect()
    }

    #[test]
    fn buffers_of_the_dead_stay_until_no_server_has_a_request_of_theirs() {
        let (local, mut server, mut client) = table();
        send(&mut client, 4096);
        let served = accept(&mut server).pop().unwrap();
        send(&mut client, 4096);
        let swept = local.leave(client);
        assert_eq!((swept.slots, swept.serving, swept.buffers), (1, 1, 0));
        let report = Report::new(local.public(), None, &|_| true);
        assert_eq!(report.buffers_in_use(PUBLIC), 2, "data may still land");
        server.answer(served, Answer::served(0));
        assert!(accept(&mut server).is_empty(), "the other one was swept");
        let next = local.client_seat("next").unwrap();
        let report = Report::new(local.public(), None, &|_| true);
        assert_eq!(report.buffers_in_use(PUBLIC), 0);
        assert_eq!(report.slots_in_use(PUBLIC), 0);
        drop(next);
    }

    #[test]
    fn a_living_neighbour_keeps_everything() {
        let (local, mut server, mut client) = table();
        let mut other = local.client_seat("other").unwrap();
        send(&mut other, 4096);
        send(&mut client, 4096);
        assert_eq!(local.leave(client).buffers, 1);
        assert_eq!(accept(&mut server).len(), 1);
        let report = Report::new(local.public(), None, &|_| true);
        assert_eq!(report.buffers_in_use(PUBLIC), 1);
    }

    /// A mark that outlived its request would make a server take new work for done work.
    #[test]
    fn a_step_mark_is_seen_by_the_successor_and_not_by_the_next_request() {
        let (local, mut server, mut client) = table();
        send(&mut client, 4096);
        let incoming = accept(&mut server).pop().unwrap();
        let root = server.read(&incoming).unwrap().root;
        assert_eq!(server.mark(root), 0);
        server.set_mark(root, 3);
        drop(server);
        let mut heir = local.peer_seat("server").unwrap();
        let mut recovery = heir.recover();
        assert!(heir.recovered(&mut recovery));
        let again = recovery.requeued.pop().unwrap();
        let request = heir.read(&again).unwrap();
        assert_eq!((request.root, request.attempt), (root, 1));
        assert_eq!(heir.mark(request.root), 3);
        let slot = again.id().slot;
        heir.answer(again, Answer::served(0));
        let mut events = Vec::new();
        client.poll(&mut events);
        for event in events {
            if let Event::Reply(ticket, _) = event {
                client.release(ticket);
            }
        }
        send(&mut client, 4096);
        let next = accept(&mut heir).pop().unwrap();
        assert_eq!(next.id().slot, slot, "the same slot");
        let root = heir.read(&next).unwrap().root;
        assert_eq!(heir.mark(root), 0);
    }

    /// A client can't make a peer's successor wait for an answer that never comes.
    #[test]
    fn a_scribbled_public_slot_holds_no_successor_up() {
        let (local, server, _client) = table();
        let cell = &local.public().slots()[9].state;
        let word = cell.claim(server.no()).unwrap();
        assert!(cell.change(word, word.with(State::Serving, SeatNo(99))));
        drop(server);
        let mut heir = local.peer_seat("server").unwrap();
        let mut recovery = heir.recover();
        assert!(heir.recovered(&mut recovery));
    }

    #[test]
    fn a_server_never_sees_what_only_peers_may_say() {
        let (_local, mut server, mut client) = table();
        let request = Request {
            flags: flags::FUA | flags::VOLATILE | flags::FRESH,
            tag: 7,
            lease: 7,
            ..Request::new(Operation::Write, Name::EMPTY)
        };
        let ticket = client.claim(PUBLIC).unwrap();
        client.submit(ticket, PORT, &request).unwrap();
        let incoming = accept(&mut server).pop().unwrap();
        let read = server.read(&incoming).unwrap();
        assert_eq!((read.flags, read.tag, read.lease), (flags::FUA, 0, 0));
    }

    #[test]
    fn a_repair_mends_what_verify_finds() {
        let (local, server, client) = table();
        let public = local.public();
        let alive = |seat| seat == server.no() || seat == client.no();
        assert_eq!(verify(public, Some(local.private()), &alive), []);
        let cell = &public.slots()[5].state;
        let word = cell.claim(SeatNo(300)).unwrap();
        assert_eq!(word.owner, SeatNo(300));
        public.slots()[6].state.claim(SeatNo(77)).unwrap();
        public.words()[0].store(2, Ordering::Relaxed);
        public.words()[1].store(1 | 77 << 8, Ordering::Relaxed);
        public.ports()[PORT as usize].store(78, Ordering::Relaxed);
        public.ports()[9].store(78, Ordering::Relaxed);
        let found = verify(public, Some(local.private()), &alive);
        assert_eq!(found.len(), 6, "{found:?}");
        assert!(found.contains(&Finding::StolenPort {
            port: PORT,
            seat: server.no()
        }));
        let sentences: Vec<String> = found.iter().map(|f| f.to_string()).collect();
        assert!(sentences.iter().all(|s| s.len() > 20), "{sentences:?}");
        let repaired = super::repair(public, local.private(), &**local.bells(), &alive);
        assert_eq!(verify(public, Some(local.private()), &alive), []);
        assert_eq!((repaired.swept.wiped, repaired.swept.slots), (1, 1));
        assert_eq!((repaired.words, repaired.rebound), (1, 1));
    }

    #[test]
    fn recoverport_leaves_peers_requests_to_their_successor_unless_forced() {
        let (local, server, mut client) = table();
        send(&mut client, 4096);
        let alive = |seat| seat != server.no();
        let recover =
            |force| super::recover_port(local.public(), &**local.bells(), &alive, PORT, force);
        assert_eq!((recover(false).waiting, recover(false).failed), (1, 0));
        assert_eq!(recover(true).failed, 1);
        let mut events = Vec::new();
        client.poll(&mut events);
        let failed = events.iter().all(|event| match event {
            Event::Reply(_, answer) => answer.result() == Err(libc::EIO),
            Event::Request(_) => false,
        });
        assert!(failed && events.len() == 1);
    }

    #[test]
    fn a_report_names_who_holds_what() {
        let (local, mut server, mut client) = table();
        send(&mut client, 4096);
        let _incoming = accept(&mut server);
        let report = Report::new(local.public(), Some(local.private()), &|_| true);
        assert_eq!(report.slots_in_use(PUBLIC), 1);
        assert_eq!(report.slots_in_use(PRIVATE), 0);
        let text = report.to_string();
        let seat = format!("seat {}: owns 1 serving", client.no().0);
        assert!(text.contains(&seat), "{text}");
        assert!(text.contains("server") && text.contains("client"), "{text}");
    }
}
