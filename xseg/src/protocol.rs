//! Operations, flags and structures that travel in requests: the numbers of the original
//! (spec/protocol.md section 1) and our additions (operations from 64, flags from bit 8).
//!
//! Structures are decoded from private copies, never in place: a client may change shared memory
//! between a check and a use. Lengths are checked before anything is read behind them (defect B22).

mod list_page;

pub use list_page::ListPage;

use crate::name::{Name, TARGET_LEN_MAX};

/// A port number of the segment.
pub type PortNo = u32;
/// No port.
pub const NO_PORT: PortNo = u32::MAX;
/// `v0_size` of a request that does not know it.
pub const V0_SIZE_UNKNOWN: u64 = u64::MAX;
/// The block size where nobody says otherwise, bytes.
pub const BLOCK_SIZE: u32 = 4 << 20;

macro_rules! numbers {
    ($(#[$doc:meta])* $ty:ident { $($(#[$vdoc:meta])* $name:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum $ty { $($(#[$vdoc])* $name = $value,)* }
        impl $ty {
            /// All of them, in numeric order.
            pub const ALL: &'static [$ty] = &[$($ty::$name),*];
            /// `None` for a number that is none of ours.
            pub fn from_number(number: u32) -> Option<$ty> {
                match number { $($value => Some($ty::$name),)* _ => None }
            }
        }
    };
}

numbers! {
    /// What a request asks for.
    Operation {
        /// Answers that the server is there.
        Ping = 0,
        /// Reads `size` bytes at `offset`.
        Read = 1,
        /// Writes `size` bytes at `offset`; on a volume, size 0 with XF_FLUSH is a flush.
        Write = 2,
        /// Not served, as in the original.
        Sync = 3,
        /// Changes the size of a volume (new size in `offset`).
        Truncate = 4,
        /// Removes an object or a volume.
        Delete = 5,
        /// Takes a lock.
        Acquire = 6,
        /// Gives a lock back; XF_FORCE breaks it.
        Release = 7,
        /// Copies an object.
        Copy = 8,
        /// Makes a volume: blank, or from a snapshot.
        Clone = 9,
        /// Not served, as in the original.
        Commit = 10,
        /// Size of an object or a volume.
        Info = 11,
        /// The objects behind a range, to read.
        MapRead = 12,
        /// The objects behind a range, to write: made writable first.
        MapWrite = 13,
        /// Takes the volume's lock for this node.
        Open = 14,
        /// Gives the volume's lock back.
        Close = 15,
        /// Freezes a read-only copy under a new name.
        Snapshot = 16,
        /// Content hash of an object, or Merkle root of a snapshot.
        Hash = 17,
        /// Makes a map of given objects.
        Create = 18,
        /// Renames a volume.
        Rename = 19,
        /// Makes every write answered before it durable.
        Flush = 20,
        /// Brings an old map to the current version.
        Update = 21,
        /// Ours: gives a range back to the storage; it reads as zeros afterwards or as before.
        Discard = 64,
        /// Ours: makes a range read as zeros.
        Zeroes = 65,
        /// Ours: one page of the names that a storage holds.
        List = 66,
        /// Ours: what is known about a volume (JSON), or about the peer itself (empty target).
        Status = 67,
        /// Ours: who holds a lock.
        LockInfo = 68,
        /// Ours: refuse writes of a volume tag older than a generation.
        Fence = 69,
        /// Ours: make every answered write of a volume tag durable.
        SyncTag = 70,
        /// Ours: one page of moving objects out of the places of older layouts (JSON).
        Migrate = 71,
        /// Ours, between peers: answers when nobody holds a lock any more, and at the moment that
        /// `offset` says (ns of the boot clock) in any case. It takes nothing.
        AwaitLock = 72,
    }
}

/// Flags of a request.
pub mod flags {
    /// ACQUIRE, MAPW: do not wait for another node's lock.
    pub const NOSYNC: u32 = 1;
    /// Flush before.
    pub const FLUSH: u32 = 2;
    /// Durable when answered.
    pub const FUA: u32 = 4;
    /// Break whoever is in the way.
    pub const FORCE: u32 = 8;
    /// A map without a header is v0.
    pub const ASSUME_V0: u32 = 16;
    /// Ours, between peers: the write may stay volatile, a SYNC will follow.
    pub const VOLATILE: u32 = 1 << 8;
    /// Ours, between peers: the object is made as new (empty) first.
    pub const FRESH: u32 = 1 << 9;
    /// Ours: MAPW whose blocks will be wholly zero, so that nothing need be copied up.
    pub const WHOLE: u32 = 1 << 10;
    /// Ours: TRUNCATE may shrink.
    pub const SHRINK: u32 = 1 << 11;
    /// Ours, between peers: the write belongs to a map and is refused once the volume's lock is
    /// broken; the volume's name follows the data.
    pub const UNDER_LOCK: u32 = 1 << 12;
    /// Ours: MAPR that neither takes the lock nor upgrades (block status, inspection); MIGRATE
    /// that only counts.
    pub const PEEK: u32 = 1 << 13;
    /// Flags that a client of the public region may set; the others are cleared at the edge.
    pub const PUBLIC: u32 = NOSYNC | FLUSH | FUA | FORCE | ASSUME_V0 | SHRINK | PEEK;
}

/// State bits of a reply.
pub mod state {
    /// The request was served.
    pub const SERVED: u32 = 1;
    /// The request failed.
    pub const FAILED: u32 = 2;
}

/// Flags of a segment of a map reply, of a map, or of an object in CREATE.
pub mod mapflags {
    /// Read-only.
    pub const READONLY: u32 = 1;
    /// Reads as zeros; there is no object.
    pub const ZERO: u32 = 2;
    /// Ours, between peers: the object was made by Archipelago, so a missing one reads as zeros.
    pub const ARCHIP: u32 = 1 << 8;
    /// Ours, between peers: the volume's own, writable now.
    pub const WRITABLE: u32 = 1 << 9;
    /// Ours, between peers: the whole map is read-only, a snapshot's.
    pub const FROZEN: u32 = 1 << 10;
}

/// A structure whose bytes do not fit what they claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadStructure {
    /// Fewer bytes than the structure takes.
    #[error("the data of the request is shorter than its structure")]
    Short,
    /// A name length larger than its field.
    #[error("a name in the request claims more than 256 bytes")]
    NameLength,
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BadStructure> {
    let field = bytes.get(at..at + 4).ok_or(BadStructure::Short)?;
    Ok(u32::from_le_bytes(field.try_into().expect("four bytes")))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, BadStructure> {
    let field = bytes.get(at..at + 8).ok_or(BadStructure::Short)?;
    Ok(u64::from_le_bytes(field.try_into().expect("eight bytes")))
}

fn name_at(bytes: &[u8], at: usize, len: u32) -> Result<Name, BadStructure> {
    let len = usize::try_from(len).map_err(|_| BadStructure::NameLength)?;
    if len > TARGET_LEN_MAX {
        return Err(BadStructure::NameLength);
    }
    let field = bytes
        .get(at..at + TARGET_LEN_MAX)
        .ok_or(BadStructure::Short)?;
    Name::new(&field[..len]).ok_or(BadStructure::NameLength)
}

fn put_name(out: &mut [u8], at: usize, name: &Name) {
    out[at..at + name.len()].copy_from_slice(name);
}

/// A name's field is followed by its length in most structures; that is `(name, length)`.
fn put_sized_name(out: &mut [u8], at: usize, name: &Name) {
    put_name(out, at, name);
    let len_at = at + TARGET_LEN_MAX;
    out[len_at..len_at + 4].copy_from_slice(&(name.len() as u32).to_le_bytes());
}

fn sized_name_at(bytes: &[u8], at: usize) -> Result<Name, BadStructure> {
    name_at(bytes, at, u32_at(bytes, at + TARGET_LEN_MAX)?)
}

/// What each of the items behind a head is, of which the first word says how many there are. A
/// count that lies is [`BadStructure::Short`].
fn items<T>(
    bytes: &[u8],
    head: usize,
    item: usize,
    decode: impl Fn(&[u8]) -> Result<T, BadStructure>,
) -> Result<Vec<T>, BadStructure> {
    let count = u32_at(bytes, 0)? as usize;
    let items = bytes.get(head..).ok_or(BadStructure::Short)?;
    if items.len() / item < count {
        return Err(BadStructure::Short);
    }
    items.chunks_exact(item).take(count).map(decode).collect()
}

/// `xseg_request_clone`: 272 bytes; the request's target is the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneRequest {
    /// The snapshot to clone; empty for a blank volume.
    pub parent: Name,
    /// Bytes; 0 for the parent's size.
    pub size: u64,
}

impl CloneRequest {
    /// Bytes on the wire.
    pub const LEN: usize = 272;

    /// Lays the structure out.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        put_sized_name(&mut out, 0, &self.parent);
        out[264..272].copy_from_slice(&self.size.to_le_bytes());
        out
    }

    /// Reads the structure from a private copy.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadStructure> {
        Ok(CloneRequest {
            parent: sized_name_at(bytes, 0)?,
            size: u64_at(bytes, 264)?,
        })
    }
}

