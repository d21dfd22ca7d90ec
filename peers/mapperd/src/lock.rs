//! Locks, syncs and fences at the blockers.
//!
//! What always holds: whether a lock is ours is for blockerm to say, after its own restart too; a
//! lock that its dead predecessor took for us is found by taking it again.

use crate::ask::Side;
use crate::errno::{Errno, Result};
use crate::job::Job;
use crate::volume::Volume;
use xseg::protocol::{Operation, flags};
use xseg::{Name, Request};

/// Who holds a lock, as blockerm says it (JSON).
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct LockReport {
    /// The owner's text; none: nobody holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// The process that took it, where the storage remembers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    /// Whether that process lives, where this host can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alive: Option<bool>,
    /// Whether this very node's blocker holds it.
    #[serde(default)]
    pub(crate) ours: bool,
    /// Whether it certainly is another node's; else a predecessor of our blocker may have left it.
    #[serde(default, skip_serializing)]
    pub(crate) foreign: bool,
    /// The host that took it, where the storage remembers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// The network addresses that may write on its behalf (RADOS).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) addresses: Vec<String>,
    /// When it was taken, in seconds since 1970, where the storage remembers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<u64>,
}

impl LockReport {
    /// Who holds the lock, as the end of a sentence.
    pub(crate) fn holder(&self) -> String {
        let Some(owner) = &self.owner else {
            return "nobody holds it now".into();
        };
        let process = self.pid.map(|pid| format!(", process {pid}"));
        let host = self.host.as_ref().map(|host| format!(" on {host}"));
        let [process, host] = [process, host].map(Option::unwrap_or_default);
        format!("{owner}{process}{host} holds it now")
    }
}

/// The bytes of LOCKINFO's answer, at most.
const LOCK_TEXT_LEN: u64 = 4096;

impl Job {
    /// Makes durable what was written under `tag`.
    pub(crate) async fn sync_blocks(&self, tag: u32) -> Result<()> {
        let request = Request {
            tag,
            ..Request::new(Operation::SyncTag, Name::EMPTY)
        };
        self.ask(Side::Blocks, request, None).await.map(|_| ())
    }

    /// Makes `volume`'s map durable. ESTALE: the lock is not ours.
    pub(crate) async fn sync_under_lock(&self, volume: &Volume) -> Result<()> {
        let request = Request {
            flags: flags::UNDER_LOCK,
            tag: volume.tag(),
            ..Request::new(Operation::SyncTag, volume.target())
        };
        self.ask(Side::Maps, request, None).await.map(|_| ())
    }

    /// The same; a lock that was ours is lost then.
    pub(crate) async fn sync_maps(&self, volume: &Volume) -> Result<()> {
        match self.sync_under_lock(volume).await {
            Ok(()) => Ok(()),
            Err(errno) => Err(self.judge(volume, errno).await),
        }
    }

    /// Refuses data writes of `tag` under leases older than `stamp`; returns when those in flight
    /// have ended.
    pub(crate) async fn fence(&self, tag: u32, stamp: u64) -> Result<()> {
        let request = Request {
            tag,
            lease: stamp,
            ..Request::new(Operation::Fence, Name::EMPTY)
        };
        self.ask(Side::Blocks, request, None).await.map(|_| ())
    }

    /// The volume is closed here: blockerb forgets its tag, also that a sync of it failed.
    pub(crate) async fn forget_tag(&self, tag: u32) -> Result<()> {
        let lease = self.core.stamp();
        let request = Request {
            tag,
            lease,
            flags: flags::FORCE,
            ..Request::new(Operation::Fence, Name::EMPTY)
        };
        self.ask(Side::Blocks, request, None).await.map(|_| ())
    }

    /// Takes a lock without waiting. True: it was ours before.
    pub(crate) async fn acquire(&self, volume: &Name) -> Result<bool> {
        let request = Request {
            flags: flags::NOSYNC,
            ..Request::new(Operation::Acquire, *volume)
        };
        self.ask(Side::Maps, request, None)
            .await
            .map(|answer| answer.serviced == 1)
    }

    /// Gives a lock back. ESTALE: it was not ours any more.
    pub(crate) async fn release(&self, volume: &Name) -> Result<()> {
        let request = Request::new(Operation::Release, *volume);
        match self.ask(Side::Maps, request, None).await {
            Ok(_) => Ok(()),
            Err(Errno::PERM) if self.lock_info(volume).await?.foreign => Err(Errno::STALE),
            // Perhaps blockerm's dead predecessor took it for us: only who takes it can tell.
            Err(Errno::PERM) => match self.acquire(volume).await {
                Ok(ours) => {
                    self.ask(Side::Maps, request, None).await?;
                    if ours { Ok(()) } else { Err(Errno::STALE) }
                }
                Err(Errno::BUSY) => Err(Errno::STALE),
                Err(errno) => Err(errno),
            },
            Err(Errno::NOENT) => Err(Errno::STALE),
            Err(errno) => Err(errno),
        }
    }

    /// Has blockerm forget that a lock was ours which is not any more, if it still remembers.
    pub(crate) async fn forget_lock(&self, volume: &Name) {
        // It says that nobody holds it, or somebody else does.
        let request = Request::new(Operation::Release, *volume);
        let _ = self.ask(Side::Maps, request, None).await;
    }

    /// Who holds a lock, as blockerm tells it.
    pub(crate) async fn lock_info(&self, volume: &Name) -> Result<LockReport> {
        let scratch = self.scratch(LOCK_TEXT_LEN).await?;
        let request = Request::new(Operation::LockInfo, *volume);
        let answer = self.ask(Side::Maps, request, Some(&scratch)).await?;
        let mut text = scratch.to_vec();
        text.truncate(answer.serviced as usize);
        serde_json::from_slice(&text).map_err(|_| Errno::IO)
    }
}
