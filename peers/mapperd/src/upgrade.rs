//! Old formats: v0 and v1 maps become v2 when their lock is taken, and maps under `archip_NAME`
//! move to `NAME` (spec/protocol.md section 5).

use crate::errno::{Errno, Result};
use crate::intent::Intent;
use crate::job::Job;
use crate::load::Found;
use crate::volume::Volume;
use mapfile::layout::MapLayout;
use mapfile::{Epoch, Header, Version};

impl Job {
    /// Rewrites a v0 or v1 map as v2 in place: chunks, then the header over the old one's start.
    pub(crate) async fn upgrade(&self, volume: &Volume, found: Found) -> Result<Found> {
        tracing::info!(map = %found.header_name, from = found.version().number(), "upgrade to v2");
        self.copy_chunks(volume, &found, &found.header_name).await?;
        self.commit(volume, &found.header_name, found.header)
            .await?;
        Ok(as_v2(found))
    }

    /// Moves a map of the old layout, whatever its version, to the volume's own name as v2.
    pub(crate) async fn move_to_new_layout(&self, volume: &Volume, old: Found) -> Result<Found> {
        let new_name = volume.name().header();
        tracing::info!(old = %old.header_name, new = %new_name, "a map moves to the new layout");
        let header = Header {
            epoch: Epoch::of_new_volume(None)?,
            ..old.header
        };
        let intent = Intent {
            old: old.header_name.clone(),
            new: new_name.clone(),
            old_epoch: old.header.epoch,
            new_epoch: header.epoch,
            chunks: old.geometry().chunk_count(),
            purge: true,
        };
        self.acquire_header(&old.header_name).await?;
        let moved = self.move_map(volume, &old, &intent, header).await;
        if moved.is_err() {
            self.release_header(&old.header_name).await;
        }
        moved.map(|()| {
            as_v2(Found {
                header_name: new_name,
                header,
                ..old
            })
        })
    }

    /// Moves a map from one name to another, with both locks held. After a failure it is either
    /// wholly under the old name or wholly under the new one, unless storage fails for good; then
    /// the notes stay for whoever takes a lock next.
    pub(crate) async fn move_map(
        &self,
        volume: &Volume,
        old: &Found,
        intent: &Intent,
        header: Header,
    ) -> Result<()> {
        match self.try_move(volume, old, intent, header).await {
            Ok(()) => Ok(()),
            // The lock is broken: what follows is the new holder's to decide.
            Err(Errno::STALE) => Err(Errno::STALE),
            Err(errno) => match self.settle(intent).await {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(errno),
            },
        }
    }

    async fn try_move(
        &self,
        volume: &Volume,
        old: &Found,
        intent: &Intent,
        header: Header,
    ) -> Result<()> {
        self.write_intent(intent).await?;
        self.copy_chunks(volume, old, &intent.new).await?;
        self.commit(volume, &intent.new, header).await?;
        self.finish_rename(intent).await
    }

    /// Writes all entries of `old`, as they are, to v2 chunks under `name`.
    async fn copy_chunks(
        &self,
        volume: &Volume,
        old: &Found,
        name: &mapfile::HeaderName,
    ) -> Result<()> {
        let target = (name, old.geometry());
        self.write_chunks(volume, target, async |page, _, names| {
            self.entries_of(old, page, names).await
        })
        .await
    }
}

fn as_v2(found: Found) -> Found {
    Found {
        layout: MapLayout::new(Version::V2, found.header.geometry),
        ..found
    }
}