/// `xseg_request_copy`, `_snapshot`, `_rename`: one more name, 260 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameRequest(
    /// COPY: the source. SNAPSHOT: the snapshot. RENAME: the new name.
    pub Name,
);

impl NameRequest {
    /// Bytes on the wire.
    pub const LEN: usize = 260;

    /// Lays the structure out.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        put_sized_name(&mut out, 0, &self.0);
        out
    }

    /// Reads the structure from a private copy.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadStructure> {
        sized_name_at(bytes, 0).map(NameRequest)
    }
}

/// One object of `xseg_request_create`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateObject {
    /// The object's name.
    pub name: Name,
    /// [`mapflags`]; READONLY absent means writable.
    pub flags: u32,
}

/// `xseg_request_create`: 12 + 264 n bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// Bytes of a block; 0 for [`BLOCK_SIZE`].
    pub block_size: u32,
    /// [`mapflags`] of the map.
    pub flags: u32,
    /// One object for each block.
    pub objects: Vec<CreateObject>,
}

impl CreateRequest {
    const HEAD: usize = 12;
    const ITEM: usize = 264;

    /// Lays the structure out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; Self::HEAD + Self::ITEM * self.objects.len()];
        out[0..4].copy_from_slice(&(self.objects.len() as u32).to_le_bytes());
        out[4..8].copy_from_slice(&self.block_size.to_le_bytes());
        out[8..12].copy_from_slice(&self.flags.to_le_bytes());
        for (object, item) in self
            .objects
            .iter()
            .zip(out[Self::HEAD..].chunks_exact_mut(Self::ITEM))
        {
            put_sized_name(item, 0, &object.name);
            item[260..264].copy_from_slice(&object.flags.to_le_bytes());
        }
        out
    }

    /// Reads the structure from a private copy; a count that lies is [`BadStructure::Short`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadStructure> {
        let object = |item: &[u8]| {
            Ok(CreateObject {
                name: sized_name_at(item, 0)?,
                flags: u32_at(item, 260)?,
            })
        };
        let objects = items(bytes, Self::HEAD, Self::ITEM, object)?;
        Ok(CreateRequest {
            block_size: u32_at(bytes, 4)?,
            flags: u32_at(bytes, 8)?,
            objects,
        })
    }
}

