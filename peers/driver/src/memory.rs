//! The driver in memory: the model that the other drivers are measured against.
//!
//! ```text
//!   MemoryDriver --\                      one per process that the simulation plays
//!   MemoryDriver ----> MemoryStore        the disk that they share; survives them
//!   (dead) --late--/
//! ```
//!
//! What holds: an operation happens at one instant, in some `poll` between its submission and its
//! answer (with [`Faults`], in any order). A driver that dies leaves its unanswered operations
//! behind in the store, where they land at any later [`MemoryStore::step`], as the kernel lets
//! them, until [`MemoryStore::drain`] returns. [`MemoryStore::lose_power`] takes back what was not
//! made durable, sector by sector.

mod objects;
mod store;
#[cfg(test)]
mod tests;

use crate::{Capabilities, Done, Driver, Errno, Name, Op, OpId, Reply, Tag};
use std::collections::BTreeMap;
use std::rc::Rc;

pub use store::MemoryStore;
use store::Outcome;

/// Decides whether an operation fails, and how.
pub type Failure = dyn Fn(&Op) -> Option<Errno>;

/// How a [`MemoryDriver`] misbehaves, within what the contract allows.
#[derive(Clone)]
pub struct Faults {
    /// The next random number, from the simulation's seed.
    pub choose: Rc<dyn Fn() -> u64>,
    /// Of the operations in flight, at each poll each one waits with this chance, in 256ths. 0
    /// delays and reorders nothing.
    pub delay: u8,
    /// Which operations fail, and how. They change nothing.
    pub fail: Rc<Failure>,
}

/// A driver over a [`MemoryStore`].
pub struct MemoryDriver {
    store: MemoryStore,
    owner: Vec<u8>,
    instance: u64,
    faults: Option<Faults>,
    queue: Vec<(OpId, Op)>,
    failed_tags: BTreeMap<Tag, Errno>,
}

impl MemoryDriver {
    /// A driver of the lock owner `owner`, which does everything in order at the next poll.
    pub fn new(store: &MemoryStore, owner: &str) -> MemoryDriver {
        MemoryDriver {
            store: store.clone(),
            owner: owner.as_bytes().to_vec(),
            instance: store.register(),
            faults: None,
            queue: Vec::new(),
            failed_tags: BTreeMap::new(),
        }
    }

    /// The same with faults.
    pub fn with_faults(store: &MemoryStore, owner: &str, faults: Faults) -> MemoryDriver {
        let mut driver = MemoryDriver::new(store, owner);
        driver.faults = Some(faults);
        driver
    }

    /// Takes out of the queue what happens now.
    fn due(&mut self) -> Vec<(OpId, Op)> {
        let Some(faults) = self.faults.clone().filter(|faults| faults.delay > 0) else {
            return std::mem::take(&mut self.queue);
        };
        let mut due = Vec::new();
        let mut waiting = std::mem::take(&mut self.queue);
        while !waiting.is_empty() {
            let at = (faults.choose)() as usize % waiting.len();
            let picked = waiting.swap_remove(at);
            let waits = (faults.choose)() % 256 < u64::from(faults.delay);
            if waits { &mut self.queue } else { &mut due }.push(picked);
        }
        due
    }

    fn execute(&mut self, op: &Op) -> Outcome {
        if let Some(errno) = self.faults.as_ref().and_then(|faults| (faults.fail)(op)) {
            if let Op::Sync { tag } = op {
                self.failed_tags.insert(*tag, errno);
            }
            return Err(errno);
        }
        match op {
            Op::Sync { tag } => match self.failed_tags.get(tag) {
                Some(errno) => Err(*errno),
                None => Ok(self.store.sync(*tag)),
            },
            Op::Forget { tag } => {
                self.failed_tags.remove(tag);
                Ok(Reply::default())
            }
            Op::Acquire { name } => self.store.acquire(name, &self.owner, self.instance),
            Op::Release { name, force } => self.store.release(name, self.instance, *force),
            Op::LockInfo { name } => Ok(self.store.lock_info(name, &self.owner, self.instance)),
            _ => self.store.apply(op),
        }
    }
}

impl Driver for MemoryDriver {
    fn submit(&mut self, id: OpId, op: Op) {
        self.queue.push((id, op));
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        for (id, op) in self.due() {
            let result = self.execute(&op);
            let buf = match op {
                Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
                _ => None,
            };
            done.push(Done { id, result, buf });
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "memory",
            alignment: 1,
            size_multiple: 1,
            max_io: 64 << 20,
            write_through: false,
            fences: false,
            hears: true,
        }
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn lock_is_held(&mut self, volume: &Name) -> bool {
        self.store.is_held_by(volume, self.instance)
    }

    fn await_lock(&mut self, volume: &Name) {
        self.store.listen(volume, self.instance);
    }

    fn freed_locks(&mut self, volumes: &mut Vec<Name>) {
        self.store.take_heard(self.instance, volumes);
    }
}

impl Drop for MemoryDriver {
    /// The process dies: what it had in flight may still land.
    fn drop(&mut self) {
        self.store
            .bury(self.instance, self.queue.drain(..).map(|(_, op)| op));
    }
}
