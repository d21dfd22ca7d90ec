//! SNAPSHOT: freezes a read-only copy of the map under a new name; no data is copied.
//!
//! The source's header gets the next epoch first: from then on its entries count as shared, even
//! where a crash leaves WRITABLE in them. The snapshot's header comes last and is the commit; a
//! crash before it costs extra copies and nothing else.

use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{Job, Reply, TRANSIENT};
use crate::naming;
use crate::store::Durability;
use crate::volume::Volume;
use mapfile::{Epoch, Header, MapFlags};
use xseg::protocol::NameRequest;

impl Job {
    /// SNAPSHOT: the snapshot's name is in the data.
    pub(crate) async fn snapshot(&self) -> Result<Reply> {
        let name = self.volume_name()?;
        let snapshot_name = naming::new_volume_name(&NameRequest::decode(&self.data())?.0)?;
        if name == snapshot_name {
            return Err(Errno::EXIST);
        }
        let (source, snapshot) = self
            .enter_two((&name, Access::Alone), (&snapshot_name, Access::Alone))
            .await;
        let (source, snapshot) = (&**source.volume(), &**snapshot.volume());
        if self.was_made_before(snapshot).await? {
            self.end_transient(source).await?;
            return Ok(Reply::done());
        }
        self.vacancy(&snapshot_name).await?;
        self.with_open(source, async || {
            if source.with_map(|map| map.header().flags.readonly)? {
                return Err(Errno::ROFS);
            }
            self.with_claim(snapshot, async |predecessor| {
                self.freeze(source, snapshot, predecessor).await
            })
            .await?;
            Ok(Reply::done())
        })
        .await
    }

    async fn freeze(
        &self,
        source: &Volume,
        snapshot: &Volume,
        predecessor: Option<Header>,
    ) -> Result<()> {
        self.quiesce(source).await?;
        let found = source.with_map(|map| map.found())?;
        let next = Header {
            epoch: found.header.epoch.next()?,
            ..found.header
        };
        let frozen = Header {
            flags: MapFlags::SNAPSHOT,
            epoch: Epoch::of_new_snapshot(predecessor.map(|header| header.epoch))?,
            ..found.header
        };
        source.forget_map();
        self.write_header(source, &found.header_name, next).await?;
        let target = snapshot.name().header();
        let pages = (&target, found.geometry());
        self.write_pages(snapshot, pages, async |page, blocks| {
            let (shared, differs) = self.forked_page(&found, page).await?;
            if differs {
                let map = (&found.header_name, found.layout);
                let at = (blocks.start, &shared[..]);
                self.write_entries(source, map, at, Durability::Later)
                    .await?;
            }
            Ok(shared)
        })
        .await?;
        self.sync_maps(source).await?;
        self.commit(snapshot, &target, frozen).await
    }

    /// An earlier attempt of this request opened `volume` only for itself: the lock goes back.
    async fn end_transient(&self, volume: &Volume) -> Result<()> {
        let ours =
            self.mark() & TRANSIENT != 0 && !volume.is_held() && self.is_open(volume).await?;
        if ours {
            self.give_back(volume).await;
        }
        Ok(())
    }
}
