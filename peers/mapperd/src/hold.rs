//! Taking a volume's lock and giving it back.
//!
//! What always holds:
//! - No lock is taken for a name that does not exist (B25), and none that an operation took for
//!   itself outlives it, however it ends (B16).
//! - Whoever takes a lock reads the intent of an unfinished rename first, and settles it.
//! - What this node held before mapperd's own restart is still held afterwards; what was written
//!   then counts as not yet durable.
//!
//! Whether an operation finds the volume open is decided before it takes the lock, and noted in
//! its step mark: after a restart the lock alone could not tell.

use crate::core::count;
use crate::errno::{Errno, Result};
use crate::job::{INTENT, Job, TRANSIENT};
use crate::load::{Found, Looked};
use crate::map::Map;
use crate::naming::{self, wire};
use crate::volume::Volume;
use mapfile::{Header, Version, VolumeName};

impl Job {
    /// Makes `volume`, which this request has alone, held and its map loaded. True: this call took
    /// the lock. EBUSY: another node has it.
    pub(crate) async fn open(&self, volume: &Volume) -> Result<bool> {
        if volume.is_lost() {
            return Err(Errno::STALE);
        }
        if volume.is_ready() {
            return Ok(false);
        }
        if volume.is_held() {
            let found = self.lookup(volume.name()).await?;
            volume.set_map(Map::new(&found)?);
            return Ok(false);
        }
        self.lookup(volume.name()).await?;
        let before = match self.acquire(&volume.target()).await {
            Ok(before) => before,
            Err(errno) => {
                // It was broken while a predecessor held it.
                if errno == Errno::STALE {
                    volume.lose();
                    self.tell_of_loss(volume).await;
                }
                self.drop_old_layouts_lock(volume.name()).await;
                return Err(errno);
            }
        };
        volume.begin(before, self.core.now_ns());
        let loaded = self
            .settle_and_load(volume)
            .await
            .and_then(|found| Map::new(&found));
        match loaded {
            Ok(map) => {
                volume.set_map(map);
                Ok(true)
            }
            Err(errno) => {
                let transient = self.mark() & TRANSIENT != 0;
                if !before || transient || errno == Errno::NOENT {
                    self.give_back(volume).await;
                    // Broken while it was being taken: nobody here has had the volume.
                    return Err(if errno == Errno::STALE {
                        Errno::BUSY
                    } else {
                        errno
                    });
                }
                volume.end();
                Err(errno)
            }
        }
    }

    /// A predecessor died while it moved the volume to the new layout, and another node has the
    /// volume since: the lock of the old name is of no use to us then, and in the way of others.
    async fn drop_old_layouts_lock(&self, name: &VolumeName) {
        if let Some(old) = name.fallback_header() {
            self.forget_lock(&wire(old.as_bytes())).await;
        }
    }

    /// Under the lock: finishes what others began, and brings an old map to v2 under its own name.
    async fn settle_and_load(&self, volume: &Volume) -> Result<Found> {
        self.settle_rename(&volume.name().header()).await?;
        let found = self.lookup(volume.name()).await?;
        if found.header_name != volume.name().header() {
            return self.move_to_new_layout(volume, found).await;
        }
        match found.version() {
            Version::V2 => Ok(found),
            Version::V0 | Version::V1 => self.upgrade(volume, found).await,
        }
    }

    /// Gives the lock back without flushing, whatever comes of it.
    pub(crate) async fn give_back(&self, volume: &Volume) {
        if let Err(Errno(errno)) = self.release(&volume.target()).await {
            tracing::warn!(volume = %volume.name(), errno, "a lock could not be given back");
        }
        volume.end();
    }

    /// Gives the lock of a volume back that is open no more, because its name is gone.
    pub(crate) async fn give_up(&self, volume: &Volume) {
        if let Err(Errno(errno)) = self.forget_tag(volume.tag()).await {
            tracing::warn!(volume = %volume.name(), errno, "a gone volume's tag is not forgotten");
        }
        self.give_back(volume).await;
    }

