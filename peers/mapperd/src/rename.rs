//! RENAME: the map gets a new name, its objects keep theirs.
//!
//! Both locks are held from the first step to the last, and given back at the end whether the
//! volume was open or not: what is open under the old name has no name any more.

use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::intent::Intent;
use crate::job::{INTENT, Job, Reply};
use crate::load::Looked;
use crate::naming;
use crate::volume::Volume;
use mapfile::{Epoch, Header};
use xseg::protocol::NameRequest;

impl Job {
    /// RENAME: the new name is in the data.
    pub(crate) async fn rename(&self) -> Result<Reply> {
        let old_name = self.volume_name()?;
        let new_name = naming::new_volume_name(&NameRequest::decode(&self.data())?.0)?;
        if old_name == new_name {
            return Err(Errno::EXIST);
        }
        let (old, new) = self
            .enter_two((&old_name, Access::Alone), (&new_name, Access::Alone))
            .await;
        let (old, new) = (&**old.volume(), &**new.volume());
        if self.mark() & INTENT != 0 && self.was_renamed_before(old, new).await? {
            return Ok(Reply::done());
        }
        self.vacancy(&new_name).await?;
        self.with_open(old, async || {
            if old.with_map(|map| map.header().flags.readonly)? {
                return Err(Errno::ROFS);
            }
            self.with_claim(new, async |predecessor| {
                self.rename_to(old, new, predecessor).await
            })
            .await?;
            self.give_up(old).await;
            Ok(Reply::done())
        })
        .await
    }

    async fn rename_to(
        &self,
        old: &Volume,
        new: &Volume,
        predecessor: Option<Header>,
    ) -> Result<()> {
        self.quiesce(old).await?;
        let found = old.with_map(|map| map.found())?;
        let epoch = Epoch::of_new_volume(predecessor.map(|header| header.epoch))?;
        let header = Header {
            epoch,
            ..found.header
        };
        let intent = Intent {
            old: found.header_name.clone(),
            new: new.name().header(),
            old_epoch: found.header.epoch,
            new_epoch: epoch,
            chunks: found.geometry().chunk_count(),
            purge: false,
        };
        old.forget_map();
        self.move_map(new, &found, &intent, header).await
    }

    /// Settles what an earlier attempt of this request left. True: it was renamed; both locks are
    /// given back then.
    async fn was_renamed_before(&self, old: &Volume, new: &Volume) -> Result<bool> {
        let locks = [old.target(), new.target()];
        for lock in &locks {
            // Another node's by now: then this one had given it back, so it was done.
            match self.acquire(lock).await {
                Ok(_) | Err(Errno::BUSY) => {}
                Err(errno) => return Err(errno),
            }
        }
        let settled = self.settle_both(old, new).await;
        if !matches!(settled, Ok(false)) {
            for lock in &locks {
                // ESTALE: another node's.
                let _ = self.release(lock).await;
            }
            old.end();
        }
        settled
    }

    async fn settle_both(&self, old: &Volume, new: &Volume) -> Result<bool> {
        self.settle_rename(&old.name().header()).await?;
        self.settle_rename(&new.name().header()).await?;
        Ok(self.is_alive(new).await? && !self.is_alive(old).await?)
    }

    async fn is_alive(&self, volume: &Volume) -> Result<bool> {
        Ok(matches!(self.look(&volume.name().header()).await?,
            Looked::Map(found) if !found.header.flags.deleted))
    }
}
