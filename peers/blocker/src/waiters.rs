//! ACQUIREs that wait for a lock: a state of the peer, never a sleeping thread (B13).
//!
//! They are tried again when this blocker releases that lock, or its driver hears that another node
//! has; and once a second besides, because a node may die, and not every driver hears of others.

use std::collections::VecDeque;
use xseg::{Incoming, Request};

/// How often a waiting ACQUIRE looks again, ns.
pub(crate) const RETRY_NS: u64 = 1_000_000_000;

/// The ACQUIREs that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queue: VecDeque<(u64, Incoming, Request)>,
}

impl Waiters {
    /// Lets one wait until `at`, ns.
    pub(crate) fn push(&mut self, at: u64, incoming: Incoming, request: Request) {
        self.queue.push_back((at, incoming, request));
    }

    /// The lock of `target` was released: its waiters are due now.
    pub(crate) fn released(&mut self, target: &[u8]) {
        for (at, _, request) in &mut self.queue {
            if request.target.as_bytes() == target {
                *at = 0;
            }
        }
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