    /// Flushes, fences and releases a volume that is held.
    pub(crate) async fn close_held(&self, volume: &Volume) -> Result<()> {
        let readonly = volume
            .with_map(|map| map.header().flags.readonly)
            .unwrap_or(false);
        let flushed = if readonly {
            Ok(())
        } else {
            self.quiesce(volume).await
        };
        if !volume.is_held() {
            return flushed;
        }
        let forgotten = self.forget_tag(volume.tag()).await;
        let released = self.release(&volume.target()).await;
        volume.end();
        flushed.and(forgotten).and(released)
    }

    /// Whether this node has the volume open: as far as we remember, or, after a restart, as its
    /// lock says.
    pub(crate) async fn is_open(&self, volume: &Volume) -> Result<bool> {
        if volume.is_held() {
            return Ok(true);
        }
        let report = self.lock_info(&volume.target()).await?;
        if report.owner.is_none() || report.ours {
            return Ok(report.ours);
        }
        if report.foreign || report.alive == Some(true) {
            return Ok(false);
        }
        // Perhaps blockerm's predecessor took it for us; only taking it again can tell.
        match self.acquire(&volume.target()).await {
            Ok(true) => Ok(true),
            Ok(false) => self.release(&volume.target()).await.map(|()| false),
            Err(Errno::BUSY) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Runs `act` with the volume open, and leaves it as it was found: open or not.
    pub(crate) async fn with_open<T>(
        &self,
        volume: &Volume,
        act: impl AsyncFnOnce() -> Result<T>,
    ) -> Result<T> {
        if !volume.is_held() {
            self.lookup_or_stale(volume).await?;
        }
        let stays = self.mark() & TRANSIENT == 0 && self.is_open(volume).await?;
        if !stays {
            self.add_mark(TRANSIENT);
        }
        let opened = self.open(volume).await;
        let had_it = opened.is_ok();
        let result = match opened {
            Ok(_) => act().await,
            Err(errno) => Err(errno),
        };
        let mut closed = Ok(());
        if !stays && volume.is_held() {
            closed = self.close_held(volume).await;
        }
        if !stays && had_it && volume.is_lost() {
            // Nobody else here had it open: nobody else has lost it.
            self.forget_lock(&volume.target()).await;
            volume.end();
        }
        result.and_then(|value| closed.map(|()| value))
    }

    /// That the volume exists, before its lock is touched.
    async fn lookup_or_stale(&self, volume: &Volume) -> Result<()> {
        match volume.is_lost() {
            true => Err(Errno::STALE),
            false => self.lookup(volume.name()).await.map(|_| ()),
        }
    }

    /// Runs `act` with the lock of a name that is to be made; it gets the deleted predecessor's
    /// header, whose leftovers are gone by then. EEXIST: the name is taken.
    pub(crate) async fn with_claim<T>(
        &self,
        volume: &Volume,
        act: impl AsyncFnOnce(Option<Header>) -> Result<T>,
    ) -> Result<T> {
        self.vacancy(volume.name()).await?;
        self.acquire_anew(volume).await?;
        let result = match self.prepare_claim(volume).await {
            Ok(predecessor) => act(predecessor).await,
            Err(errno) => Err(errno),
        };
        self.give_back(volume).await;
        result
    }

    /// Takes the lock of a name that is to be made: that one of an earlier volume was broken while
    /// it was ours is over with that volume.
    async fn acquire_anew(&self, volume: &Volume) -> Result<bool> {
        match self.acquire(&volume.target()).await {
            Err(Errno::STALE) => {
                self.forget_lock(&volume.target()).await;
                self.acquire(&volume.target()).await
            }
            taken => taken,
        }
    }

    async fn prepare_claim(&self, volume: &Volume) -> Result<Option<Header>> {
        self.settle_rename(&volume.name().header()).await?;
        let predecessor = self.vacancy(volume.name()).await?;
        if let Some(found) = &predecessor {
            self.finish_delete(volume, found).await?;
        }
        self.add_mark(INTENT);
        Ok(predecessor.map(|found| found.header))
    }

    /// That nothing has the name: the deleted map that had it, if there was one.
    pub(crate) async fn vacancy(&self, name: &VolumeName) -> Result<Option<Found>> {
        if let Some(old) = name.fallback_header() {
            unless_taken(name, self.look(&old).await?)?;
        }
        unless_taken(name, self.look(&name.header()).await?)
    }

    /// Whether an earlier attempt of this request made `volume` already; its lock is given back.
    pub(crate) async fn was_made_before(&self, volume: &Volume) -> Result<bool> {
        if self.mark() & INTENT == 0 {
            return Ok(false);
        }
        let made = matches!(self.look(&volume.name().header()).await?,
            Looked::Map(found) if !found.header.flags.deleted);
        if made && !volume.is_held() {
            // Whether it still is ours does not matter: it is the one thing left to do.
            let _ = self.release(&volume.target()).await;
        }
        Ok(made)
    }

    /// Makes sure that the lock still is ours, if nobody looked lately enough for this request.
    pub(crate) async fn confirm_lock(&self, volume: &Volume) -> Result<()> {
        let since = self.lock_seen_since_ns();
        if volume.checked_ns() >= since {
            return Ok(());
        }
        let _look = volume.look.lock().await;
        if volume.is_lost() {
            return Err(Errno::STALE);
        }
        if volume.checked_ns() >= since {
            return Ok(());
        }
        match self.sync_and_note(volume).await {
            // Storage that failed the sync was asked under the lock; reads go on.
            Err(errno) if errno != Errno::STALE && !errno.is_shortage() => Ok(()),
            other => other,
        }
    }

    /// What a failed map write means: ESTALE says that the lock was broken, and the volume is lost.
    pub(crate) async fn judge(&self, volume: &Volume, errno: Errno) -> Errno {
        if errno == Errno::STALE && volume.is_held() {
            volume.lose();
            if let Err(Errno(errno)) = self.fence(volume.tag(), self.core.stamp()).await {
                tracing::error!(volume = %volume.name(), errno, "a lost volume is not fenced");
            }
            self.tell_of_loss(volume).await;
        }
        errno
    }

    /// Says that the lock was broken, who has it, and what is to be done.
    async fn tell_of_loss(&self, volume: &Volume) {
        count(&self.core.counters.locks_lost);
        let holder = match self.lock_info(&volume.target()).await {
            Ok(report) => report.holder(),
            Err(_) => "it cannot be told who holds it".into(),
        };
        tracing::error!(
            "the lock of volume {} was broken, and {holder}: whoever uses it here gets ESTALE (a \
             guest: I/O errors) until it is closed and opened again",
            volume.name()
        );
    }

    /// Refuses a name of the old layout when the volume has moved to the new one.
    pub(crate) async fn refuse_shadowed(&self) -> Result<()> {
        let name = self.volume_name()?;
        match self.look(&name.header()).await? {
            Looked::Map(found) if !found.header.flags.deleted => Err(Errno::NOENT),
            _ => Ok(()),
        }
    }

    /// The lock of the other header of a rename. That of the old layout is held for a move alone: if
    /// it was broken under a predecessor who died, that move is over, and it is taken anew.
    pub(crate) async fn acquire_header(&self, header: &mapfile::HeaderName) -> Result<bool> {
        let lock = wire(header.as_bytes());
        match self.acquire(&lock).await {
            Err(Errno::STALE) if naming::is_old_name(&lock) => {
                self.forget_lock(&lock).await;
                self.acquire(&lock).await
            }
            taken => taken,
        }
    }

    /// Gives such a lock back, whatever comes of it.
    pub(crate) async fn release_header(&self, header: &mapfile::HeaderName) {
        if let Err(Errno(errno)) = self.release(&wire(header.as_bytes())).await {
            tracing::warn!(map = %header, errno, "a lock could not be given back");
        }
    }
}

/// The deleted map that was looked at, if there was one. EEXIST: something else.
fn unless_taken(name: &VolumeName, looked: Looked) -> Result<Option<Found>> {
    match looked {
        Looked::Nothing => Ok(None),
        Looked::Map(found) if found.header.flags.deleted => Ok(Some(found)),
        Looked::Map(_) => Err(Errno::EXIST),
        Looked::Foreign(error) => {
            tracing::warn!(volume = %name, %error, "the name is taken by something else");
            Err(Errno::EXIST)
        }
    }
}
