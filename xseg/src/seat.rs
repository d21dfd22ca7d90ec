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
//!
//! | file | what it is |
//! |---|---|
//! | `region` | what a seat remembers of a region |
//! | `buffers` | taking data buffers, and finding those that requests name |
//! | `marks` | step marks, which outlive the server that sets them |
//! | `sleep` | falling asleep without missing anything |
//! | `recovery` | a successor taking over a dead peer's requests |

mod buffers;
mod marks;
mod recovery;
mod region;
mod sleep;

pub use marks::STEP_MAX;
pub use recovery::Recovery;

use crate::bell::Bells;
use crate::inbox::{self, Walk};
use crate::protocol::{self, NO_PORT, PortNo};
use crate::reclaim;
use crate::segment::Segment;
use crate::slot::{Answer, Request, Slot};
use crate::sync::Ordering;
use crate::word::{SeatNo, SlotNo, State, Word};
use marks::root_of;
use region::Region;
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

    /// Gives a port back. False: it is not bound here.
    pub fn unbind(&mut self, port: PortNo) -> bool {
        let mine = u64::from(self.no.0) + 1;
        let free = |region: &Region| {
            let bound = region.segment.ports().get(port as usize);
            bound.is_some_and(|bound| {
                bound
                    .compare_exchange(mine, 0, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            })
        };
        self.regions.iter().filter(|region| free(region)).count() > 0
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
    pub fn unbind_all(&mut self) {
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

    /// Frees a slot of mine.
    pub fn release(&mut self, ticket: Ticket) {
        let Ticket(token) = ticket;
        let region = &mut self.regions[usize::from(token.region)];
        let Some(slot) = region.segment.slot(token.slot) else {
            return;
        };
        slot.state
            .change(token.word, token.word.with(State::Free, self.no));
        region.remember_free(token.slot);
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

    /// Stops waiting for a request: its reply will be freed unread. False: it is not waited for.
    pub fn forget(&mut self, id: RequestId) -> bool {
        let sent = self
            .regions
            .get_mut(usize::from(id.region))
            .and_then(|region| region.sent.get_mut(id.slot.0 as usize));
        let Some(sent) = sent.filter(|sent| **sent == id.generation + 1) else {
            return false;
        };
        *sent = 0;
        true
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

    /// Shows how many operations the driver behind this seat has: for reports.
    pub fn show_busy(&self, count: usize) {
        self.members(|m| m.show_busy(count as u64));
    }
}
