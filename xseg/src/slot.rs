//! The request record: what a slot says about its request, field by field.
//!
//! What always holds:
//! - Every field is an atomic, read and written relaxed: the state word's release and acquire
//!   order them. So a client that scribbles while a peer reads makes a wrong value, not undefined
//!   behaviour.
//! - A server reads the record once, into a private [`Request`], and never looks again.
//! - Names and types of the fields are those of the original (spec/protocol.md section 1), the
//!   offsets are ours: a request is in the first two cache lines (and its target), its answer in
//!   the first alone, so that one line travels back. The original's state bits (served, failed)
//!   are the errno here.

use crate::name::{Name, TARGET_LEN_MAX};
use crate::protocol::{self, NO_PORT, PortNo};
use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::word::StateCell;

const TARGET_WORDS: usize = TARGET_LEN_MAX / 8;

/// One request slot, 512 bytes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// Who holds the slot, and what it is.
    pub state: StateCell,
    /// The next slot in the inbox it was pushed to (index + 1, 0 ends the chain).
    pub next: AtomicU32,
    targetlen: AtomicU32,
    op: AtomicU32,
    flags: AtomicU32,
    errno: AtomicU32,
    tag: AtomicU32,
    offset: AtomicU64,
    size: AtomicU64,
    serviced: AtomicU64,
    lease: AtomicU64,

    v0_size: AtomicU64,
    data: AtomicU64,
    datalen: AtomicU64,
    root: AtomicU64,
    attempt: AtomicU32,
    padding: AtomicU32,
    src: AtomicU32,
    dst: AtomicU32,
    transit: AtomicU32,
    block_size: AtomicU32,
    volume_size: AtomicU64,

    serial: AtomicU64,
    task: AtomicU64,
    spare: [AtomicU64; 14],

    target: [AtomicU64; TARGET_WORDS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 512);

/// Changes whenever the fields above move.
#[cfg(not(loom))]
pub(crate) const FIELDS_HASH: u64 = (std::mem::offset_of!(Slot, target) as u64) << 48
    | (std::mem::offset_of!(Slot, lease) as u64) << 32
    | (std::mem::offset_of!(Slot, data) as u64) << 16
    | std::mem::offset_of!(Slot, serial) as u64;
#[cfg(loom)]
pub(crate) const FIELDS_HASH: u64 = 0;

/// Where data lies: (region, offset), never a pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Address {
    /// 0 is the public region, 1 the peers' own.
    pub region: u8,
    /// Bytes from the start of the region.
    pub offset: u64,
}

const OFFSET_BITS: u32 = 56;

impl Address {
    fn encode(self) -> u64 {
        u64::from(self.region) << OFFSET_BITS | self.offset & ((1 << OFFSET_BITS) - 1)
    }

    fn decode(bits: u64) -> Address {
        Address {
            region: (bits >> OFFSET_BITS) as u8,
            offset: bits & ((1 << OFFSET_BITS) - 1),
        }
    }
}

/// A private copy of a request. Nothing in it is believed: numbers, lengths and addresses are
/// as the sender wrote them.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// An [`protocol::Operation`] number, or any other.
    pub op: u32,
    /// [`protocol::flags`].
    pub flags: u32,
    /// The volume or object.
    pub target: Name,
    /// Bytes from the start of the target (or operation specific).
    pub offset: u64,
    /// Bytes (or operation specific).
    pub size: u64,
    /// Size of a v0 map's volume, or [`protocol::V0_SIZE_UNKNOWN`].
    pub v0_size: u64,
    /// Where the data is.
    pub data: Address,
    /// Bytes of the data.
    pub datalen: u64,
    /// The port it comes from, for display.
    pub src: PortNo,
    /// The port it was sent to.
    pub dst: PortNo,
    /// The volume's tag (between peers), 0 for none.
    pub tag: u32,
    /// The lease generation under which it was sent (between peers).
    pub lease: u64,
    /// How many servers died over it.
    pub attempt: u32,
    /// The client's request that it is part of (between peers), for [`crate::Seat::mark`]: slot
    /// index + 1 in the low 32 bits, the slot's generation above; 0 for none.
    pub root: u64,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            op: 0,
            flags: 0,
            target: Name::EMPTY,
            offset: 0,
            size: 0,
            v0_size: protocol::V0_SIZE_UNKNOWN,
            data: Address::default(),
            datalen: 0,
            src: NO_PORT,
            dst: NO_PORT,
            tag: 0,
            lease: 0,
            attempt: 0,
            root: 0,
        }
    }
}

