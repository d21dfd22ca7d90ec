//! A seat: what one process does at the table, in a form that can't be done wrong.
//!
//! A client sits at the public region only. A peer sits at both: at the public one it serves
//! clients, over the private one it asks other peers. Every slot that a process may touch is a
//! token that moves: [`Ticket`] (mine to fill, or mine to free) and [`Incoming`] (mine to
//! answer). Submitting or answering takes the token away, so nothing is answered twice and no
//! record is written after it was sent.
//!
//! What always holds:
//! - A reply is handed out only if this seat sent that very request (slot and generation): what
//!   was meant for the seat's previous owner is freed unread.
//! - A server reads a request once, through [`Seat::read`], which clears what its sender may not
//!   say and checks what can be checked without knowing the operation.

mod recovery;

pub use recovery::Recovery;

use crate::bell::{self, Bells};
use crate::buffer::Hints;
use crate::inbox::{self, Walk};
use crate::protocol::{self, NO_PORT, PortNo};
use crate::reclaim;
use crate::segment::{Extent, Segment};
use crate::slot::{Address, Answer, Request, Slot};
use crate::sync::Ordering;
use crate::word::{SeatNo, SlotNo, State, Word};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// The region that clients and peers share.
pub const PUBLIC: u8 = 0;
/// The region that only peers map.
pub const PRIVATE: u8 = 1;

/// Which slot of which region, in which of its lives: a name for a request under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RequestId {
    /// [`PUBLIC`] or [`PRIVATE`].
    pub region: u8,
    /// The slot.
    pub slot: SlotNo,
    /// Its life.
    pub generation: u32,
}

/// A root: the slot (index + 1) in the low half, its life (24 bits) above.
const ROOT_BITS: u32 = 32;
/// A mark: the step in the low bits, the life of the client's slot above.
const STEP_BITS: u32 = 40;
/// Largest step that a mark can hold.
pub const STEP_MAX: u64 = (1 << STEP_BITS) - 1;

fn root_of(token: &Token) -> u64 {
    u64::from(token.word.generation) << ROOT_BITS | (u64::from(token.slot.0) + 1)
}

#[derive(Debug)]
struct Token {
    region: u8,
    slot: SlotNo,
    word: Word,
}

impl Token {
    fn id(&self) -> RequestId {
        RequestId {
            region: self.region,
            slot: self.slot,
            generation: self.word.generation,
        }
    }
}

/// A slot that is mine: to fill and submit, or, after its reply, to read and free.
#[derive(Debug)]
#[must_use = "a dropped ticket keeps its slot until the process ends"]
pub struct Ticket(Token);

impl Ticket {
    /// The name under which its reply comes.
    pub fn id(&self) -> RequestId {
        self.0.id()
    }
}

/// A request that I serve.
#[derive(Debug)]
#[must_use = "a dropped request is never answered"]
pub struct Incoming(Token);

impl Incoming {
    /// Its name.
    pub fn id(&self) -> RequestId {
        self.0.id()
    }

    /// Who sent it.
    pub fn owner(&self) -> SeatNo {
        self.0.word.owner
    }
}

/// Something that came in.
#[derive(Debug)]
pub enum Event {
    /// Somebody asks.
    Request(Incoming),
    /// Somebody answered.
    Reply(Ticket, Answer),
}

/// Why a request is not even looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRequest {
    /// The target's length is out of range.
    #[error("the target of the request claims more than 256 bytes")]
    Target,
    /// The data lies outside the buffers.
    #[error("the data of the request lies outside the segment's buffers")]
    Data,
}

struct Region {
    segment: Segment,
    /// For each slot the generation + 1 of the request that I sent in it, 0 for none.
    sent: Vec<u32>,
    recent: Vec<SlotNo>,
    next: u32,
    hints: Hints,
}

const RECENT_MAX: usize = 1024;

impl Region {
    fn new(segment: Segment) -> Region {
        let slots = segment.layout().spec.slots as usize;
        Region {
            segment,
            sent: vec![0; slots],
            recent: Vec::with_capacity(RECENT_MAX),
            next: 0,
            hints: Hints::default(),
        }
    }

    fn try_claim(&self, slot: SlotNo, seat: SeatNo) -> Option<Word> {
        let cell = &self.segment.slot(slot)?.state;
        let free = cell.load().filter(|w| w.state == State::Free)?;
        let claimed = free.claimed_by(seat);
        cell.change(free, claimed).then_some(claimed)
    }

