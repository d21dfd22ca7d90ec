//! A request under way, and its stages.

use runtime::Scratch;
use std::ops::Range;
use xseg::protocol::{MapSegment, Operation};
use xseg::{Incoming, Request};

/// What a request is waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Mapperd's answer about the objects.
    Mapping,
    /// Its parts at the blocker.
    Parts,
    /// The data's sync.
    SyncData,
    /// The map's sync.
    SyncMap,
    /// Mapperd's answer to what was forwarded.
    Forwarded,
    /// The volume's other requests to end, before it runs alone.
    Draining,
}

/// A request under way, or room for one: it is large, and it stays where it is.
pub(crate) struct Op {
    /// The token to answer with; `None`: nothing is under way here.
    pub(crate) incoming: Option<Incoming>,
    pub(crate) request: Request,
    pub(crate) volume: usize,
    pub(crate) stage: Stage,
    /// Bytes of the volume that it touches.
    pub(crate) range: Range<u64>,
    /// Bytes of a block, by which its parts are cut; 0 before the first is sent.
    pub(crate) block_size: u64,
    /// The first byte that no part was sent for yet.
    pub(crate) next: u64,
    /// Parts sent and not answered.
    pub(crate) parts: u32,
    /// The first failure.
    pub(crate) errno: i32,
    /// A part was refused for its lease.
    pub(crate) stale: bool,
    /// The lease under which that was, until mapperd gives another; 0 for none.
    pub(crate) refused: u64,
    /// An object that should be there was not.
    pub(crate) missing: bool,
    /// The map was asked again for a missing object: now it reads as zeros.
    pub(crate) asked_again: bool,
    /// How often it began anew.
    pub(crate) rounds: u32,
    /// How often mapperd was asked since the last part was sent.
    pub(crate) asks: u32,
    /// It waits for a free slot or buffer.
    pub(crate) stalled: bool,
    /// Where the range begins that mapperd was asked about.
    pub(crate) asked: u64,
    /// It was asked for objects to write to.
    pub(crate) asks_to_write: bool,
    /// It waits for another node's lock, and counts among those that may.
    pub(crate) patient: bool,
    /// Mapperd's reply is put here.
    pub(crate) scratch: Option<Scratch>,
    /// What mapperd said without a lease: for this request only. (start of the first, block size)
    pub(crate) once: Option<Once>,
}

/// A mapping that may not be kept.
pub(crate) struct Once {
    pub(crate) first_block: u64,
    pub(crate) block_size: u64,
    pub(crate) size: u64,
    pub(crate) segments: Vec<MapSegment>,
}

impl Op {
    /// Room.
    pub(crate) fn idle() -> Op {
        Op {
            incoming: None,
            request: Request::default(),
            volume: 0,
            stage: Stage::Parts,
            block_size: 0,
            next: 0,
            range: 0..0,
            parts: 0,
            errno: 0,
            stale: false,
            refused: 0,
            missing: false,
            asked_again: false,
            rounds: 0,
            asks: 0,
            stalled: false,
            asked: 0,
            asks_to_write: false,
            patient: false,
            scratch: None,
            once: None,
        }
    }

    /// Begins to serve a request for the volume of that index.
    pub(crate) fn begin(&mut self, incoming: Incoming, request: &Request, volume: usize) {
        let range = request.offset..request.offset.saturating_add(request.size);
        self.incoming = Some(incoming);
        self.request = *request;
        self.volume = volume;
        self.stage = Stage::Parts;
        self.block_size = 0;
        self.next = range.start;
        self.range = range;
        self.parts = 0;
        self.errno = 0;
        self.stale = false;
        self.refused = 0;
        self.missing = false;
        self.asked_again = false;
        self.rounds = 0;
        self.asks = 0;
        self.stalled = false;
        self.asked = 0;
        self.asks_to_write = false;
        self.patient = false;
        self.scratch = None;
        self.once = None;
    }

    /// Whether a request is under way here.
    pub(crate) fn is_under_way(&self) -> bool {
        self.incoming.is_some()
    }

    /// The bytes of the volume that a part which was sent covers.
    pub(crate) fn part(&self, number: u32) -> Range<u64> {
        let block = self.range.start / self.block_size + u64::from(number);
        let start = block * self.block_size;
        start.max(self.range.start)..(start + self.block_size).min(self.range.end)
    }

    /// Whether a part was served less than all of: zeroes and trims move no bytes.
    pub(crate) fn is_short(&self, number: u32, served: u64) -> bool {
        let part = self.part(number);
        let carries = matches!(
            self.request.operation(),
            Some(Operation::Read | Operation::Write)
        );
        carries && served < part.end - part.start
    }

    /// Begins anew with a map that will be asked for again.
    pub(crate) fn restart(&mut self) {
        self.next = self.range.start;
        self.errno = 0;
        self.stale = false;
        self.missing = false;
        self.once = None;
        self.rounds += 1;
    }
}

/// What `Desk::send` calls a sub-request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    /// Index of the operation.
    pub(crate) op: u32,
    /// The part's number within the operation (block index less the first block's).
    pub(crate) part: u32,
    /// A missing object reads as zeros.
    pub(crate) archip: bool,
}

const ARCHIP_BIT: u64 = 1 << 63;

impl Token {
    /// The token of what is not a part.
    pub(crate) fn of(op: u32) -> Token {
        Token {
            op,
            part: 0,
            archip: false,
        }
    }

    pub(crate) fn encode(self) -> u64 {
        let archip = if self.archip { ARCHIP_BIT } else { 0 };
        u64::from(self.op) | u64::from(self.part) << 32 | archip
    }

    pub(crate) fn decode(bits: u64) -> Token {
        Token {
            op: bits as u32,
            part: ((bits & !ARCHIP_BIT) >> 32) as u32,
            archip: bits & ARCHIP_BIT != 0,
        }
    }
}