impl Request {
    /// A request for `op` on `target`, everything else unset.
    pub fn new(op: protocol::Operation, target: Name) -> Request {
        Request {
            op: op as u32,
            target,
            ..Request::default()
        }
    }

    /// The operation, if the number is one.
    pub fn operation(&self) -> Option<protocol::Operation> {
        protocol::Operation::from_number(self.op)
    }

    /// Whether every flag of `mask` is set.
    pub fn has(&self, mask: u32) -> bool {
        self.flags & mask == mask
    }
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Answer {
    /// 0, or why it failed (Linux errno).
    pub errno: u32,
    /// Bytes done (or operation specific); 0 on failure.
    pub serviced: u64,
    /// The volume's tag (between peers).
    pub tag: u32,
    /// The lease granted (between peers), 0 for none.
    pub lease: u64,
    /// MAPR, MAPW, between peers: bytes of the volume.
    pub volume_size: u64,
    /// MAPR, MAPW, between peers: bytes of its blocks.
    pub block_size: u32,
}

impl Answer {
    /// Success.
    pub fn served(serviced: u64) -> Answer {
        Answer {
            serviced,
            ..Answer::default()
        }
    }

    /// Failure. `errno` 0 is no reason; it becomes EIO.
    pub fn failed(errno: i32) -> Answer {
        let errno = if errno <= 0 { libc::EIO } else { errno };
        Answer {
            errno: errno as u32,
            ..Answer::default()
        }
    }

