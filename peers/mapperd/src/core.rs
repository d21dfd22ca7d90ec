//! What all operations share: configuration, the way to the blockers, the volumes, the leases.

use crate::volume::Table;
use crate::wait::{LISTENERS, Waits};
use reactor::sync::Semaphore;
use reactor::{Env, Executor, Timers};
use runtime::{Desk, LeaseTerm};
use std::cell::Cell;
use std::rc::Rc;
use xseg::protocol::PortNo;

/// How mapperd is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The port of the blocker that keeps maps and locks.
    pub blockerm_port: PortNo,
    /// The port of the blocker that keeps data objects.
    pub blockerb_port: PortNo,
    /// The version in which maps are written; there is only 2.
    pub map_version: u32,
    /// Requests that are worked on at once; further ones wait.
    pub nr_ops: usize,
    /// How long a lease is good for; half of it without a look at the lock, and there is no new one.
    pub lease_term: LeaseTerm,
}

/// How HASH combines the hashes of blocks.
pub(crate) type Merkle = fn(&[u8]) -> [u8; 32];

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// What STATUS of the peer itself tells.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) requests: Cell<u64>,
    pub(crate) failures: Cell<u64>,
    pub(crate) copies: Cell<u64>,
    pub(crate) fresh: Cell<u64>,
    pub(crate) missing_objects: Cell<u64>,
    pub(crate) locks_lost: Cell<u64>,
    pub(crate) leases: Cell<u64>,
}

/// One more.
pub(crate) fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) merkle: Cell<Merkle>,
    pub(crate) desk: Desk,
    pub(crate) executor: Executor,
    pub(crate) timers: Timers,
    pub(crate) env: Env,
    pub(crate) table: Rc<Table>,
    pub(crate) permits: Rc<Semaphore>,
    pub(crate) counters: Counters,
    /// Requests unanswered, without those that only wait for another node's lock.
    pub(crate) under_way: Cell<usize>,
    /// Requests that wait for another node's lock.
    pub(crate) waiting: Cell<usize>,
    pub(crate) waits: Waits,
    /// For how many more locks blockerm may be asked when they are free.
    pub(crate) listeners: Rc<Semaphore>,
    pub(crate) stopping: Cell<bool>,
    last_stamp: Cell<u64>,
}

impl Core {
    pub(crate) fn new(
        config: Config,
        desk: Desk,
        executor: Executor,
        timers: Timers,
        env: Env,
    ) -> Rc<Core> {
        Rc::new(Core {
            config,
            merkle: Cell::new(sha256),
            desk,
            executor,
            timers,
            env,
            table: Rc::default(),
            permits: Semaphore::new(config.nr_ops.max(1)),
            counters: Counters::default(),
            under_way: Cell::new(0),
            waiting: Cell::new(0),
            waits: Waits::default(),
            listeners: Semaphore::new(LISTENERS),
            stopping: Cell::new(false),
            last_stamp: Cell::new(0),
        })
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.env.clock.now_ns()
    }

    /// A moment later than every one given before: a lease, or a fence that ends older leases.
    pub(crate) fn stamp(&self) -> u64 {
        let stamp = self.now_ns().max(self.last_stamp.get() + 1);
        self.last_stamp.set(stamp);
        stamp
    }
}
