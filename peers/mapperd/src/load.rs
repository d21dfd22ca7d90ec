//! Finding a map and reading it, page by page.
//!
//! What always holds: only "there is no such object" means that a name is free; whatever cannot be
//! read or is no map stands in the way of creation (B3).

use crate::ask::Side;
use crate::errno::{Errno, Result};
use crate::job::Job;
use crate::map::PageState;
use crate::naming::{volume_of, wire};
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

/// A page of a map that others may upgrade.
pub(crate) enum Current {
    /// Its stored bytes.
    Page(Vec<u8>),
    /// The map was upgraded or moved: where it is now.
    Elsewhere(Found),
}

fn unreadable(found: &Found, error: FormatError) -> Errno {
    tracing::error!(map = %found.header_name, %error, "a map can't be read");
    error.into()
}

fn missing_chunk(found: &Found, page: PageNo) -> Errno {
    tracing::error!(map = %found.header_name, page = page.0, "a chunk of the map is missing");
    Errno::IO
}

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
        match self.look_in_both(name).await? {
            Looked::Map(found) if !found.header.flags.deleted => Ok(found),
            Looked::Map(_) | Looked::Nothing => Err(Errno::NOENT),
            Looked::Foreign(error) => {
                tracing::warn!(volume = %name, %error, "no map can be read under this name");
                Err(error.into())
            }
        }
    }

    /// New, old, new again: another node may be moving it meanwhile.
    async fn look_in_both(&self, name: &VolumeName) -> Result<Looked> {
        let (new, old) = (name.header(), name.fallback_header());
        match (self.look(&new).await?, old) {
            (Looked::Nothing, Some(old)) => match self.look(&old).await? {
                Looked::Map(found) if !found.header.flags.deleted => Ok(Looked::Map(found)),
                Looked::Foreign(error) => Ok(Looked::Foreign(error)),
                Looked::Map(_) | Looked::Nothing => self.look(&new).await,
            },
            (looked, _) => Ok(looked),
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

    /// The stored bytes of a page of a map that is not deleted, whose chunks are there.
    pub(crate) async fn need_page(&self, found: &Found, page: PageNo) -> Result<Vec<u8>> {
        let read = self.read_page(found, page).await?;
        read.ok_or_else(|| missing_chunk(found, page))
    }

    /// The entries of a page, for an operation that goes through the whole map and keeps none.
    pub(crate) async fn entries_of(
        &self,
        found: &Found,
        page: PageNo,
        names: &mut Names,
    ) -> Result<Vec<Entry>> {
        let (found, bytes) = self.settled_page(found, page).await?;
        let first = found.layout.page_blocks(page).start;
        let decoded = mapfile::decode(found.version(), &bytes, first, names);
        decoded.map_err(|error| unreadable(&found, error))
    }

    /// What a snapshot or a clone stores of a page; and whether that differs from what is stored.
    pub(crate) async fn forked_page(&self, found: &Found, page: PageNo) -> Result<(Vec<u8>, bool)> {
        let (found, bytes) = self.settled_page(found, page).await?;
        let first = found.layout.page_blocks(page).start;
        let mut forked = Vec::new();
        mapfile::fork(found.version(), &bytes, first, &mut forked)
            .map_err(|error| unreadable(&found, error))?;
        let differs = forked != bytes;
        Ok((forked, differs))
    }

    /// The stored bytes of a page, and the map as it was then.
    async fn settled_page(&self, found: &Found, page: PageNo) -> Result<(Found, Vec<u8>)> {
        let mut found = found.clone();
        loop {
            match self.current_page(&found, page).await? {
                Current::Page(bytes) => return Ok((found, bytes)),
                Current::Elsewhere(now) => found = now,
            }
        }
    }

    /// A page of a map that is read without its lock. Another node may upgrade an old one
    /// meanwhile, which puts a header where its first entries were, or may move it to its new name:
    /// what was read counts only if the map is still what it was when it was found.
    pub(crate) async fn current_page(&self, found: &Found, page: PageNo) -> Result<Current> {
        let read = self.read_page(found, page).await?;
        match read {
            Some(bytes) if found.version() == Version::V2 => return Ok(Current::Page(bytes)),
            _ => {}
        }
        let now = self.lookup(&volume_of(&found.header_name)?).await?;
        if now.header_name == found.header_name && now.version() == found.version() {
            let bytes = read.ok_or_else(|| missing_chunk(found, page))?;
            return Ok(Current::Page(bytes));
        }
        if now.geometry().block_count() != found.geometry().block_count() {
            tracing::error!(map = %found.header_name, "another map has its name now");
            return Err(Errno::IO);
        }
        Ok(Current::Elsewhere(now))
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
                    let read = self.need_page(&found, page).await;
                    let put = volume.with_map(|map| match read {
                        Ok(bytes) => map.put_page(page, &bytes),
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
}
