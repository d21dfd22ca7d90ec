//! INFO and MAPR: what a volume is, and which objects hold a range of it.
//!
//! What always holds: an answer with a lease is put together in one step, stamped in it, and sent
//! without another: answers about one block leave in the order of what they say.

use crate::core::count;
use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{Job, Reply};
use crate::load::{Current, Found};
use crate::map::{Map, PageState};
use crate::naming::wire;
use crate::volume::Volume;
use mapfile::{Geometry, VolumeName};
use std::ops::Range;
use xseg::Answer;
use xseg::protocol::{MapReply, MapSegment, flags, mapflags};

/// Most blocks in one answer: 4 TiB of the usual block size, 280 MiB of reply; and far fewer pages
/// than a map keeps.
const BLOCKS_MAX: u64 = 1 << 20;

/// Whether an answer may be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lease {
    None,
    Granted,
}

impl Job {
    /// INFO: eight bytes of size.
    pub(crate) async fn info(&self) -> Result<Reply> {
        let name = self.volume_name()?;
        let entered = self.enter(&name, Access::Shared).await;
        let geometry = match entered.volume().with_map(|map| map.header().geometry) {
            Ok(geometry) => geometry,
            Err(_) => self.lookup(&name).await?.geometry(),
        };
        Ok(Reply::bytes(geometry.size().to_le_bytes().to_vec()))
    }

    /// MAPR: takes the lock if it can, and does without where it cannot.
    pub(crate) async fn map_read(&self) -> Result<Reply> {
        let name = self.volume_name()?;
        let entered = self.enter(&name, Access::Shared).await;
        if self.request.has(flags::PEEK) {
            return match entered.volume().is_ready() {
                true => self.read_held(entered.volume(), Lease::None).await,
                false => self.read_unheld(&name).await,
            };
        }
        let answer = if entered.volume().is_ready() {
            let answer = self.read_leased(entered.volume()).await;
            drop(entered);
            answer
        } else {
            drop(entered);
            self.open_and_read(&name).await
        };
        match answer {
            Err(Errno::STALE) => self.read_lost(&name).await,
            answer => answer,
        }
    }

    async fn open_and_read(&self, name: &VolumeName) -> Result<Reply> {
        let entered = self.enter(name, Access::Alone).await;
        let opened = self.open(entered.volume()).await;
        entered.share();
        match opened {
            Ok(_) => self.read_leased(entered.volume()).await,
            Err(errno @ (Errno::NOENT | Errno::STALE)) => Err(errno),
            Err(_) => self.read_unheld(name).await,
        }
    }

    /// MAPR of a volume whose lock was broken. A read-only map says the same whoever has its lock,
    /// so the loss is acknowledged and nobody hears of it. ESTALE: a writable one, which may change
    /// under who believes to hold it.
    async fn read_lost(&self, name: &VolumeName) -> Result<Reply> {
        let entered = self.enter(name, Access::Alone).await;
        if !self.lookup(name).await?.header.flags.readonly {
            return Err(Errno::STALE);
        }
        let volume = entered.volume();
        if volume.is_lost() {
            self.forget_lock(&volume.target()).await;
            volume.end();
        }
        entered.share();
        self.read_unheld(name).await
    }

    async fn read_leased(&self, volume: &Volume) -> Result<Reply> {
        if volume.is_lost() {
            return Err(Errno::STALE);
        }
        self.confirm_lock(volume).await?;
        self.read_held(volume, Lease::Granted).await
    }

    /// The answer about a held map.
    pub(crate) async fn read_held(&self, volume: &Volume, lease: Lease) -> Result<Reply> {
        let geometry = volume.with_map(|map| map.header().geometry)?;
        let blocks = self.blocks_asked_for(geometry)?;
        loop {
            for part in volume.with_map(|map| map.by_page(blocks.clone()))? {
                self.ensure_page(volume, part.start).await?;
            }
            let mut segments = Vec::new();
            // While one page was waited for another may have gone.
            if volume.with_map(|map| self.segments_of(map, blocks.clone(), &mut segments))? {
                let stamp = match lease {
                    Lease::None => 0,
                    Lease::Granted => {
                        count(&self.core.counters.leases);
                        self.core.stamp()
                    }
                };
                return Ok(self.map_reply(geometry, volume.tag(), stamp, segments));
            }
        }
    }

