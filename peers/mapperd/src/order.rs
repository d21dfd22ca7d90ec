//! The steps that operations on whole volumes have in common, and their order.
//!
//! What always holds: a map becomes visible by its header alone, which is written after everything
//! that it needs is durable; before an operation takes anything away, the volume is *quiesced*:
//! no write of an older lease is under way or can begin, and all that was answered is durable.

use crate::errno::Result;
use crate::job::Job;
use crate::load::Found;
use crate::store::Durability;
use crate::volume::Volume;
use crate::window;
use mapfile::layout::MapLayout;
use mapfile::{Entry, Geometry, Header, HeaderName, MapFlags, Names, PageNo, Version};
use std::cell::Cell;
use std::ops::Range;

/// Chunks of a map that are made and written at once: while the disk writes one, another is read.
const CHUNKS_AT_ONCE: usize = 2;
/// Pages that are read at once for a chunk.
const PAGES_AT_ONCE: usize = 4;

impl Job {
    /// Ends all leases of a held volume, waits for the writes under them, and makes them durable,
    /// by whatever door the request came (B12).
    pub(crate) async fn quiesce(&self, volume: &Volume) -> Result<()> {
        self.fence(volume.tag(), self.core.stamp()).await?;
        self.sync_blocks(volume.tag()).await?;
        self.flush_map(volume).await
    }

    /// Makes the map's entries durable, and makes sure that the lock still is ours: a node that
    /// lost it acknowledges no flush.
    pub(crate) async fn flush_map(&self, volume: &Volume) -> Result<()> {
        volume.may_flush()?;
        self.sync_and_note(volume).await
    }

    /// Syncs the map under the lock, and notes what that says about both.
    pub(crate) async fn sync_and_note(&self, volume: &Volume) -> Result<()> {
        let (written, now) = (volume.written(), self.core.now_ns());
        let synced = self.sync_maps(volume).await;
        volume.end_sync(written, now, synced);
        synced
    }

    /// Writes the header: the commit point.
    pub(crate) async fn write_header(
        &self,
        volume: &Volume,
        name: &HeaderName,
        header: Header,
    ) -> Result<()> {
        let object = name.as_object();
        self.write_map(volume, (&object, 0), &header.encode(), Durability::Now)
            .await
    }

    /// Writes stored entries of blocks `first..`, which lie in one chunk. A chunk is never cut: what
    /// a deleted predecessor has behind them is past the map's end (spec/observed.md point 12).
    pub(crate) async fn write_entries(
        &self,
        volume: &Volume,
        (name, layout): (&HeaderName, MapLayout),
        (first, bytes): (u64, &[u8]),
        durability: Durability,
    ) -> Result<()> {
        let place = layout.place(first);
        let object = place.object.name(name);
        self.write_map(volume, (&object, place.offset), bytes, durability)
            .await
    }

    /// Writes the chunks of a new map under `name`, volatile, each in one piece, some at once and in
    /// no order. `fill` gives the stored entries of a page.
    pub(crate) async fn write_pages(
        &self,
        volume: &Volume,
        (name, geometry): (&HeaderName, Geometry),
        fill: impl AsyncFn(PageNo, Range<u64>) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let layout = MapLayout::new(Version::V2, geometry);
        let failed = Cell::new(false);
        let written = window::each(CHUNKS_AT_ONCE, chunks(layout), async |pages| {
            // What is written then is of no use any more.
            if failed.get() {
                return Ok(());
            }
            let first = layout.page_blocks(PageNo(pages.start)).start;
            let filled = window::each(PAGES_AT_ONCE, pages.map(PageNo), async |page| {
                fill(page, layout.page_blocks(page)).await
            });
            let filled = filled.await.into_iter().collect::<Result<Vec<_>>>();
            let written = match filled {
                Ok(pages) => {
                    let at = (first, &pages.concat()[..]);
                    self.write_entries(volume, (name, layout), at, Durability::Later)
                        .await
                }
                Err(errno) => Err(errno),
            };
            failed.set(failed.get() || written.is_err());
            written
        });
        written.await.into_iter().collect()
    }

    /// The same, where `fill` gives entries, named in the `Names` that it is handed.
    pub(crate) async fn write_chunks(
        &self,
        volume: &Volume,
        target: (&HeaderName, Geometry),
        fill: impl AsyncFn(PageNo, Range<u64>, &mut Names) -> Result<Vec<Entry>>,
    ) -> Result<()> {
        self.write_pages(volume, target, async |page, blocks| {
            let (mut names, first) = (Names::new(), blocks.start);
            let entries = fill(page, blocks, &mut names).await?;
            Ok(encoded(&entries, first, &names))
        })
        .await
    }

    /// Makes the chunks durable, then the map visible.
    pub(crate) async fn commit(
        &self,
        volume: &Volume,
        name: &HeaderName,
        header: Header,
    ) -> Result<()> {
        self.sync_maps(volume).await?;
        self.write_header(volume, name, header).await
    }
}

/// The pages of each chunk.
fn chunks(layout: MapLayout) -> impl Iterator<Item = Range<u64>> {
    let per_chunk = layout.geometry().block_size().entries_per_chunk();
    let pages = (per_chunk / layout.entries_per_page()).max(1);
    let all = layout.page_count();
    (0..all)
        .step_by(pages as usize)
        .map(move |first| first..(first + pages).min(all))
}

/// Entries as they are stored.
pub(crate) fn encoded(entries: &[Entry], first: u64, names: &Names) -> Vec<u8> {
    let mut bytes = Vec::new();
    mapfile::encode(entries, first, names, &mut bytes);
    bytes
}

impl Found {
    /// The header with other flags.
    pub(crate) fn deleted(&self) -> Header {
        let flags = MapFlags {
            deleted: true,
            ..self.header.flags
        };
        Header {
            flags,
            ..self.header
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.header.geometry
    }
}
