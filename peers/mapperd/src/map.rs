//! A map in memory: its header, and the pages of entries that somebody needed.
//!
//! What always holds: an entry here is what the stored map holds, or will hold before anybody is
//! told; a page may go at any moment between two steps of an operation. An entry is *busy* while
//! its object is being made, and nobody else touches it then.

use crate::errno::{Errno, Result};
use crate::load::Found;
use mapfile::layout::MapLayout;
use mapfile::{Entry, Header, HeaderName, Names, ObjectName, Owner, PageNo};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Most pages that a map keeps: 16 million entries, 128 MiB.
const PAGES_MAX: usize = 4096;

/// The map of one volume.
pub(crate) struct Map {
    header_name: HeaderName,
    header: Header,
    layout: MapLayout,
    names: Names,
    owner: Owner,
    pages: BTreeMap<PageNo, Vec<Entry>>,
    loading: BTreeSet<PageNo>,
    busy: BTreeSet<u64>,
}

/// What somebody who needs a page has to do.
pub(crate) enum PageState {
    /// Nothing.
    Ready,
    /// Wait: another loads it.
    Loading,
    /// Load it, and call [`Map::put_page`] or [`Map::give_up_page`].
    Missing,
}

impl Map {
    /// A map of which nothing is loaded but the header.
    pub(crate) fn new(found: &Found) -> Result<Map> {
        let mut names = Names::new();
        let owner = names.owner(&found.header_name, found.header.epoch)?;
        Ok(Map {
            header_name: found.header_name.clone(),
            header: found.header,
            layout: found.layout,
            names,
            owner,
            pages: BTreeMap::new(),
            loading: BTreeSet::new(),
            busy: BTreeSet::new(),
        })
    }

    pub(crate) fn header(&self) -> Header {
        self.header
    }

    pub(crate) fn layout(&self) -> MapLayout {
        self.layout
    }

    /// Where the map is, without its entries.
    pub(crate) fn found(&self) -> Found {
        Found {
            header_name: self.header_name.clone(),
            header: self.header,
            layout: self.layout,
        }
    }

    /// Whether `page` is there; if not, the caller may have to load it.
    pub(crate) fn want_page(&mut self, page: PageNo) -> PageState {
        if self.pages.contains_key(&page) {
            PageState::Ready
        } else if self.loading.insert(page) {
            PageState::Missing
        } else {
            PageState::Loading
        }
    }

    /// Takes a page's stored bytes.
    pub(crate) fn put_page(&mut self, page: PageNo, bytes: &[u8]) -> Result<()> {
        self.loading.remove(&page);
        let first = self.layout.page_blocks(page).start;
        let version = self.layout.version();
        let entries = mapfile::decode(version, bytes, first, &mut self.names).map_err(|error| {
            tracing::error!(map = %self.header_name, %error, "a map can't be read");
            Errno::from(error)
        })?;
        if self.pages.len() >= PAGES_MAX {
            self.evict();
        }
        self.pages.insert(page, entries);
        Ok(())
    }

    /// Drops the page that was loaded least far into the volume and has no busy entry.
    fn evict(&mut self) {
        let idle = |page: &PageNo| {
            self.busy
                .range(self.layout.page_blocks(*page))
                .next()
                .is_none()
        };
        let victim = self.pages.keys().copied().find(idle);
        if let Some(page) = victim {
            self.pages.remove(&page);
        }
    }

    /// The page could not be loaded.
    pub(crate) fn give_up_page(&mut self, page: PageNo) {
        self.loading.remove(&page);
    }

    /// The entry of block `index`; `None`: its page is not loaded.
    pub(crate) fn entry(&self, index: u64) -> Option<Entry> {
        let (page, at) = self.layout.page_of(index);
        self.pages.get(&page)?.get(at).copied()
    }

    /// Changes the entry of block `index`, if its page is loaded.
    pub(crate) fn set_entry(&mut self, index: u64, entry: Entry) {
        let (page, at) = self.layout.page_of(index);
        if let Some(slot) = self
            .pages
            .get_mut(&page)
            .and_then(|entries| entries.get_mut(at))
        {
            *slot = entry;
        }
    }

    /// The blocks of `range`, cut where pages end.
    pub(crate) fn by_page(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        let (layout, end) = (self.layout, range.end);
        let mut next = range.start;
        std::iter::from_fn(move || {
            let start = (next < end).then_some(next)?;
            next = layout.page_blocks(layout.page_of(start).0).end.min(end);
            Some(start..next)
        })
    }

    pub(crate) fn is_busy(&self, index: u64) -> bool {
        self.busy.contains(&index)
    }

    pub(crate) fn set_busy(&mut self, index: u64) {
        self.busy.insert(index);
    }

    pub(crate) fn clear_busy(&mut self, index: u64) {
        self.busy.remove(&index);
    }

    pub(crate) fn object(&self, index: u64, entry: Entry) -> ObjectName {
        entry.name(&self.names, index)
    }

    pub(crate) fn is_writable(&self, entry: Entry) -> bool {
        entry.is_writable(&self.names, self.owner)
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }
}
