//! Finding a map and reading it, page by page.
//!
//! What always holds: only "there is no such object" means that a name is free; whatever cannot be
//! read or is no map stands in the way of creation (B3).

use crate::ask::Side;
use crate::errno::{Errno, Result};
use crate::job::Job;
use crate::map::{Map, PageState};
use crate::naming::wire;
use crate::volume::Volume;
use mapfile::layout::MapLayout;
use mapfile::recognise::HEAD_LEN;
use mapfile::{
    Entry, FormatError, Header, HeaderName, MapObject, Names, PageNo, Recognised, Version,
    VolumeName,
};

/// A map that was found: where it is, not what its entries are.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) header_name: HeaderName,
    /// The header as v2 says it, whatever the version.
    pub(crate) header: Header,
    pub(crate) layout: MapLayout,
}

impl Found {
    pub(crate) fn version(&self) -> Version {
        self.layout.version()
    }

    pub(crate) fn pages(&self) -> impl Iterator<Item = PageNo> + use<> {
        (0..self.layout.page_count()).map(PageNo)
    }
}

/// What a name leads to.
pub(crate) enum Looked {
    /// No object of that name.
    Nothing,
    /// A map, perhaps a deleted one.
    Map(Found),
    /// Something that is no map, or none that can be read.
    Foreign(FormatError),
}

/// Whose chunks are not there: the entries of a page, or nothing.
pub(crate) type Page = Option<Vec<u8>>;

impl Job {
    /// Looks at one header object.
    pub(crate) async fn look(&self, header_name: &HeaderName) -> Result<Looked> {
        let object = wire(header_name.as_bytes());
        let Some(len) = self.object_size(Side::Maps, &object).await? else {
            return Ok(Looked::Nothing);
        };
        let Some(head) = self.read_map(&object, 0, HEAD_LEN as u64).await? else {
            return Ok(Looked::Nothing);
        };
        let recognised = match mapfile::recognise(&head, len, self.v0_hint()) {
            Ok(Recognised::V0Tail(tail)) => {
                let range = tail.range();
                let bytes = self
                    .read_map(&object, range.start, range.end - range.start)
                    .await?;
                tail.settle(&bytes.ok_or(Errno::IO)?).map(Recognised::V0)
            }
            other => other,
        };
        Ok(match recognised {
            Ok(recognised) => match (recognised.as_v2(), recognised.layout()) {
                (Some(header), Some(layout)) => Looked::Map(Found {
                    header_name: header_name.clone(),
                    header,
                    layout,
                }),
                _ => Looked::Foreign(FormatError::Foreign),
            },
            Err(FormatError::Absent) => Looked::Nothing,
            Err(error) => Looked::Foreign(error),
        })
    }

    /// The map of a volume that exists: under its own name, or in the old layout. ENOENT: there is
    /// none, or it is deleted.
    pub(crate) async fn lookup(&self, name: &VolumeName) -> Result<Found> {
        let looked = match (self.look(&name.header()).await?, name.fallback_header()) {
            (Looked::Nothing, Some(old)) => self.look(&old).await?,
            (looked, _) => looked,
        };
        match looked {
            Looked::Map(found) if !found.header.flags.deleted => Ok(found),
            Looked::Map(_) | Looked::Nothing => Err(Errno::NOENT),
            Looked::Foreign(error) => {
                tracing::warn!(volume = %name, %error, "no map can be read under this name");
                Err(error.into())
            }
        }
    }

    /// The stored bytes of a page; `None`: the object that should hold it is not there.
    pub(crate) async fn read_page(&self, found: &Found, page: PageNo) -> Result<Page> {
        let place = found.layout.page_place(page);
        let object = match place.object {
            MapObject::Header => found.header_name.as_object(),
            chunk => chunk.name(&found.header_name),
        };
        self.read_map(&wire(object.as_bytes()), place.offset, place.len)
            .await
    }

    /// The entries of a page, for an operation that goes through the whole map and keeps none.
    pub(crate) async fn entries_of(
        &self,
        found: &Found,
        page: PageNo,
        names: &mut Names,
    ) -> Result<Vec<Entry>> {
        let bytes = self.read_page(found, page).await?.ok_or_else(|| {
            tracing::error!(map = %found.header_name, page = page.0, "a chunk of the map is missing");
            Errno::IO
        })?;
        let first = found.layout.page_blocks(page).start;
        mapfile::decode(found.version(), &bytes, first, names).map_err(|error| {
            tracing::error!(map = %found.header_name, %error, "a map can't be read");
            error.into()
        })
    }

    /// Makes sure that the page which holds block `index` is cached.
    pub(crate) async fn ensure_page(&self, volume: &Volume, index: u64) -> Result<()> {
        loop {
            let step = volume.with_map(|map| {
                let page = map.layout().page_of(index).0;
                (map.want_page(page), page, map.found())
            })?;
            match step {
                (PageState::Ready, ..) => return Ok(()),
                (PageState::Loading, ..) => volume.changed.notified().await,
                (PageState::Missing, page, found) => {
                    let read = self.read_page(&found, page).await;
                    let put = volume.with_map(|map| match read {
                        Ok(Some(bytes)) => map.put_page(page, &bytes),
                        Ok(None) => {
                            map.give_up_page(page);
                            Err(Errno::IO)
                        }
                        Err(errno) => {
                            map.give_up_page(page);
                            Err(errno)
                        }
                    });
                    volume.changed.notify_all();
                    put??;
                }
            }
        }
    }

    /// A map of one's own, not cached: for operations without the lock.
    pub(crate) async fn private_map(&self, name: &VolumeName) -> Result<(Found, Map)> {
        let found = self.lookup(name).await?;
        let map = Map::new(&found)?;
        Ok((found, map))
    }
}