    /// Success, or the errno.
    pub fn result(&self) -> Result<u64, i32> {
        match self.errno {
            0 => Ok(self.serviced),
            errno => Err(i32::try_from(errno).unwrap_or(libc::EIO)),
        }
    }
}

impl Slot {
    /// An empty slot outside a segment, for models and tests.
    pub fn detached() -> Slot {
        Slot {
            state: StateCell::new(),
            next: AtomicU32::new(0),
            targetlen: AtomicU32::new(0),
            op: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            errno: AtomicU32::new(0),
            offset: AtomicU64::new(0),
            size: AtomicU64::new(0),
            serviced: AtomicU64::new(0),
            tag: AtomicU32::new(0),
            attempt: AtomicU32::new(0),
            padding: AtomicU32::new(0),
            v0_size: AtomicU64::new(0),
            data: AtomicU64::new(0),
            datalen: AtomicU64::new(0),
            lease: AtomicU64::new(0),
            root: AtomicU64::new(0),
            src: AtomicU32::new(0),
            dst: AtomicU32::new(0),
            transit: AtomicU32::new(0),
            block_size: AtomicU32::new(0),
            volume_size: AtomicU64::new(0),
            serial: AtomicU64::new(0),
            task: AtomicU64::new(0),
            spare: std::array::from_fn(|_| AtomicU64::new(0)),
            target: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Writes the record; only the slot's owner, before it submits.
    /// `src` and `dst` are the ports that it goes from and to, whatever the request says.
    pub(crate) fn write_request(&self, request: &Request, src: PortNo, dst: PortNo) {
        self.op.store(request.op, Relaxed);
        self.flags.store(request.flags, Relaxed);
        self.errno.store(0, Relaxed);
        self.offset.store(request.offset, Relaxed);
        self.size.store(request.size, Relaxed);
        self.serviced.store(0, Relaxed);
        self.tag.store(request.tag, Relaxed);
        self.attempt.store(request.attempt, Relaxed);
        self.v0_size.store(request.v0_size, Relaxed);
        self.write_data(request.data, request.datalen);
        self.lease.store(request.lease, Relaxed);
        self.root.store(request.root, Relaxed);
        self.src.store(src, Relaxed);
        self.dst.store(dst, Relaxed);
        self.write_target(&request.target);
    }

    fn write_target(&self, target: &Name) {
        self.targetlen.store(target.len() as u32, Relaxed);
        for (cell, chunk) in self.target.iter().zip(target.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            cell.store(u64::from_ne_bytes(bytes), Relaxed);
        }
    }

    /// Points the record at other data: the owner before submitting, or a server that enlarges
    /// the buffer for its reply.
    pub(crate) fn write_data(&self, data: Address, datalen: u64) {
        self.data.store(data.encode(), Relaxed);
        self.datalen.store(datalen, Relaxed);
    }

    /// The port that the request was sent to, for display and for `recoverport`.
    pub(crate) fn port(&self) -> PortNo {
        self.dst.load(Relaxed)
    }

    /// Where the data is now, and how long it is.
    pub(crate) fn read_data(&self) -> (Address, u64) {
        (
            Address::decode(self.data.load(Relaxed)),
            self.datalen.load(Relaxed),
        )
    }

    /// Copies the record into `request`: a record is large, and each move of it would cost as
    /// much as an answer. False when the target's length is out of range.
    pub(crate) fn read_request(&self, request: &mut Request) -> bool {
        request.op = self.op.load(Relaxed);
        request.flags = self.flags.load(Relaxed);
        request.offset = self.offset.load(Relaxed);
        request.size = self.size.load(Relaxed);
        request.v0_size = self.v0_size.load(Relaxed);
        (request.data, request.datalen) = self.read_data();
        request.src = self.src.load(Relaxed);
        request.dst = self.dst.load(Relaxed);
        request.tag = self.tag.load(Relaxed);
        request.lease = self.lease.load(Relaxed);
        request.attempt = self.attempt.load(Relaxed);
        request.root = self.root.load(Relaxed);
        let len = self.targetlen.load(Relaxed) as usize;
        let words = self.target.iter().map(|cell| cell.load(Relaxed));
        request.target.set_words(len, words)
    }

    /// Writes the answer; only the server that holds the slot, before it answers.
    pub(crate) fn write_answer(&self, answer: &Answer) {
        let served = if answer.errno == 0 {
            answer.serviced
        } else {
            0
        };
        self.errno.store(answer.errno, Relaxed);
        self.serviced.store(served, Relaxed);
        self.tag.store(answer.tag, Relaxed);
        self.lease.store(answer.lease, Relaxed);
        self.volume_size.store(answer.volume_size, Relaxed);
        self.block_size.store(answer.block_size, Relaxed);
    }

    /// Copies the answer.
    pub(crate) fn read_answer(&self) -> Answer {
        Answer {
            errno: self.errno.load(Relaxed),
            serviced: self.serviced.load(Relaxed),
            tag: self.tag.load(Relaxed),
            lease: self.lease.load(Relaxed),
            volume_size: self.volume_size.load(Relaxed),
            block_size: self.block_size.load(Relaxed),
        }
    }

    /// Writes every field of the record as somebody with a foreign mind would: what `words` says, in
    /// the order of the fields, and zeros after it.
    #[cfg(not(loom))]
    pub(crate) fn scribble(&self, mut words: impl Iterator<Item = u64>) {
        let mut word = || words.next().unwrap_or(0);
        for field in [
            &self.targetlen,
            &self.op,
            &self.flags,
            &self.errno,
            &self.tag,
            &self.attempt,
            &self.src,
            &self.dst,
            &self.block_size,
        ] {
            field.store(word() as u32, Relaxed);
        }
        for field in [
            &self.offset,
            &self.size,
            &self.serviced,
            &self.lease,
            &self.v0_size,
            &self.data,
            &self.datalen,
            &self.root,
            &self.volume_size,
        ]
        .into_iter()
        .chain(&self.target)
        {
            field.store(word(), Relaxed);
        }
    }

    /// One more server died over this request.
    pub(crate) fn count_attempt(&self) {
        self.attempt.fetch_add(1, Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let slot = Slot::detached();
        let target = Name::try_from("volume-one").unwrap();
        let request = Request {
            offset: 7,
            size: 8,
            data: Address {
                region: 1,
                offset: 4096,
            },
            datalen: 8,
            tag: 3,
            lease: 9,
            root: 4,
            ..Request::new(protocol::Operation::Write, target)
        };
        slot.write_request(&request, NO_PORT, NO_PORT);
        let mut read = Request::default();
        assert!(slot.read_request(&mut read));
        assert_eq!(format!("{read:?}"), format!("{request:?}"));
    }

    #[test]
    fn a_target_length_that_lies_is_refused() {
        let slot = Slot::detached();
        slot.targetlen.store(257, Relaxed);
        assert!(!slot.read_request(&mut Request::default()));
    }

    #[test]
    fn a_failed_answer_services_nothing() {
        let slot = Slot::detached();
        slot.write_answer(&Answer {
            errno: 5,
            serviced: 4096,
            ..Answer::default()
        });
        assert_eq!(slot.read_answer().result(), Err(5));
        assert_eq!(slot.read_answer().serviced, 0);
    }
}