    fn claim(&mut self, seat: SeatNo) -> Option<(SlotNo, Word)> {
        while let Some(slot) = self.recent.pop() {
            if let Some(word) = self.try_claim(slot, seat) {
                return Some((slot, word));
            }
        }
        let slots = self.segment.layout().spec.slots;
        let found = (0..slots).find_map(|i| {
            let slot = SlotNo((self.next + i) % slots);
            self.try_claim(slot, seat).map(|word| (slot, word))
        });
        if let Some((slot, _)) = found {
            self.next = (slot.0 + 1) % slots;
        }
        found
    }

    fn push(&self, to: SeatNo, slot: SlotNo) -> bool {
        let Some(member) = self.segment.member(to) else {
            return false;
        };
        inbox::push(&member.head, to, slot, |s| {
            self.segment.slot(s).map(|slot| &slot.next)
        })
    }
}

/// My place at the table.
pub struct Seat {
    no: SeatNo,
    regions: Vec<Region>,
    bells: Arc<dyn Bells>,
    port: PortNo,
    chain: Vec<SlotNo>,
    alive: Option<File>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat")
            .field("no", &self.no)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Seat {
    /// Sits down. `alive` is the locked description of `owner.rs` (none inside one process).
    pub fn new(
        no: SeatNo,
        public: Segment,
        private: Option<Segment>,
        bells: Arc<dyn Bells>,
        alive: Option<File>,
    ) -> Seat {
        let regions: Vec<Region> = std::iter::once(public)
            .chain(private)
            .map(Region::new)
            .collect();
        let seat = Seat {
            no,
            regions,
            bells,
            port: NO_PORT,
            chain: Vec::new(),
            alive,
        };
        seat.members(|m| m.status.store(inbox::status::ALIVE, Ordering::SeqCst));
        seat
    }

    fn members(&self, each: impl Fn(&inbox::Member)) {
        self.regions
            .iter()
            .filter_map(|r| r.segment.member(self.no))
            .for_each(each);
    }

    /// Which seat this is.
    pub fn no(&self) -> SeatNo {
        self.no
    }

    /// The port that its requests come from.
    pub fn port(&self) -> PortNo {
        self.port
    }

    /// The bells, to wait for mine.
    pub fn bells(&self) -> &Arc<dyn Bells> {
        &self.bells
    }

    /// The region; peers have two.
    pub fn segment(&self, region: u8) -> Option<&Segment> {
        self.regions.get(usize::from(region)).map(|r| &r.segment)
    }

    /// Serves the ports `first..=last` from now on, taking them over from whoever did; the first
    /// is the one that my requests come from. False: there is no such port.
    pub fn bind(&mut self, first: PortNo, last: PortNo) -> bool {
        let ports = self.regions[0].segment.layout().spec.ports;
        if first > last || last >= ports {
            return false;
        }
        for region in &self.regions {
            for port in first..=last {
                region.segment.ports()[port as usize]
                    .store(u64::from(self.no.0) + 1, Ordering::Release);
            }
        }
        self.port = first;
        self.members(|m| m.port.store(first, Ordering::Relaxed));
        true
    }

    /// Binds the first dynamic port that nobody serves; `None` when all are taken.
    pub fn bind_dynamic(&mut self) -> Option<PortNo> {
        let spec = self.regions[0].segment.layout().spec;
        let mine = u64::from(self.no.0) + 1;
        let table = self.regions[0].segment.ports();
        let port = (spec.dynports..spec.ports).find(|&port| {
            table[port as usize]
                .compare_exchange(0, mine, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })?;
        self.port = port;
        self.members(|m| m.port.store(port, Ordering::Relaxed));
        Some(port)
    }

    /// Binds one port, provided that it still leads where `from` says (`None`: to nobody). False:
    /// there is no such port, or somebody else was faster.
    pub fn take_port(&mut self, port: PortNo, from: Option<SeatNo>) -> bool {
        let expected = from.map_or(0, |seat| u64::from(seat.0) + 1);
        let mine = u64::from(self.no.0) + 1;
        let table = self.regions[0].segment.ports();
        let taken = table.get(port as usize).is_some_and(|cell| {
            cell.compare_exchange(expected, mine, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if taken {
            self.port = port;
            self.members(|m| m.port.store(port, Ordering::Relaxed));
        }
        taken
    }

    /// Gives back every port that leads here: for a client that stays at its seat no longer. What
    /// was sent to the seat before still reaches it.
    pub fn unbind(&mut self) {
        reclaim::unbind(&self.regions[0].segment, self.no);
        self.port = NO_PORT;
    }

    /// The description that says this seat's owner lives; none inside one process. A process that
    /// forks must see to it that its child closes it.
    pub fn alive_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.alive.as_ref().map(AsFd::as_fd)
    }

    // ---- asking ----

    /// Takes a slot of `region`; `None` when all are taken (the sender waits, or gives up).
    pub fn claim(&mut self, region: u8) -> Option<Ticket> {
        let (slot, word) = self.regions.get_mut(usize::from(region))?.claim(self.no)?;
        Some(Ticket(Token { region, slot, word }))
    }

    /// Sends a filled request to the seat that serves `port`. Err: nobody does (ENXIO), and the
    /// slot is free again.
    pub fn submit(
        &mut self,
        ticket: Ticket,
        port: PortNo,
        request: &Request,
    ) -> Result<RequestId, i32> {
        let Ticket(token) = ticket;
        let region = &mut self.regions[usize::from(token.region)];
        let Some(to) = region.segment.seat_of_port(port) else {
            self.release(Ticket(token));
            return Err(libc::ENXIO);
        };
        let slot = region
            .segment
            .slot(token.slot)
            .expect("a claimed slot exists");
        slot.write_request(request, self.port, port);
        region.sent[token.slot.0 as usize] = token.word.generation + 1;
        if !slot
            .state
            .change(token.word, token.word.with(State::Queued, to))
        {
            region.sent[token.slot.0 as usize] = 0;
            return Err(libc::EIO);
        }
        let asleep = region.push(to, token.slot);
        if asleep {
            self.bells.ring(to);
        }
        if !reclaim::is_peer(to) && self.take_back_from_dead(&token, to) {
            return Err(libc::ENXIO);
        }
        Ok(token.id())
    }

    /// A client that served a port may have died after its port was looked up: true if the
    /// request was taken back from it. A dead peer's requests wait for its successor instead.
    fn take_back_from_dead(&mut self, token: &Token, to: SeatNo) -> bool {
        let region = &mut self.regions[usize::from(token.region)];
        let queued = token.word.with(State::Queued, to);
        let (slot, member) = (region.segment.slot(token.slot), region.segment.member(to));
        let back = slot
            .zip(member)
            .is_some_and(|(s, m)| reclaim::take_back_if_dead(&s.state, queued, &m.status));
        if back {
            region.sent[token.slot.0 as usize] = 0;
        }
        back
    }

    /// Where the data of an answered request is now (a server may have enlarged it); `None` when
    /// that lies outside the buffers.
    pub fn reply_data(&self, ticket: &Ticket) -> Option<Extent> {
        let token = &ticket.0;
        let slot = self.regions[usize::from(token.region)]
            .segment
            .slot(token.slot)?;
        let (address, len) = slot.read_data();
        self.extent(token.region, address, len)
    }

    /// Where the data of an answered request is now, unchecked.
    pub fn reply_address(&self, ticket: &Ticket) -> Option<Address> {
        let token = &ticket.0;
        let segment = &self.regions[usize::from(token.region)].segment;
        Some(segment.slot(token.slot)?.read_data().0)
    }

    /// Frees a slot of mine.
    pub fn release(&mut self, ticket: Ticket) {
        let Ticket(token) = ticket;
        let region = &mut self.regions[usize::from(token.region)];
        let Some(slot) = region.segment.slot(token.slot) else {
            return;
        };
        slot.state
            .change(token.word, token.word.with(State::Free, self.no));
        if region.recent.len() < RECENT_MAX {
            region.recent.push(token.slot);
        }
    }

    /// Whether a request of mine is still under way: false when its slot says otherwise, because
    /// somebody scribbled on it.
    pub fn is_under_way(&self, id: RequestId) -> bool {
        let slot = self
            .regions
            .get(usize::from(id.region))
            .and_then(|r| r.segment.slot(id.slot));
        slot.and_then(|s| s.state.load()).is_some_and(|w| {
            w.owner == self.no
                && w.generation == id.generation
                && matches!(w.state, State::Queued | State::Serving | State::Answered)
        })
    }

    /// Stops waiting for a request: its reply will be freed unread.
    pub fn forget(&mut self, id: RequestId) {
        if let Some(region) = self.regions.get_mut(usize::from(id.region))
            && region.sent[id.slot.0 as usize] == id.generation + 1
        {
            region.sent[id.slot.0 as usize] = 0;
        }
    }

    // ---- serving ----

    /// Takes what came in; true if anything did.
    pub fn poll(&mut self, out: &mut Vec<Event>) -> bool {
        let before = out.len();
        for region in 0..self.regions.len() as u8 {
            self.poll_region(region, out);
        }
        out.len() > before
    }

    fn poll_region(&mut self, number: u8, out: &mut Vec<Event>) {
        let region = &self.regions[usize::from(number)];
        let segment = &region.segment;
        let Some(member) = segment.member(self.no) else {
            return;
        };
        if member.rescan.load(Ordering::Acquire) != 0 {
            member.rescan.store(0, Ordering::SeqCst);
            let slots = segment.layout().spec.slots;
            self.chain.clear();
            let _ = inbox::take(
                &member.head,
                self.no,
                slots,
                |s| segment.slot(s).map(|x| &x.next),
                &mut self.chain,
            );
            self.scan(number, out);
            return;
        }
        let mut chain = std::mem::take(&mut self.chain);
        chain.clear();
        let slots = segment.layout().spec.slots;
        let walk = inbox::take(
            &member.head,
            self.no,
            slots,
            |s| segment.slot(s).map(|x| &x.next),
            &mut chain,
        );
        let mut strange = walk == Walk::Broken;
        for &slot in &chain {
            strange |= !self.look(number, slot, out);
        }
        self.chain = chain;
        if strange {
            self.scan(number, out);
        }
    }

    /// Looks at every state word: what a dead sender did not push, or a scribbler unlinked.
    fn scan(&mut self, number: u8, out: &mut Vec<Event>) {
        for slot in 0..self.regions[usize::from(number)]
            .segment
            .layout()
            .spec
            .slots
        {
            self.look(number, SlotNo(slot), out);
        }
    }

    /// Takes `slot` if it is for me. False: it is not what its place in my inbox promises.
    fn look(&mut self, number: u8, slot: SlotNo, out: &mut Vec<Event>) -> bool {
        let region = &mut self.regions[usize::from(number)];
        let Some(record) = region.segment.slot(slot) else {
            return false;
        };
        let Some(word) = record.state.load() else {
            return false;
        };
        match word.state {
            State::Queued if word.holder == self.no => {
                let serving = word.with(State::Serving, self.no);
                if !record.state.change(word, serving) {
                    return false;
                }
                out.push(Event::Request(Incoming(Token {
                    region: number,
                    slot,
                    word: serving,
                })));
                true
            }
            State::Answered if word.owner == self.no => {
                let sent = &mut region.sent[slot.0 as usize];
                if *sent != word.generation + 1 {
                    // For the seat's previous owner.
                    return record.state.change(word, word.with(State::Free, self.no));
                }
                let received = word.with(State::Received, self.no);
                if !record.state.change(word, received) {
                    return false;
                }
                *sent = 0;
                let answer = record.read_answer();
                out.push(Event::Reply(
                    Ticket(Token {
                        region: number,
                        slot,
                        word: received,
                    }),
                    answer,
                ));
                true
            }
            _ => false,
        }
    }

    /// Copies a request, and clears what its sender may not say.
    pub fn read(&self, incoming: &Incoming) -> Result<Request, BadRequest> {
        let mut request = Request::default();
        self.read_into(incoming, &mut request)?;
        Ok(request)
    }

    /// [`Seat::read`] into `request`, which is worth nothing when this fails.
    pub fn read_into(&self, incoming: &Incoming, request: &mut Request) -> Result<(), BadRequest> {
        let token = &incoming.0;
        let slot = self.slot_of(token);
        if !slot.read_request(request) {
            return Err(BadRequest::Target);
        }
        if token.region == PUBLIC {
            request.flags &= protocol::flags::PUBLIC;
            request.tag = 0;
            request.lease = 0;
            request.root = root_of(token);
        }
        if request.datalen > 0
            && self
                .extent(token.region, request.data, request.datalen)
                .is_none()
        {
            return Err(BadRequest::Data);
        }
        Ok(())
    }

    fn slot_of(&self, token: &Token) -> &Slot {
        let region = &self.regions[usize::from(token.region)];
        region
            .segment
            .slot(token.slot)
            .expect("a token names an existing slot")
    }

    /// The buffers at `address` as a request of `region` may name them: a public request never
    /// reaches the peers' own region.
    pub fn extent(&self, region: u8, address: Address, len: u64) -> Option<Extent> {
        if address.region > region {
            return None;
        }
        Extent::new(self.segment(address.region)?, address, len)
    }

    /// Gives the sender of a request other data, taken for it by [`Seat::take_buffer_for`].
    pub fn replace_data(&self, incoming: &Incoming, data: Address, datalen: u64) {
        self.slot_of(&incoming.0).write_data(data, datalen);
    }

    /// Answers.
    pub fn answer(&mut self, incoming: Incoming, answer: Answer) {
        let Incoming(token) = incoming;
        let region = &self.regions[usize::from(token.region)];
        let slot = self.slot_of(&token);
        if slot.state.load() != Some(token.word) {
            // Somebody scribbled on the word; the record may be another request's by now.
            return;
        }
        slot.write_answer(&answer);
        let owner = token.word.owner;
        let answered = token.word.with(State::Answered, owner);
        if !slot.state.change(token.word, answered) {
            return;
        }
        if region.push(owner, token.slot) {
            self.bells.ring(owner);
        }
        match region.segment.member(owner) {
            Some(member) => reclaim::free_if_dead(&slot.state, answered, &member.status),
            None => reclaim::free(&slot.state, answered),
        };
    }

    /// The step mark of the client's request that `root` names ([`Request::root`]): what a server
    /// of several steps notes there is still there after its death, and is 0 at first. The mark
    /// carries the life of the client's slot, so the next request in that slot does not see it.
    pub fn mark(&self, root: u64) -> u64 {
        let bits = self
            .mark_cell(root)
            .map_or(0, |cell| cell.load(Ordering::Acquire));
        match bits >> STEP_BITS == root >> ROOT_BITS {
            true => bits & STEP_MAX,
            false => 0,
        }
    }

    /// Sets the step mark, at most [`STEP_MAX`].
    pub fn set_mark(&self, root: u64, step: u64) {
        debug_assert!(step <= STEP_MAX, "a step mark has {STEP_BITS} bits");
        if let Some(cell) = self.mark_cell(root) {
            let life = (root >> ROOT_BITS) << STEP_BITS;
            cell.store(life | step & STEP_MAX, Ordering::Release);
        }
    }

    fn mark_cell(&self, root: u64) -> Option<&crate::sync::AtomicU64> {
        let index = (root as u32).checked_sub(1)?;
        self.segment(PRIVATE)?.marks().get(index as usize)
    }

    /// Shows how many operations the driver behind this seat has: for reports.
    pub fn show_busy(&self, count: usize) {
        self.members(|m| m.show_busy(count as u64));
    }

    // ---- buffers ----

    /// Takes a buffer of at least `len` bytes in `region`; exactly `len` of it are addressed.
    pub fn take_buffer(&mut self, region: u8, len: u64) -> Option<Extent> {
        self.take_buffer_for(self.no, region, len)
    }

    /// The same on behalf of another seat, which frees it: for a reply larger than its request.
    pub fn take_buffer_for(&mut self, seat: SeatNo, region: u8, len: u64) -> Option<Extent> {
        let place = self.regions.get_mut(usize::from(region))?;
        let taken = place.segment.take_buffer(&mut place.hints, seat, len)?;
        Extent::new(
            &place.segment,
            Address {
                region,
                offset: taken.offset,
            },
            len,
        )
    }

    /// Gives back a buffer of mine by its first address. False: I hold none there.
    pub fn give_buffer_back(&mut self, address: Address) -> bool {
        let Some(place) = self.regions.get_mut(usize::from(address.region)) else {
            return false;
        };
        place
            .segment
            .give_buffer_back(&mut place.hints, self.no, address.offset)
    }

    // ---- sleeping ----

    /// Says that I go to sleep until my bell rings. False: something came in meanwhile.
    pub fn doze(&self) -> bool {
        let asleep = self.regions.iter().all(|r| {
            r.segment
                .member(self.no)
                .is_some_and(|m| m.rescan.load(Ordering::SeqCst) == 0 && inbox::doze(&m.head))
        });
        if !asleep {
            self.wake();
        }
        asleep
    }

    /// The same while a predecessor's requests are under way: what comes in besides their answers
    /// is left for later, found by the scan that follows the recovery.
    pub fn doze_for_recovery(&self) -> bool {
        for member in self
            .regions
            .iter()
            .filter_map(|r| r.segment.member(self.no))
        {
            let mail = inbox::has_mail(&member.head);
            if mail {
                member.head.store(0, Ordering::SeqCst);
                member.rescan.store(1, Ordering::SeqCst);
            }
            if mail || !inbox::doze(&member.head) {
                self.wake();
                return false;
            }
        }
        true
    }

    /// Says that I am awake.
    pub fn wake(&self) {
        self.members(|m| inbox::wake(&m.head));
    }

    /// Whether something waits in an inbox.
    pub fn has_mail(&self) -> bool {
        self.regions
            .iter()
            .filter_map(|r| r.segment.member(self.no))
            .any(|m| m.rescan.load(Ordering::Relaxed) != 0 || inbox::has_mail(&m.head))
    }

    /// Takes the ringing out of my bell.
    pub fn hush(&self) {
        if let Some(fd) = self.bells.descriptor(self.no) {
            bell::hush(fd);
        }
    }
}
