//! Storage that answers a request with less than it asked for, and calls that a success (B5), or
//! that does not hear when a lock is given back.

use crate::rig::*;
use driver::{Capabilities, Done, Driver, MemoryDriver, Name, Op, OpId};
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use xseg::protocol::{Operation, mapflags};

/// What is served by half.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Half {
    #[default]
    Nothing,
    Reads,
    Writes,
}

/// A driver that breaks its promise to serve all of a read or write.
pub(crate) struct Short {
    pub(crate) inner: MemoryDriver,
    pub(crate) half: Rc<Cell<Half>>,
    pub(crate) deaf: bool,
    cut: HashSet<OpId>,
}

impl Short {
    pub(crate) fn new(inner: MemoryDriver, half: Rc<Cell<Half>>, deaf: bool) -> Short {
        Short {
            inner,
            half,
            deaf,
            cut: HashSet::new(),
        }
    }
}

impl Driver for Short {
    fn submit(&mut self, id: OpId, op: Op) {
        let cut = match op {
            Op::Read { .. } => self.half.get() == Half::Reads,
            Op::Write { .. } => self.half.get() == Half::Writes,
            _ => false,
        };
        if cut {
            self.cut.insert(id);
        }
        self.inner.submit(id, op);
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        self.inner.poll(done);
        for done in &mut done[before..] {
            if self.cut.remove(&done.id)
                && let Ok(reply) = &mut done.result
            {
                reply.serviced /= 2;
            }
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hears: !self.deaf,
            ..self.inner.capabilities()
        }
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn lock_is_held(&mut self, volume: &Name) -> bool {
        self.inner.lock_is_held(volume)
    }

    fn await_lock(&mut self, volume: &Name) {
        if !self.deaf {
            self.inner.await_lock(volume);
        }
    }

    fn freed_locks(&mut self, volumes: &mut Vec<Name>) {
        self.inner.freed_locks(volumes);
    }
}

/// The original's mapper looked at no answer's size: a map of which half was written counted as
/// written, and one of which half was read was taken as it came.
#[test]
fn b05_what_is_served_by_half_has_failed() {
    let mut rig = Rig::new();
    rig.create("volume", 2 * BLOCK).unwrap();
    rig.simple(Operation::Open, "volume").unwrap();
    rig.create("another", BLOCK).unwrap();
    rig.weather.half.set(Half::Writes);
    assert_eq!(rig.create("newname", BLOCK), Err(libc::EIO));
    assert_eq!(rig.snapshot("volume", "snapshot"), Err(libc::EIO));
    let asked = rig.map(Operation::MapWrite, "volume", 0, 1);
    assert_eq!(asked.unwrap_err(), libc::EIO, "the entry is not written");
    rig.weather.half.set(Half::Nothing);
    assert_eq!(rig.info("newname"), Err(libc::ENOENT));
    assert_eq!(rig.info("snapshot"), Err(libc::ENOENT));
    let (_, segments) = rig.map(Operation::MapRead, "volume", BLOCK, 1).unwrap();
    assert_eq!(segments[0].flags & mapflags::ZERO, mapflags::ZERO);
    rig.weather.half.set(Half::Reads);
    assert_eq!(rig.info("another"), Err(libc::EIO));
    assert_eq!(rig.create("another", BLOCK), Err(libc::EIO));
    rig.weather.half.set(Half::Nothing);
    assert_eq!(rig.info("another"), Ok(BLOCK));
}
