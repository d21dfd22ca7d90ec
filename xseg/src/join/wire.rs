//! The messages of joining, byte by byte: fixed sizes, little-endian, one datagram each.
//!
//! Descriptors travel beside them in this order: for an answer public, private, peers' locks,
//! clients' locks, own lock, bells (each only if its bit of [`has`] is set); for a return
//! public, private, peers' locks, clients' locks, bells.

use crate::layout::{Layout, RegionSpec, SEATS};
use crate::word::SeatNo;

/// First eight bytes of every message.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ARCHJOIN");
/// Raised with every change of the messages.
pub const VERSION: u32 = 1;
/// Longest name of a joiner, bytes.
pub const NAME_LEN: usize = 32;
/// Most descriptors of one message (SCM_MAX_FD is 253).
pub const DESCRIPTORS_MAX: usize = SEATS as usize + 5;
const _: () = assert!(DESCRIPTORS_MAX <= 253);

/// Which descriptors an answer brings.
pub mod has {
    /// The public region.
    pub const PUBLIC: u32 = 1;
    /// The private region.
    pub const PRIVATE: u32 = 2;
    /// Both lock files.
    pub const LOCKS: u32 = 4;
    /// The seat's own locked description.
    pub const OWN: u32 = 8;
    /// The bells of all seats.
    pub const BELLS: u32 = 16;
}

/// A set of seats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SeatSet([u64; 4]);
const _: () = assert!(SEATS as usize <= 256);

impl SeatSet {
    /// Puts `seat` in; one out of range is ignored.
    pub fn insert(&mut self, seat: SeatNo) {
        if let Some(word) = self.0.get_mut(usize::from(seat.0 / 64)) {
            *word |= 1 << (seat.0 % 64);
        }
    }

    /// Whether `seat` is in.
    pub fn contains(&self, seat: SeatNo) -> bool {
        self.0
            .get(usize::from(seat.0 / 64))
            .is_some_and(|word| word >> (seat.0 % 64) & 1 == 1)
    }

    /// The seats in it, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = SeatNo> + '_ {
        (0..SEATS as u16).map(SeatNo).filter(|&s| self.contains(s))
    }
}

impl FromIterator<SeatNo> for SeatSet {
    fn from_iter<I: IntoIterator<Item = SeatNo>>(seats: I) -> Self {
        let mut set = SeatSet::default();
        seats.into_iter().for_each(|s| set.insert(s));
        set
    }
}

/// What a joiner wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Wish {
    /// A client's seat.
    Client = 1,
    /// The seat of a role.
    Peer = 2,
    /// No seat, a look at the regions.
    Observe = 3,
    /// To go on with the seats that it has, under a new holder.
    Return = 4,
    /// No seat; the holder is to mend the regions (`xseg verify-fix`, `recoverlocks`).
    Repair = 5,
    /// No seat; the holder is to look after the requests at the port `first` (`recoverport`).
    RecoverPort = 6,
}

/// What a joiner says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// What it wants.
    pub wish: Wish,
    /// [`Layout::hash`] of its build.
    pub layout_hash: u64,
    /// Its process, for display.
    pub pid: u32,
    /// It has the regions and bells already (a further role on the same connection).
    pub more: bool,
    /// First port of a peer; RecoverPort: the port.
    pub first: u32,
    /// Last port of a peer; RecoverPort: not 0 fails what waits for a dead peer, too.
    pub last: u32,
    /// Return: the generation of its regions.
    pub generation: u64,
    /// Its role, or what a client calls itself.
    pub name: [u8; NAME_LEN],
    /// Return: the seats that it sits at.
    pub seats: SeatSet,
}

/// Bytes that are no message of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadMessage {
    /// Not from Archipelago at all.
    #[error("this is no Archipelago joining message")]
    Foreign,
    /// From another version.
    #[error(
        "another version of Archipelago speaks here (protocol {0}, ours is {VERSION}); stop the \
         node and start it again"
    )]
    Version(u32),
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], BadMessage> {
        let (head, rest) = self.0.split_first_chunk().ok_or(BadMessage::Foreign)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, BadMessage> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadMessage> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn seats(&mut self) -> Result<SeatSet, BadMessage> {
        Ok(SeatSet([
            self.u64()?,
            self.u64()?,
            self.u64()?,
            self.u64()?,
        ]))
    }

    /// `None` for the zeros of a refusal; absurd numbers are left to the layout to refuse.
    fn region(&mut self) -> Result<Option<RegionSpec>, BadMessage> {
        let mut number = || self.u64().map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let (ports, dynports, slots, marks) = (number()?, number()?, number()?, number()?);
        let heap = self.u64()?;
        Ok((ports != 0).then_some(RegionSpec {
            ports,
            dynports,
            slots,
            marks,
            heap,
        }))
    }

    fn start(&mut self) -> Result<(), BadMessage> {
        if self.u64()? != MAGIC {
            return Err(BadMessage::Foreign);
        }
        match self.u32()? {
            VERSION => Ok(()),
            other => Err(BadMessage::Version(other)),
        }
    }
}

fn region_numbers(spec: RegionSpec) -> [u64; 5] {
    [
        spec.ports.into(),
        spec.dynports.into(),
        spec.slots.into(),
        spec.marks.into(),
        spec.heap,
    ]
}

