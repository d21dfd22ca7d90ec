//! TRUNCATE: a volume gets another size.
//!
//! What always holds: what lies past the end reads as zeros when the volume grows over it again,
//! so shrinking cuts and growing zeroes the tail of the last block; entries that stay keep
//! WRITABLE (B7). Shrinking commits by its header and then removes what lies past the end: a crash
//! in between leaves the new size, and objects that nobody reads.

use crate::ask::Side;
use crate::create::new_geometry;
use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{INTENT, Job, NUMBER_SHIFT, Reply};
use crate::load::Found;
use crate::naming::wire;
use crate::order::encoded;
use crate::store::Durability;
use crate::volume::Volume;
use mapfile::layout::MapLayout;
use mapfile::{Entry, Geometry, Header, Names, Version};
use std::cmp::Ordering;
use xseg::protocol::flags;

impl Job {
    /// TRUNCATE: the new size is in `offset`; SHRINK allows a smaller one.
    pub(crate) async fn truncate(&self) -> Result<Reply> {
        let size = self.request.offset;
        let entered = self.enter(&self.volume_name()?, Access::Alone).await;
        let volume = &**entered.volume();
        self.with_open(volume, async || {
            let found = volume.with_map(|map| map.found())?;
            if found.header.flags.readonly {
                return Err(Errno::ROFS);
            }
            if size == 0 {
                return Err(Errno::INVAL);
            }
            let geometry = new_geometry(size, found.geometry().block_size())?;
            match size.cmp(&found.geometry().size()) {
                Ordering::Less if !self.request.has(flags::SHRINK) => return Err(Errno::INVAL),
                Ordering::Less => self.shrink(volume, &found, geometry).await?,
                Ordering::Equal => self.shrink_the_rest(volume, &found).await?,
                Ordering::Greater => self.grow(volume, &found, geometry).await?,
            }
            Ok(Reply::done())
        })
        .await
    }

    async fn shrink(&self, volume: &Volume, old: &Found, geometry: Geometry) -> Result<()> {
        self.quiesce(volume).await?;
        self.set_mark(self.mark() | INTENT | old.geometry().block_count() << NUMBER_SHIFT);
        let new = resized(old, geometry);
        volume.forget_map();
        self.write_header(volume, &new.header_name, new.header)
            .await?;
        self.remove_tail(volume, old, &new).await
    }

    /// An earlier attempt wrote the smaller header; its mark says how many blocks there were.
    async fn shrink_the_rest(&self, volume: &Volume, new: &Found) -> Result<()> {
        let blocks = self.mark() >> NUMBER_SHIFT;
        if !self.is_replay() || blocks == 0 {
            return Ok(());
        }
        let block_size = new.geometry().block_size();
        let old = Geometry::new(blocks.saturating_mul(block_size.bytes().into()), block_size)?;
        volume.forget_map();
        self.remove_tail(volume, &resized(new, old), new).await
    }

    /// What lies past the end of `new` goes: the rest of its last block, and whole objects.
    async fn remove_tail(&self, volume: &Volume, old: &Found, new: &Found) -> Result<()> {
        self.cut_last_block(volume, new).await?;
        self.sync_maps(volume).await?;
        let kept = new.geometry().block_count();
        for page in old
            .pages()
            .filter(|page| old.layout.page_blocks(*page).end > kept)
        {
            let mut owned = self.owned_in(old, page).await?;
            owned.entries.retain(|(index, _)| *index >= kept);
            self.delete_objects(volume, &owned).await?;
        }
        Ok(())
    }

    async fn grow(&self, volume: &Volume, old: &Found, geometry: Geometry) -> Result<()> {
        self.quiesce(volume).await?;
        volume.forget_map();
        self.cut_last_block(volume, old).await?;
        let new = resized(old, geometry);
        let old_count = old.geometry().block_count();
        for page in new
            .pages()
            .filter(|page| new.layout.page_blocks(*page).end > old_count)
        {
            let blocks = new.layout.page_blocks(page);
            let first = blocks.start.max(old_count);
            let zeros = vec![Entry::ZERO; (blocks.end - first) as usize];
            let bytes = encoded(&zeros, first, &Names::new());
            let (map, at) = ((&new.header_name, new.layout), (first, &bytes[..]));
            self.write_entries(volume, map, at, Durability::Later)
                .await?;
        }
        self.commit(volume, &new.header_name, new.header).await
    }

    /// Makes what the last block holds past the end of the volume zero; an object that is shared
    /// is copied as far as it counts.
    async fn cut_last_block(&self, volume: &Volume, found: &Found) -> Result<()> {
        let block = u64::from(found.geometry().block_size().bytes());
        let keep = found.geometry().size() % block;
        let Some(index) = found
            .geometry()
            .block_count()
            .checked_sub(1)
            .filter(|_| keep > 0)
        else {
            return Ok(());
        };
        let (page, at) = found.layout.page_of(index);
        let mut names = Names::new();
        let entry = self.entries_of(found, page, &mut names).await?[at];
        let owner = names.owner(&found.header_name, found.header.epoch)?;
        if entry.is_zero() {
            return Ok(());
        }
        let object = entry.name(&names, index);
        let size = self
            .object_size(Side::Blocks, &wire(object.as_bytes()))
            .await?;
        if size.is_none_or(|size| size <= keep) {
            return Ok(());
        }
        if entry.is_writable(&names, owner) || entry.is_own_already(owner) {
            return self
                .zero_object(volume, &object, (keep, block - keep))
                .await;
        }
        let own = Entry::fresh(owner);
        self.copy_object(volume, (&object, &own.name(&names, index)), keep)
            .await?;
        let bytes = encoded(&[own], index, &names);
        let (map, at) = ((&found.header_name, found.layout), (index, &bytes[..]));
        self.write_entries(volume, map, at, Durability::Later).await
    }
}

/// The same map with another size.
fn resized(found: &Found, geometry: Geometry) -> Found {
    Found {
        header_name: found.header_name.clone(),
        header: Header {
            geometry,
            ..found.header
        },
        layout: MapLayout::new(Version::V2, geometry),
    }
}
