//! CREATE and CLONE: new volumes, of given objects, of a snapshot's, or of zeros.

use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{Job, Reply};
use crate::load::Found;
use crate::naming;
use crate::order::encoded;
use crate::volume::Volume;
use mapfile::codec::ENTRY_LEN;
use mapfile::{
    BlockSize, Entry, Epoch, Geometry, Header, MapFlags, Names, ObjectName, PageNo, VolumeName,
};
use std::ops::Range;
use xseg::protocol::{CloneRequest, CreateObject, CreateRequest, mapflags};

/// Most blocks of a volume that is made or grown: 1 PiB of the usual size, 32 GiB of map. Larger
/// ones that exist are served.
const BLOCKS_MAX: u64 = 1 << 28;

/// The geometry of a volume that is made or grown. EFBIG: its map would be too large.
pub(crate) fn new_geometry(size: u64, block_size: BlockSize) -> Result<Geometry> {
    let geometry = Geometry::new(size, block_size)?;
    match geometry.block_count() > BLOCKS_MAX {
        true => Err(Errno::FBIG),
        false => Ok(geometry),
    }
}

impl Job {
    /// CLONE: parent and size are in the data; an empty parent makes a blank volume.
    pub(crate) async fn clone_volume(&self) -> Result<Reply> {
        let name = naming::new_volume_name(&self.request.target)?;
        let CloneRequest { parent, size } = CloneRequest::decode(&self.data())?;
        if parent.is_empty() {
            return self.create_blank(&name, size).await;
        }
        let parent_name = naming::volume_name(&parent)?;
        if parent_name == name {
            return Err(Errno::EXIST);
        }
        let (_parent, new) = self
            .enter_two((&parent_name, Access::Shared), (&name, Access::Alone))
            .await;
        let new = &**new.volume();
        if self.was_made_before(new).await? {
            return Ok(Reply::done());
        }
        let parent = self.lookup(&parent_name).await?;
        if !parent.header.flags.readonly {
            return Err(Errno::INVAL);
        }
        let geometry = clone_geometry(parent.geometry(), size)?;
        self.make(new, geometry, MapFlags::NONE, async |page, blocks| {
            self.cloned_page(&parent, page, blocks).await
        })
        .await
    }

    async fn create_blank(&self, name: &VolumeName, size: u64) -> Result<Reply> {
        if size == 0 {
            return Err(Errno::INVAL);
        }
        let geometry = new_geometry(size, BlockSize::DEFAULT)?;
        let new = self.enter(name, Access::Alone).await;
        let new = &**new.volume();
        if self.was_made_before(new).await? {
            return Ok(Reply::done());
        }
        self.make(new, geometry, MapFlags::NONE, async |_, blocks| {
            let mut bytes = Vec::new();
            mapfile::zeros(blocks.end - blocks.start, &mut bytes);
            Ok(bytes)
        })
        .await
    }

    /// A clone's page: the parent's entries, shared, and zeros past its end. Pages of both begin at
    /// the same blocks, because both have one block size.
    async fn cloned_page(
        &self,
        parent: &Found,
        page: PageNo,
        blocks: Range<u64>,
    ) -> Result<Vec<u8>> {
        let mut bytes = match page.0 < parent.layout.page_count() {
            true => self.forked_page(parent, page).await?.0,
            false => Vec::new(),
        };
        let shared = (bytes.len() / ENTRY_LEN) as u64;
        mapfile::zeros(
            (blocks.end - blocks.start).saturating_sub(shared),
            &mut bytes,
        );
        Ok(bytes)
    }

    /// CREATE: the objects are in the data, one for each block.
    pub(crate) async fn create(&self) -> Result<Reply> {
        let name = naming::new_volume_name(&self.request.target)?;
        let asked = CreateRequest::decode(&self.data())?;
        let block_size = BlockSize::from_request(asked.block_size)?;
        let geometry = new_geometry(self.request.size, block_size)?;
        if geometry.size() == 0 || geometry.block_count() != asked.objects.len() as u64 {
            return Err(Errno::INVAL);
        }
        for object in &asked.objects {
            ObjectName::new(&object.name)?;
        }
        let readonly = asked.flags & mapflags::READONLY != 0;
        let new = self.enter(&name, Access::Alone).await;
        let new = &**new.volume();
        if self.was_made_before(new).await? {
            return Ok(Reply::done());
        }
        let flags = MapFlags {
            readonly,
            deleted: false,
        };
        self.make(new, geometry, flags, async |_, blocks| {
            given_page(&asked.objects, blocks)
        })
        .await
    }

    /// Makes a volume that `fill` gives the entries of.
    async fn make(
        &self,
        new: &Volume,
        geometry: Geometry,
        flags: MapFlags,
        fill: impl AsyncFn(PageNo, Range<u64>) -> Result<Vec<u8>>,
    ) -> Result<Reply> {
        let name = new.name().header();
        self.with_claim(new, async |predecessor| {
            let epoch = Epoch::of_new_volume(predecessor.map(|header| header.epoch))?;
            self.write_pages(new, (&name, geometry), fill).await?;
            self.commit(
                new,
                &name,
                Header {
                    geometry,
                    flags,
                    epoch,
                },
            )
            .await
        })
        .await?;
        Ok(Reply::done())
    }
}

/// The parent's block size always (B11); its size unless a larger one is asked for.
fn clone_geometry(parent: Geometry, size: u64) -> Result<Geometry> {
    match size {
        0 => Ok(parent),
        size if size < parent.size() => Err(Errno::INVAL),
        size => new_geometry(size, parent.block_size()),
    }
}

fn given_page(objects: &[CreateObject], blocks: Range<u64>) -> Result<Vec<u8>> {
    let (mut names, first) = (Names::new(), blocks.start);
    let here = &objects[blocks.start as usize..blocks.end as usize];
    let entry = |(index, object): (u64, &CreateObject)| {
        if object.flags & mapflags::ZERO != 0 {
            return Ok(Entry::ZERO);
        }
        let writable = object.flags & mapflags::READONLY == 0;
        Ok(Entry::given(&mut names, &object.name, index, writable)?)
    };
    let entries = blocks.zip(here).map(entry).collect::<Result<Vec<_>>>()?;
    Ok(encoded(&entries, first, &names))
}
