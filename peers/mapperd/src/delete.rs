//! DELETE: the header first, so that a crash leaves no volume with holes; then the objects that
//! belong to it alone, each before its entry says so.
//!
//! What a crash leaves is finished when the name is used again, before its chunks are.

use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{INTENT, Job, Reply};
use crate::load::{Found, Looked};
use crate::order::encoded;
use crate::store::Durability;
use crate::volume::Volume;
use crate::window;
use mapfile::codec::ENTRY_LEN;
use mapfile::{Entry, EntryFlags, Names, PageNo, Version};

/// Objects deleted at once.
const WIDTH: usize = 16;

/// Own objects of one page: the entries, in the `Names` that belong to them.
pub(crate) struct Owned {
    pub(crate) names: Names,
    pub(crate) entries: Vec<(u64, Entry)>,
}

impl Job {
    /// DELETE.
    pub(crate) async fn delete(&self) -> Result<Reply> {
        let entered = self.enter(&self.volume_name()?, Access::Alone).await;
        let volume = &**entered.volume();
        if self.is_replay()
            && let Looked::Map(found) = self.look(&volume.name().header()).await?
            && found.header.flags.deleted
        {
            return self.delete_the_rest(volume, &found).await;
        }
        self.with_open(volume, async || {
            self.add_mark(INTENT);
            self.quiesce(volume).await?;
            let found = volume.with_map(|map| map.found())?;
            volume.forget_map();
            self.write_header(volume, &found.header_name, found.deleted())
                .await?;
            self.finish_or_warn(volume, &found).await;
            if volume.is_held() {
                self.give_up(volume).await;
            }
            Ok(Reply::done())
        })
        .await
    }

    /// An earlier attempt deleted the volume: "already so" is success.
    async fn delete_the_rest(&self, volume: &Volume, found: &Found) -> Result<Reply> {
        match self.acquire(&volume.target()).await {
            Ok(_) => {
                self.finish_or_warn(volume, found).await;
                self.give_back(volume).await;
                Ok(Reply::done())
            }
            // Another node makes a new volume of the name, and finishes this for us.
            Err(Errno::BUSY) => Ok(Reply::done()),
            Err(errno) => Err(errno),
        }
    }

    /// The volume is gone already; what of it cannot be removed now is left to the next creation.
    async fn finish_or_warn(&self, volume: &Volume, found: &Found) {
        if let Err(Errno(errno)) = self.finish_delete(volume, found).await {
            tracing::warn!(volume = %volume.name(), errno, "objects of a deleted volume remain");
        }
    }

    /// Removes the own objects of a deleted map, page by page. `volume`'s lock is held.
    pub(crate) async fn finish_delete(&self, volume: &Volume, found: &Found) -> Result<()> {
        for page in found.pages() {
            let owned = self.owned_in(found, page).await?;
            if owned.entries.is_empty() {
                continue;
            }
            self.delete_objects(volume, &owned).await?;
            self.write_gone(volume, found, &owned).await?;
        }
        self.sync_maps(volume).await
    }

    /// The objects of a page that belong to this map alone. What cannot be read as an entry owns
    /// nothing: of a deleted map, chunks may be gone or half rewritten.
    pub(crate) async fn owned_in(&self, found: &Found, page: PageNo) -> Result<Owned> {
        let mut names = Names::new();
        let owner = names.owner(&found.header_name, found.header.epoch)?;
        let bytes = self.read_page(found, page).await?.unwrap_or_default();
        let own = (EntryFlags::WRITABLE | EntryFlags::ARCHIP).bits();
        let first = found.layout.page_blocks(page).start;
        let mut entries = Vec::new();
        for (index, stored) in (first..).zip(bytes.chunks_exact(ENTRY_LEN)) {
            if stored[0] != own {
                continue;
            }
            let decoded = mapfile::decode(Version::V2, stored, index, &mut names);
            let entry = decoded.ok().and_then(|entries| entries.first().copied());
            entries.extend(
                entry
                    .filter(|e| e.is_owned(&names, owner))
                    .map(|e| (index, e)),
            );
        }
        Ok(Owned { names, entries })
    }

    /// Deletes the objects, durably.
    pub(crate) async fn delete_objects(&self, volume: &Volume, owned: &Owned) -> Result<()> {
        let objects = owned
            .entries
            .iter()
            .map(|(index, entry)| entry.name(&owned.names, *index));
        let deleted = window::each(WIDTH, objects, async |object| {
            self.delete_block(volume, &object).await
        });
        deleted.await.into_iter().collect::<Result<()>>()?;
        self.sync_blocks(volume.tag()).await
    }

    async fn write_gone(&self, volume: &Volume, found: &Found, owned: &Owned) -> Result<()> {
        for run in runs(&owned.entries) {
            let gone: Vec<Entry> = run.iter().map(|(_, entry)| entry.gone()).collect();
            let bytes = encoded(&gone, run[0].0, &owned.names);
            let (map, at) = ((&found.header_name, found.layout), (run[0].0, &bytes[..]));
            self.write_entries(volume, map, at, Durability::Later)
                .await?;
        }
        Ok(())
    }
}

/// Cuts entries where their indices leave a gap.
pub(crate) fn runs<T>(entries: &[(u64, T)]) -> impl Iterator<Item = &[(u64, T)]> {
    entries.chunk_by(|a, b| a.0 + 1 == b.0)
}
