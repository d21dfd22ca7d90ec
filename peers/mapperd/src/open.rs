//! OPEN, CLOSE, FLUSH and UPDATE: the life of a volume on this node.

use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{Job, Reply};
use crate::naming::wire;
use crate::volume::Volume;

impl Job {
    /// OPEN: takes the lock; success if it is ours already. EROFS, and no lock kept, for a
    /// read-only map; EBUSY if another node has it.
    pub(crate) async fn open_volume(&self) -> Result<Reply> {
        let entered = self.enter(&self.volume_name()?, Access::Alone).await;
        let volume = &**entered.volume();
        if volume.is_lost() {
            volume.end();
        }
        let opened_here = self.open(volume).await?;
        if volume.with_map(|map| map.header().flags.readonly)? {
            if opened_here {
                self.give_back(volume).await;
            }
            return Err(Errno::ROFS);
        }
        self.confirm_lock(volume).await?;
        Ok(Reply::done())
    }

    /// CLOSE: flushes, and gives the lock back. EINVAL: the volume was not open. ESTALE: its lock
    /// was broken meanwhile; it is closed all the same. Whoever waits for another node's lock of
    /// it does so no more.
    pub(crate) async fn close_volume(&self) -> Result<Reply> {
        let name = self.volume_name()?;
        self.core.waits.end(Some(&wire(name.as_bytes())));
        let entered = self.enter(&name, Access::Alone).await;
        let volume = &**entered.volume();
        let open = match volume.is_lost() {
            true => Err(Errno::STALE),
            false => self.exists_and_is_open(volume).await,
        };
        if open == Err(Errno::STALE) {
            self.forget_lock(&volume.target()).await;
            volume.end();
        }
        if !open? {
            let answer = self.not_open(volume.name()).await?;
            self.forget_lock(&volume.target()).await;
            return answer.ok_or(Errno::INVAL);
        }
        // After a restart of mapperd the lock is all that is known.
        self.open(volume).await?;
        self.close_held(volume).await?;
        Ok(Reply::done())
    }

    /// Whether the volume is open here. Only the lock of a name that exists is looked at: to look
    /// may mean to take it (B25).
    async fn exists_and_is_open(&self, volume: &Volume) -> Result<bool> {
        if !volume.is_held() {
            match self.lookup(volume.name()).await {
                Err(Errno::NOENT) => return Ok(false),
                found => found.map(drop)?,
            }
        }
        self.is_open(volume).await
    }

    /// `None`: it exists and is not open.
    async fn not_open(&self, name: &mapfile::VolumeName) -> Result<Option<Reply>> {
        if self.is_replay() {
            return Ok(Some(Reply::done()));
        }
        self.lookup(name).await.map(|_| None)
    }

    /// FLUSH: makes the map's entries durable; vlmcd has synced the objects before. A volume that
    /// is not open here has nothing to flush, unless the sender says that it held a lease of it. But
    /// vlmcd may have leases from before our own restart, so a client, who wants to know that
    /// nothing is written here (`vlmc unlock -f`), has them ended.
    pub(crate) async fn flush(&self) -> Result<Reply> {
        let name = self.volume_name()?;
        let entered = self.enter(&name, Access::Shared).await;
        if entered.volume().is_lost() {
            return Err(Errno::STALE);
        }
        if entered.volume().is_held() {
            self.flush_map(entered.volume()).await?;
            return Ok(Reply::done());
        }
        drop(entered);
        let entered = self.enter(&name, Access::Alone).await;
        let volume = &**entered.volume();
        if !self.exists_and_is_open(volume).await? {
            if !self.from_peer {
                self.fence(volume.tag(), self.core.stamp()).await?;
            }
            return match self.request.lease {
                0 => Ok(Reply::done()),
                _ => Err(Errno::STALE),
            };
        }
        self.open(volume).await?;
        entered.share();
        self.flush_map(volume).await?;
        Ok(Reply::done())
    }

    /// UPDATE: brings an old map to v2, which taking its lock does.
    pub(crate) async fn update(&self) -> Result<Reply> {
        let entered = self.enter(&self.volume_name()?, Access::Alone).await;
        self.with_open(entered.volume(), async || Ok(Reply::done()))
            .await
    }
}
