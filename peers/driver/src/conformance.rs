//! The suite that every driver has to pass: one table of stories, told to a fresh storage each.
//!
//! A driver's test calls [`run`] with a function that makes an empty storage (a [`World`]). Nothing
//! here knows files or RADOS; where drivers may differ, [`Capabilities`](crate::Capabilities) says
//! how.

mod locks;
mod objects;
mod syncs;

use crate::{Buf, Detail, Done, Driver, Errno, HashAlgorithm, Name, Op, OpId, Reply, Tag};

/// A driver, and what makes it go on while it is polled.
pub struct Rig {
    /// The driver.
    pub driver: Box<dyn Driver>,
    /// Called between polls; waits until something happened, if there is something to wait for.
    pub pump: Box<dyn FnMut()>,
}

/// A storage, empty at first, that drivers are opened on.
pub trait World {
    /// Another driver over the same storage, with the lock owner `owner`.
    fn open(&self, owner: &str) -> Rig;
}

/// Runs every story; panics with what went wrong.
pub fn run<W: World>(fresh: impl Fn() -> W) {
    for story in objects::STORIES {
        story(&mut Subject::new(fresh().open("node_1")));
    }
    for story in syncs::STORIES {
        story(&mut Subject::new(fresh().open("node_1")));
    }
    for story in locks::STORIES {
        story(&fresh());
    }
}

type Answer = Result<Reply, Errno>;

/// A driver with verbs for the stories.
struct Subject {
    rig: Rig,
    ids: u64,
}

impl Subject {
    fn new(rig: Rig) -> Subject {
        Subject { rig, ids: 0 }
    }

    /// Submits everything at once and returns the answers in the order of the questions.
    fn ask_all(&mut self, ops: Vec<Op>) -> Vec<Done> {
        let first = self.ids;
        let count = ops.len();
        for op in ops {
            self.rig.driver.submit(OpId(self.ids), op);
            self.ids += 1;
        }
        let mut done = Vec::new();
        while done.len() < count {
            self.rig.driver.poll(&mut done);
            if done.len() < count {
                (self.rig.pump)();
            }
        }
        assert_eq!(self.rig.driver.in_flight(), 0);
        done.sort_by_key(|done| done.id);
        let expected: Vec<_> = (first..first + count as u64).map(OpId).collect();
        let answered: Vec<_> = done.iter().map(|done| done.id).collect();
        assert_eq!(answered, expected, "each operation is answered once");
        done
    }

    fn ask(&mut self, op: Op) -> Answer {
        self.ask_all(vec![op]).remove(0).result
    }

    fn write(&mut self, name: &Name, offset: u64, bytes: &[u8]) -> Result<u64, Errno> {
        self.ask(write(name, offset, bytes, Tag::NONE))
            .map(|reply| reply.serviced)
    }

    fn read(&mut self, name: &Name, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let buf = Buf::from_bytes(&vec![0xee; len]);
        let op = Op::Read {
            name: *name,
            offset,
            buf,
        };
        let done = self.ask_all(vec![op]).remove(0);
        let buf = done.buf.expect("a read hands its memory back");
        assert_eq!(buf.len(), len);
        done.result.map(|reply| {
            assert_eq!(reply.serviced, len as u64, "a read serves its whole length");
            buf.to_vec()
        })
    }

    fn size(&mut self, name: &Name) -> Result<u64, Errno> {
        let reply = self.ask(Op::Info { name: *name })?;
        match reply.detail {
            Detail::Size(size) => Ok(size),
            other => panic!("INFO answered {other:?}"),
        }
    }

    /// `len` as this driver stores it.
    fn rounded(&self, len: u64) -> u64 {
        len.next_multiple_of(self.rig.driver.capabilities().size_multiple)
    }

    fn hash(&mut self, name: &Name, size: u64) -> Result<Name, Errno> {
        let algorithm = HashAlgorithm::Sha256;
        let op = Op::Hash {
            name: *name,
            offset: 0,
            size,
            algorithm,
        };
        match self.ask(op)?.detail {
            Detail::Hash(digest) => Ok(digest.to_name()),
            other => panic!("HASH answered {other:?}"),
        }
    }
}

fn name(text: &str) -> Name {
    Name::try_from(text).expect("the suite's names are names")
}

fn write(name: &Name, offset: u64, bytes: &[u8], tag: Tag) -> Op {
    let (name, buf) = (*name, Buf::from_bytes(bytes));
    Op::Write {
        name,
        offset,
        buf,
        tag,
        fresh: false,
        durable: false,
    }
}

/// `len` bytes that differ from their neighbours, and between seeds.
fn pattern(seed: u8, len: usize) -> Vec<u8> {
    let byte = |at: usize| {
        (at as u8)
            .wrapping_mul(31)
            .wrapping_add((at >> 8) as u8 ^ seed)
            | 1
    };
    (0..len).map(byte).collect()
}
