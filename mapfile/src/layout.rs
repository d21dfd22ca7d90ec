//! In which object, and at which byte, the entry of a block lives; and how a map is cut into
//! *pages*, the pieces that are loaded on demand.
//!
//! Always: a page lies in one object without gaps, never crosses a chunk, and takes at most
//! [`PAGE_BYTES`] on disk, so that one page is one request.
//!
//! ```text
//!  v0   header object:  | e0 | e1 | e2 | ...            32 bytes each
//!  v1   header object:  | 12 bytes | e0 | e1 | ...      33 bytes each
//!  v2   NAME_0..0:      | e0 | e1 | ... |               128 bytes each, as many as fit a block
//!       NAME_0..1:      | ...                           (32768 at 4 MiB)
//! ```
//! Source: `spec/protocol.md` section 3.

use crate::geometry::{Geometry, V2_ENTRY_LEN};
use crate::name::{HeaderName, ObjectName};
use crate::recognise::{V0_ENTRY_LEN, V1_ENTRY_LEN, V1_HEADER_LEN};
use std::ops::Range;

/// Most bytes that a page takes on disk: the piece in which the original read and wrote maps.
pub const PAGE_BYTES: u64 = 512 << 10;
/// Most entries in one page, in every format.
pub const PAGE_ENTRIES: u64 = PAGE_BYTES / V2_ENTRY_LEN;

/// The format in which a map is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Bare hashes (Pithos before Archipelago).
    V0,
    /// Hashes with a flag each (Archipelago 0.3).
    V1,
    /// Header, and chunks of named entries (0.4 and ours).
    V2,
}

impl Version {
    /// Bytes of one stored entry.
    pub fn entry_len(self) -> u64 {
        match self {
            Version::V0 => V0_ENTRY_LEN,
            Version::V1 => V1_ENTRY_LEN,
            Version::V2 => V2_ENTRY_LEN,
        }
    }

    /// The number by which users know the format.
    pub fn number(self) -> u32 {
        match self {
            Version::V0 => 0,
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }
}

/// One of the objects that make up a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapObject {
    /// The object that is named like the map.
    Header,
    /// The chunk object with this number.
    Chunk(u64),
}

impl MapObject {
    /// The object's name, given that of the header object.
    pub fn name(self, header: &HeaderName) -> ObjectName {
        match self {
            MapObject::Header => header.as_object(),
            MapObject::Chunk(chunk) => header.chunk(chunk),
        }
    }
}

/// Bytes of one object of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The object.
    pub object: MapObject,
    /// First byte in it.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// The index of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(pub u64);

/// Where the entries of one map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapLayout {
    version: Version,
    geometry: Geometry,
}

impl MapLayout {
    /// The layout of a map of this format and geometry.
    pub fn new(version: Version, geometry: Geometry) -> Self {
        MapLayout { version, geometry }
    }

    /// The format.
    pub fn version(self) -> Version {
        self.version
    }

    /// Sizes and counts.
    pub fn geometry(self) -> Geometry {
        self.geometry
    }

    /// Where the entry of block `index` is stored.
    ///
    /// # Panics
    /// If the volume has no such block.
    pub fn place(self, index: u64) -> Place {
        assert!(
            index < self.geometry.block_count(),
            "block {index} is past the end of the map"
        );
        let len = self.version.entry_len();
        let (object, offset) = match self.version {
            Version::V0 => (MapObject::Header, index * len),
            Version::V1 => (MapObject::Header, V1_HEADER_LEN + index * len),
            Version::V2 => {
                let per_chunk = self.geometry.block_size().entries_per_chunk();
                (MapObject::Chunk(index / per_chunk), index % per_chunk * len)
            }
        };
        Place {
            object,
            offset,
            len,
        }
    }

    /// Entries of a full page: a power of two, at most [`PAGE_ENTRIES`].
    pub fn entries_per_page(self) -> u64 {
        PAGE_ENTRIES.min(self.geometry.block_size().entries_per_chunk())
    }

    /// Pages of the map.
    pub fn page_count(self) -> u64 {
        self.geometry
            .block_count()
            .div_ceil(self.entries_per_page())
    }