    /// MAPR without the lock: the map is read, used and dropped; nothing of it is leased.
    async fn read_unheld(&self, name: &VolumeName) -> Result<Reply> {
        let mut found = self.lookup(name).await?;
        let mut segments = loop {
            match self.read_private(&found).await? {
                Ok(segments) => break segments,
                Err(now) => found = now,
            }
        };
        segments
            .iter_mut()
            .for_each(|segment| segment.flags &= !mapflags::WRITABLE);
        let tag = runtime::volume_tag(&wire(name.as_bytes()));
        Ok(self.map_reply(found.geometry(), tag, 0, segments))
    }

    /// The segments by a map that nobody keeps. Err: the map was upgraded meanwhile; where it is.
    async fn read_private(
        &self,
        found: &Found,
    ) -> Result<std::result::Result<Vec<MapSegment>, Found>> {
        let mut map = Map::new(found)?;
        let blocks = self.blocks_asked_for(found.geometry())?;
        let mut segments = Vec::new();
        for part in map.by_page(blocks) {
            let page = found.layout.page_of(part.start).0;
            if let PageState::Missing = map.want_page(page) {
                match self.current_page(found, page).await? {
                    Current::Page(bytes) => map.put_page(page, &bytes)?,
                    Current::Elsewhere(now) => return Ok(Err(now)),
                }
            }
            self.segments_of(&map, part, &mut segments);
        }
        Ok(Ok(segments))
    }

    /// The blocks that the request's range touches.
    pub(crate) fn blocks_asked_for(&self, geometry: Geometry) -> Result<Range<u64>> {
        let blocks = geometry.blocks_of(self.request.offset, self.request.size)?;
        match blocks.end - blocks.start > BLOCKS_MAX {
            true => Err(Errno::INVAL),
            false => Ok(blocks),
        }
    }

    /// Appends a segment for each block of `part`, cut to the request's range. False, and nothing
    /// appended: the page is not there.
    fn segments_of(&self, map: &Map, part: Range<u64>, out: &mut Vec<MapSegment>) -> bool {
        let before = out.len();
        for index in part {
            let Some(segment) = self.segment_of(map, index) else {
                out.truncate(before);
                return false;
            };
            out.push(segment);
        }
        true
    }

    fn segment_of(&self, map: &Map, index: u64) -> Option<MapSegment> {
        let entry = map.entry(index)?;
        let block = u64::from(map.header().geometry.block_size().bytes());
        let start = index * block;
        let from = self.request.offset.max(start);
        let to = (self.request.offset + self.request.size).min(start + block);
        let mut flags = if entry.is_zero() { mapflags::ZERO } else { 0 };
        if self.from_peer {
            let is = |yes, flag| if yes { flag } else { 0 };
            flags |= is(entry.is_archip(), mapflags::ARCHIP);
            flags |= is(map.is_writable(entry), mapflags::WRITABLE);
            flags |= is(map.header().flags.readonly, mapflags::FROZEN);
        }
        let name = wire(map.object(index, entry).as_bytes());
        Some(MapSegment {
            name,
            flags,
            offset: from - start,
            size: to - from,
        })
    }

    pub(crate) fn map_reply(
        &self,
        geometry: Geometry,
        tag: u32,
        lease: u64,
        segments: Vec<MapSegment>,
    ) -> Reply {
        let answer = Answer {
            tag,
            lease,
            volume_size: geometry.size(),
            block_size: geometry.block_size().bytes(),
            ..Answer::served(self.request.size)
        };
        Reply {
            answer,
            bytes: MapReply { segments }.encode(),
        }
    }
}