/// One segment of `xseg_reply_map`: a part of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSegment {
    /// The object, or the zero block's name.
    pub name: Name,
    /// [`mapflags`].
    pub flags: u32,
    /// Where in the object, bytes.
    pub offset: u64,
    /// How much, bytes.
    pub size: u64,
}

/// `xseg_reply_map`: 8 + 280 n bytes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MapReply {
    /// One segment for each block, in order; their sizes add up to the request's.
    pub segments: Vec<MapSegment>,
}

impl MapReply {
    const HEAD: usize = 8;
    const ITEM: usize = 280;

    /// Bytes on the wire for `count` segments.
    pub fn len_for(count: usize) -> usize {
        Self::HEAD + Self::ITEM * count
    }

    /// Lays the structure out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; Self::len_for(self.segments.len())];
        out[0..4].copy_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for (segment, item) in self
            .segments
            .iter()
            .zip(out[Self::HEAD..].chunks_exact_mut(Self::ITEM))
        {
            put_name(item, 0, &segment.name);
            item[256..260].copy_from_slice(&segment.flags.to_le_bytes());
            item[260..264].copy_from_slice(&(segment.name.len() as u32).to_le_bytes());
            item[264..272].copy_from_slice(&segment.offset.to_le_bytes());
            item[272..280].copy_from_slice(&segment.size.to_le_bytes());
        }
        out
    }

    /// Reads the structure from a private copy.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadStructure> {
        let segment = |item: &[u8]| {
            Ok(MapSegment {
                name: name_at(item, 0, u32_at(item, 260)?)?,
                flags: u32_at(item, 256)?,
                offset: u64_at(item, 264)?,
                size: u64_at(item, 272)?,
            })
        };
        let segments = items(bytes, Self::HEAD, Self::ITEM, segment)?;
        Ok(MapReply { segments })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Name> {
        proptest::collection::vec(any::<u8>(), 0..=256).prop_map(|b| Name::new(&b).unwrap())
    }

    #[test]
    fn the_sizes_are_those_of_the_original() {
        let objects = vec![
            CreateObject {
                name: Name::EMPTY,
                flags: 0
            };
            2
        ];
        let create = CreateRequest {
            block_size: 0,
            flags: 0,
            objects,
        };
        assert_eq!(create.encode().len(), 12 + 264 * 2);
        assert_eq!(MapReply::len_for(3), 8 + 280 * 3);
    }

    proptest! {
        #[test]
        fn structures_round_trip(a in name(), size: u64, flags: u32, offset: u64) {
            let clone = CloneRequest { parent: a, size };
            prop_assert_eq!(CloneRequest::decode(&clone.encode()), Ok(clone));
            prop_assert_eq!(NameRequest::decode(&NameRequest(a).encode()), Ok(NameRequest(a)));
            let reply = MapReply { segments: vec![MapSegment { name: a, flags, offset, size }] };
            prop_assert_eq!(MapReply::decode(&reply.encode()), Ok(reply));
            let create = CreateRequest {
                block_size: flags, flags, objects: vec![CreateObject { name: a, flags }; 3],
            };
            prop_assert_eq!(CreateRequest::decode(&create.encode()), Ok(create));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = CloneRequest::decode(&bytes);
            let _ = NameRequest::decode(&bytes);
            let _ = CreateRequest::decode(&bytes);
            let _ = MapReply::decode(&bytes);
        }
    }

    #[test]
    fn counts_and_lengths_that_lie_are_refused() {
        let mut create = CreateRequest {
            block_size: 0,
            flags: 0,
            objects: vec![CreateObject {
                name: Name::EMPTY,
                flags: 0,
            }],
        }
        .encode();
        create[0] = 2;
        assert_eq!(CreateRequest::decode(&create), Err(BadStructure::Short));
        create[0] = 1;
        create[12 + 256 + 1] = 2;
        assert_eq!(
            CreateRequest::decode(&create),
            Err(BadStructure::NameLength)
        );
    }
}
