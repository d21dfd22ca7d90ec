//! Those who wait for a lock: a state of the peer, never a sleeping thread (B13).
//!
//! An ACQUIRE that waits is tried again when this blocker releases that lock, or its driver hears
//! that another node has; and once a second besides, because a node may die, and not every driver
//! hears of others. AWAITLOCK takes nothing: it looks who holds the lock, at the same moments, and
//! more often where the driver hears nothing; so its sender may die at any time and leaves no lock
//! that is nobody's. Neither has a place in the table of operations while it waits.

use crate::parse;
use crate::peer::Blocker;
use driver::Detail;
use std::collections::VecDeque;
use xseg::{Answer, Incoming, Request};

/// How often a waiting ACQUIRE looks again, ns.
pub(crate) const RETRY_NS: u64 = 1_000_000_000;
/// How often AWAITLOCK looks at a lock whose end the driver does not hear of, ns.
const LOOK_NS: u64 = 100_000_000;

/// Those who wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queue: VecDeque<(u64, Incoming, Request)>,
}

impl Waiters {
    /// Lets one wait until `at`, ns.
    pub(crate) fn push(&mut self, at: u64, incoming: Incoming, request: Request) {
        self.queue.push_back((at, incoming, request));
    }

    /// The lock of `target` was released: its waiters are due now; how many there are.
    pub(crate) fn released(&mut self, target: &[u8]) -> u64 {
        let mut count = 0;
        for (at, _, request) in &mut self.queue {
            if request.target.as_bytes() == target {
                *at = 0;
                count += 1;
            }
        }
        count
    }

    /// Takes the next one that is due.
    pub(crate) fn due(&mut self, now: u64) -> Option<(Incoming, Request)> {
        let at = self.queue.iter().position(|(at, _, _)| *at <= now)?;
        self.queue
            .remove(at)
            .map(|(_, incoming, request)| (incoming, request))
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.queue.iter().map(|(at, _, _)| *at).min()
    }

    /// Takes them all: the peer stops.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Incoming> + '_ {
        self.queue.drain(..).map(|(_, incoming, _)| incoming)
    }
}

impl Blocker {
    /// Who holds the lock that AWAITLOCK is about is known now.
    pub(crate) fn finish_look(
        &mut self,
        incoming: Incoming,
        request: Request,
        reply: &driver::Reply,
    ) {
        let (now, until) = (self.env.clock.now_ns(), request.offset);
        if !is_anothers(reply) || now >= until || self.stopping {
            self.counters.served += 1;
            return self.desk.answer(incoming, Answer::served(0));
        }
        let look = match self.driver.capabilities().hears {
            true => until,
            false => until.min(now + LOOK_NS),
        };
        self.let_wait(look, incoming, request);
    }

    /// Lets a request wait for its lock, until `at` at the latest.
    pub(crate) fn let_wait(&mut self, at: u64, incoming: Incoming, request: Request) {
        if let Ok(volume) = parse::name(&request.target) {
            self.driver.await_lock(&volume);
        }
        self.waiters.push(at, incoming, request);
        self.set_alarm();
    }

    /// Wakes the reactor when the next one that waits is due.
    fn set_alarm(&mut self) {
        let Some(at) = self.waiters.next() else {
            return;
        };
        if self.alarm.is_some_and(|alarm| alarm <= at) {
            return;
        }
        self.alarm = Some(at);
        let sleep = self.timers.sleep_until(at);
        self.executor.spawn(sleep);
    }

    pub(crate) fn retry_waiters(&mut self) -> bool {
        if self.waiters.next().is_some() {
            let mut freed = Vec::new();
            self.driver.freed_locks(&mut freed);
            for volume in freed {
                self.counters.waits_heard += self.waiters.released(&volume);
            }
        }
        let now = self.env.clock.now_ns();
        if self.waiters.next().is_none_or(|at| at > now) {
            return false;
        }
        self.alarm = None;
        while let Some((incoming, request)) = self.waiters.due(now) {
            self.start_request(incoming, &request);
        }
        self.set_alarm();
        true
    }
}

/// Whether LOCKINFO found that somebody else holds the lock.
fn is_anothers(reply: &driver::Reply) -> bool {
    let Detail::Lock(lock) = &reply.detail else {
        return false;
    };
    lock.holder.as_ref().is_some_and(|holder| !holder.ours)
}
