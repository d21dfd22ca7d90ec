//! What happens when `rados_osd_op_timeout` is set, and an OSD does not answer in time.
//!
//! librados then ends the operation with ETIMEDOUT, but an OSD may have it, and it may land later.
//! A read may be answered so. A change may not be: nothing is answered while it may still land. So
//! this client cuts *itself* off, after it has noted in its file which change is to fail; its
//! process ends, and its successor answers that one with ETIMEDOUT and does the others again.
//!
//! A user that may not blocklist cannot do that: its changes are sent again until they are
//! answered, as without a timeout.

use crate::core::{Answer, Core};
use crate::driver::buf_of;
use driver::{Done, Errno, Name, Op, OpId};
use std::rc::Rc;

/// How long after its start a successor gets what its predecessor was asked, in nanoseconds.
const REPLAY_NS: u64 = 5_000_000_000;

/// How long an OSD may hang before the others report it and it loses its groups: Ceph's
/// `osd_heartbeat_grace`, 20 s, and some time for the map; in nanoseconds.
const GRACE_NS: u64 = 30_000_000_000;

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
    /// Whether the predecessor of this client has noted that `op` is to fail.
    pub(crate) fn has_failed_before(&self, op: &Op) -> bool {
        let registry = &self.locks.registry;
        if !registry.has_failures() {
            return false;
        }
        if self.env.clock.now_ns() > self.born_ns + REPLAY_NS {
            self.locks.note(|record| record.failed.clear());
            return false;
        }
        let Some(key) = key(op) else { return false };
        registry.take_failure(&key)
    }

    /// Answers a change that is to fail, when nothing of it can land any more.
    pub(crate) async fn fail(self: Rc<Self>, id: OpId, op: Op) {
        if let Some(object) = object_of(&op) {
            self.wait_for_group_of(&object).await;
        }
        self.answer(Done {
            id,
            result: Err(Errno::TIMEDOUT),
            buf: buf_of(op),
        });
    }

    async fn wait_for_group_of(&self, object: &Name) {
        while let Err(errno) = self.stat(object).await {
            let now = self.env.clock.now_ns();
            if errno == Errno::NOENT || now > self.born_ns + GRACE_NS {
                return;
            }
            self.timers.sleep_until(now + AGAIN_NS).await;
        }
    }

    /// A change was not answered in time. Returns whether it has to be sent again; else this
    /// client was cut off by itself.
    pub(crate) async fn gives_up(&self, key: String) -> bool {
        self.locks.note(|record| record.failed.push(key.clone()));
        let client = self.client.clone();
        let ended = self.offload.run(move || {
            let mut addresses = client.addresses.iter();
            addresses.try_for_each(|address| client.blocklist(address))
        });
        let ended: Answer<()> = ended.await;
        match ended {
            Ok(()) => {
                self.cut_off();
                false
            }
            Err(why) => {
                self.locks
                    .note(|record| record.failed.retain(|other| *other != key));
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
