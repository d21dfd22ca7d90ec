//! What happens when `rados_osd_op_timeout` is set, and an OSD does not answer in time.
//!
//! librados then ends the operation with ETIMEDOUT, but an OSD may have it, and it may land later.
//! A read may be answered so. A change may not be: nothing is answered while it may still land. So
//! this client cuts *itself* off, after it has noted in its file which change is to fail; its
//! process ends, and its successor answers that one with ETIMEDOUT and does the others again.
//!
//! A change that was not sent yet, because the locks do not name this client (`locks::members`), is
//! answered as late, and nobody is cut off for it.
//!
//! A user that may not blocklist cannot do that: its changes are sent again until they are
//! answered, as without a timeout.

use crate::core::{Answer, Core};
use crate::driver::buf_of;
use crate::notes::GRACE_NS;
use driver::{Done, Errno, Name, Op, OpId};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// How often a group that does not answer is asked again, in nanoseconds.
const AGAIN_NS: u64 = 100_000_000;

/// A change, by what it changes; `None` for what changes nothing.
pub(crate) fn key(op: &Op) -> Option<String> {
    Some(match op {
        Op::Write {
            name, offset, buf, ..
        } => format!("write {name} {offset} {}", buf.len()),
        Op::Zeroes {
            name, offset, len, ..
        } => format!("zeroes {name} {offset} {len}"),
        Op::Truncate { name, size, .. } => format!("truncate {name} {size}"),
        Op::Copy { src, dst, max, .. } => format!("copy {src} {dst} {max}"),
        Op::Delete { name, .. } => format!("delete {name}"),
        Op::Hash {
            name, offset, size, ..
        } => format!("hash {name} {offset} {size}"),
        Op::Acquire { name } => format!("acquire {name}"),
        Op::Release { name, force } => format!("release {name} {force}"),
        Op::Read { .. }
        | Op::Info { .. }
        | Op::List { .. }
        | Op::Migrate { .. }
        | Op::LockInfo { .. }
        | Op::Sync { .. }
        | Op::Forget { .. } => return None,
    })
}

/// What a change changes.
fn object_of(op: &Op) -> Option<Name> {
    match op {
        Op::Write { name, .. }
        | Op::Zeroes { name, .. }
        | Op::Truncate { name, .. }
        | Op::Copy { dst: name, .. }
        | Op::Delete { name, .. }
        | Op::Hash { name, .. } => Some(*name),
        Op::Acquire { name } | Op::Release { name, .. } => name.with_suffix("_lock").ok(),
        _ => None,
    }
}

impl Core {
    /// Since when the predecessor is cut off that has noted `op` as one that is to fail.
    pub(crate) fn failed_before(&self, id: OpId, op: &Op) -> Option<u64> {
        let registry = &self.locks.registry;
        if !registry.has_failures() {
            return None;
        }
        let now = self.env.clock.now_ns();
        if registry.has_old_failures(now) {
            self.locks.note(|record| record.failed.forget_old(now));
        }
        registry.claim_failure(&key(op)?, id)
    }

    /// Answers a change that is to fail, when nothing of it can land any more.
    pub(crate) async fn fail(self: Rc<Self>, id: OpId, op: Op, since_ns: u64) {
        if let Some(object) = object_of(&op) {
            // A question to an OSD that is away takes as long as the limit is.
            let too_late = self.timers.sleep_until(since_ns + GRACE_NS);
            first(self.wait_for_group_of(&object), too_late).await;
        }
        self.answer(Done {
            id,
            result: Err(Errno::TIMEDOUT),
            buf: buf_of(op),
        });
    }

    /// Waits until changes may be sent. False: there is a limit, and it takes too long. Who takes
    /// locks has to write into each of them first, and their OSD may be the one that is away.
    pub(crate) async fn passes_gate(&self) -> bool {
        let gate = &self.locks.gate;
        if gate.is_open() || !self.client.has_limit {
            gate.pass().await;
            return true;
        }
        let until = self.env.clock.now_ns() + GRACE_NS;
        first(gate.pass(), self.timers.sleep_until(until)).await;
        gate.is_open()
    }

    async fn wait_for_group_of(&self, object: &Name) {
        while let Err(errno) = self.stat(object).await {
            if errno == Errno::NOENT {
                return;
            }
            let now = self.env.clock.now_ns();
            self.timers.sleep_until(now + AGAIN_NS).await;
        }
    }

    /// These are handed out: what failed among them is noted no more.
    pub(crate) fn note_answers(&self, done: &[Done]) {
        let registry = &self.locks.registry;
        if registry.has_failures() {
            self.locks.written(registry.answered(done));
        }
    }

    /// A change was not answered in time. Returns whether it has to be sent again; else this
    /// client was cut off by itself.
    pub(crate) async fn gives_up(&self, key: String) -> bool {
        self.locks.note(|record| record.failed.add(&key));
        let client = self.client.clone();
        let ended = self.offload.run(move || {
            let mut addresses = client.addresses.iter();
            addresses.try_for_each(|address| client.blocklist(address))
        });
        let ended: Answer<()> = ended.await;
        match ended {
            Ok(()) => {
                self.cut_off();
                let now = self.env.clock.now_ns();
                self.locks.note(|record| record.failed.are_cut_off(now));
                false
            }
            Err(why) => {
                self.locks.note(|record| record.failed.take_back(&key));
                self.complain(why);
                true
            }
        }
    }

    fn complain(&self, why: Errno) {
        let (pool, user) = (&self.pool_name, &self.client.user);
        match why {
            Errno::ACCES | Errno::PERM => tracing::error!(
                "the pool {pool} did not answer within rados_osd_op_timeout, and {user} may not \
                 blocklist itself, so its changes wait; {}",
                self.client.advice()
            ),
            _ => tracing::error!(
                %why,
                "the pool {pool} did not answer within rados_osd_op_timeout, nor do the monitors; \
                 changes wait"
            ),
        }
    }
}

/// Until one of both has ended.
async fn first(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        let ended = one.as_mut().poll(cx).is_ready() || other.as_mut().poll(cx).is_ready();
        if ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