fn start() -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.extend(VERSION.to_le_bytes());
    out
}

impl Hello {
    /// A hello of this process; `name` is cut to [`NAME_LEN`] bytes.
    pub fn new(wish: Wish, name: &str) -> Hello {
        let mut field = [0; NAME_LEN];
        let len = name.len().min(NAME_LEN);
        field[..len].copy_from_slice(&name.as_bytes()[..len]);
        Hello {
            wish,
            layout_hash: Layout::hash(),
            pid: std::process::id(),
            more: false,
            first: 0,
            last: 0,
            generation: 0,
            name: field,
            seats: SeatSet::default(),
        }
    }

    /// Lays the message out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = start();
        out.extend((self.wish as u32).to_le_bytes());
        out.extend(self.layout_hash.to_le_bytes());
        for number in [self.pid, u32::from(self.more), self.first, self.last] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.generation.to_le_bytes());
        out.extend(self.name);
        self.seats
            .0
            .iter()
            .for_each(|word| out.extend(word.to_le_bytes()));
        out
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Hello, BadMessage> {
        let mut c = Cursor(bytes);
        c.start()?;
        let wish = match c.u32()? {
            1 => Wish::Client,
            2 => Wish::Peer,
            3 => Wish::Observe,
            4 => Wish::Return,
            5 => Wish::Repair,
            6 => Wish::RecoverPort,
            _ => return Err(BadMessage::Foreign),
        };
        Ok(Hello {
            wish,
            layout_hash: c.u64()?,
            pid: c.u32()?,
            more: c.u32()? != 0,
            first: c.u32()?,
            last: c.u32()?,
            generation: c.u64()?,
            name: c.bytes()?,
            seats: c.seats()?,
        })
    }

    /// The name without its padding, escaped.
    pub fn display_name(&self) -> String {
        let end = self.name.iter().position(|&b| b == 0);
        self.name[..end.unwrap_or(NAME_LEN)]
            .escape_ascii()
            .to_string()
    }
}

/// What the holder says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// 0, or why not.
    pub errno: u32,
    /// The seat given.
    pub seat: u16,
    /// [`has`]: what descriptors come with it.
    pub has: u32,
    /// The generation of the regions.
    pub generation: u64,
    /// The numbers of the public region; the private one's follow from them.
    pub region: Option<RegionSpec>,
    /// Who is alive.
    pub alive: SeatSet,
    /// Why not, or what was done: a sentence.
    pub text: String,
}

/// Longest answer, bytes; a sentence is cut to fit.
pub const ANSWER_MAX: usize = 512;
const TEXT_MAX: usize = ANSWER_MAX - 112;

impl Answer {
    /// A refusal.
    pub fn refused(errno: i32, text: impl Into<String>) -> Answer {
        Answer {
            errno: errno.unsigned_abs(),
            text: text.into(),
            ..Answer::default()
        }
    }

    /// Lays the message out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = start();
        for number in [self.errno, u32::from(self.seat), self.has] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.generation.to_le_bytes());
        let zeros = [0; 5];
        for number in self.region.map_or(zeros, region_numbers) {
            out.extend(number.to_le_bytes());
        }
        self.alive
            .0
            .iter()
            .for_each(|word| out.extend(word.to_le_bytes()));
        let text = self.text.as_bytes();
        out.extend(&text[..text.len().min(TEXT_MAX)]);
        out
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Answer, BadMessage> {
        let mut c = Cursor(bytes);
        c.start()?;
        Ok(Answer {
            errno: c.u32()?,
            seat: c.u32()? as u16,
            has: c.u32()?,
            generation: c.u64()?,
            region: c.region()?,
            alive: c.seats()?,
            text: String::from_utf8_lossy(c.0).into_owned(),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hello_is_read_as_it_was_written() {
        let hello = Hello {
            more: true,
            first: 3,
            last: 9,
            generation: 77,
            seats: [SeatNo(0), SeatNo(239)].into_iter().collect(),
            ..Hello::new(Wish::Return, "a-name-that-is-longer-than-32-bytes")
        };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }

    #[test]
    fn an_answer_is_read_as_it_was_written_and_fits() {
        let answer = Answer {
            seat: 17,
            has: has::PUBLIC | has::OWN,
            generation: 5,
            region: Some(RegionSpec::public(16, 8, 64)),
            alive: [SeatNo(3)].into_iter().collect(),
            ..Answer::refused(libc::EBUSY, "no")
        };
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        let long = Answer::refused(libc::EBUSY, "x".repeat(5000)).encode();
        assert!(long.len() <= ANSWER_MAX);
    }

    #[test]
    fn another_protocol_version_is_told_apart_from_nonsense() {
        let mut bytes = Hello::new(Wish::Client, "c").encode();
        bytes[8] = 9;
        assert_eq!(Hello::decode(&bytes), Err(BadMessage::Version(9)));
        assert_eq!(
            Hello::decode(b"GET / HTTP/1.0\r\n"),
            Err(BadMessage::Foreign)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Hello::decode(&bytes);
            let _ = Answer::decode(&bytes);
            let mut ours = start();
            ours.extend(bytes);
            let _ = Hello::decode(&ours);
            let _ = Answer::decode(&ours);
        }
    }
}