    /// The page that holds the entry of block `index`, and the entry's position in it.
    pub fn page_of(self, index: u64) -> (PageNo, usize) {
        let per_page = self.entries_per_page();
        (PageNo(index / per_page), (index % per_page) as usize)
    }

    /// The blocks whose entries are in `page`.
    ///
    /// # Panics
    /// If the map has no such page.
    pub fn page_blocks(self, page: PageNo) -> Range<u64> {
        assert!(
            page.0 < self.page_count(),
            "page {} is past the end of the map",
            page.0
        );
        let first = page.0 * self.entries_per_page();
        first..(first + self.entries_per_page()).min(self.geometry.block_count())
    }

    /// Where `page` is stored; exactly the entries of its blocks.
    ///
    /// # Panics
    /// If the map has no such page.
    pub fn page_place(self, page: PageNo) -> Place {
        let blocks = self.page_blocks(page);
        let first = self.place(blocks.start);
        Place {
            len: (blocks.end - blocks.start) * self.version.entry_len(),
            ..first
        }
    }

    /// All objects of the map, chunks first: the order in which a new map is written, because the
    /// header is the commit point.
    pub fn objects(self) -> impl Iterator<Item = MapObject> {
        let chunks = match self.version {
            Version::V2 => self.geometry.chunk_count(),
            Version::V0 | Version::V1 => 0,
        };
        (0..chunks).map(MapObject::Chunk).chain([MapObject::Header])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{BlockSize, MAX_SIZE};

    fn layout(version: Version, blocks: u64) -> MapLayout {
        let size = blocks * u64::from(BlockSize::DEFAULT.bytes());
        MapLayout::new(version, Geometry::new(size, BlockSize::DEFAULT).unwrap())
    }

    #[test]
    fn entries_are_where_the_formats_say() {
        let chunk = MapObject::Chunk;
        let table = [
            (Version::V0, 3, MapObject::Header, 96, 32),
            (Version::V1, 3, MapObject::Header, 111, 33),
            (Version::V2, 3, chunk(0), 384, 128),
            (Version::V2, 32767, chunk(0), 4194176, 128),
            (Version::V2, 32768, chunk(1), 0, 128),
        ];
        for (version, index, object, offset, len) in table {
            assert_eq!(
                layout(version, 40000).place(index),
                Place {
                    object,
                    offset,
                    len
                }
            );
        }
    }

    #[test]
    fn pages_cover_every_entry_once_and_agree_with_places() {
        for version in [Version::V0, Version::V1, Version::V2] {
            let layout = layout(version, 40000);
            let mut next = 0;
            for page in (0..layout.page_count()).map(PageNo) {
                let (blocks, place) = (layout.page_blocks(page), layout.page_place(page));
                assert_eq!(blocks.start, next);
                assert!(place.len <= PAGE_BYTES);
                let last = layout.place(blocks.end - 1);
                assert_eq!(layout.place(blocks.start).offset, place.offset);
                assert_eq!(
                    (last.object, last.offset + last.len),
                    (place.object, place.offset + place.len)
                );
                assert_eq!(layout.page_of(blocks.end - 1).0, page);
                next = blocks.end;
            }
            assert_eq!(next, 40000);
        }
    }

    #[test]
    fn small_blocks_make_small_pages() {
        let geometry = Geometry::new(MAX_SIZE, BlockSize::new(256).unwrap()).unwrap();
        let layout = MapLayout::new(Version::V2, geometry);
        assert_eq!(layout.entries_per_page(), 2);
        let last = PageNo(layout.page_count() - 1);
        let place = Place {
            object: MapObject::Chunk(last.0),
            offset: 0,
            len: 256,
        };
        assert_eq!(layout.page_place(last), place);
    }

    #[test]
    fn the_header_comes_last() {
        let objects: Vec<_> = layout(Version::V2, 40000).objects().collect();
        assert_eq!(
            objects,
            [MapObject::Chunk(0), MapObject::Chunk(1), MapObject::Header]
        );
        assert_eq!(layout(Version::V1, 40000).objects().count(), 1);
    }
}
