//! Everything of one thread, turned together.
//!
//! The order of a turn: completions first, because tasks wait for them; then timers; then tasks.

use crate::{Env, Executor, Offload, Ring, Timers};
use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// Threads for system calls that io_uring does not have.
const OFFLOAD_THREADS: usize = 4;

/// The ring, the tasks, the timers and the worker threads of one thread.
pub struct Reactor {
    /// Submissions and completions.
    pub ring: Ring,
    /// Tasks.
    pub executor: Executor,
    /// Tasks that wait for a time.
    pub timers: Timers,
    /// System calls that io_uring does not have.
    pub offload: Offload,
    /// Time and randomness.
    pub env: Env,
}

impl Reactor {
    /// A reactor of the real world, with room for `entries` submissions at once.
    pub fn new(entries: u32) -> io::Result<Reactor> {
        let (ring, executor) = (Ring::new(entries)?, Executor::new());
        let offload = Offload::new(OFFLOAD_THREADS, &ring, &executor)?;
        let (timers, env) = (Timers::new(), Env::real());
        Ok(Reactor {
            ring,
            executor,
            timers,
            offload,
            env,
        })
    }

    /// Does what can be done without waiting; true when there was something.
    pub fn turn(&self) -> io::Result<bool> {
        let completed = self.ring.submit_and_reap()?;
        let fired = self.fire_timers();
        let ran = self.executor.run_ready();
        Ok(completed || fired || ran)
    }

    /// Waits for a completion or a timer, at most `max_ns`. Returns at once when a task is ready.
    ///
    /// A timeout is not free: arming a timer leaves the virtual machine on many hosts, which
    /// halved the operations per second at depth 1. Wait without one where something will come.
    pub fn park(&self, max_ns: Option<u64>) -> io::Result<()> {
        if self.executor.has_ready() {
            return Ok(());
        }
        let next = self.timers.next_deadline_ns();
        let sleep = next.map(|ns| ns.saturating_sub(self.env.clock.now_ns()));
        let timeout = match (sleep, max_ns) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.ring.wait(timeout)
    }

    /// Does what there is to do; if there is nothing, submits and waits in one system call, at most
    /// `max_ns`. The cheapest turn for a loop that has nothing better to do than wait.
    pub fn turn_or_wait(&self, max_ns: Option<u64>) -> io::Result<()> {
        let fired = self.fire_timers();
        if self.executor.run_ready() || fired {
            return self.ring.submit_and_reap().map(drop);
        }
        self.park(max_ns)
    }

    fn fire_timers(&self) -> bool {
        self.timers.next_deadline_ns().is_some() && self.timers.fire(self.env.clock.now_ns())
    }

    /// Turns until `future` has ended: for tools and tests.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> io::Result<T> {
        let answer = Rc::new(Cell::new(None));
        let theirs = answer.clone();
        self.executor
            .spawn(async move { theirs.set(Some(future.await)) });
        loop {
            if let Some(value) = answer.take() {
                return Ok(value);
            }
            self.turn_or_wait(None)?;
        }
    }
}

impl Drop for Reactor {
    /// Tasks hold handles to the ring and to each other; dropping them ends that circle.
    fn drop(&mut self) {
        self.executor.clear();
    }
}
