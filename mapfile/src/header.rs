//! The header of a v2 map, and the epochs that keep object names unique.
//!
//! 32 bytes at the start of the header object, all numbers big-endian (`spec/protocol.md`
//! section 3, `spec/observed.md` point 2). Whatever follows is not looked at: an upgraded v0 map
//! keeps its old hashes there. Writing these 32 bytes is the commit point of every change that
//! touches a whole map.
//!
//! ```text
//!  0         4         8                  16         20      24                 32
//!  | "AMF."  | version | size in bytes    | block    | flags | epoch            |
//!  |         | = 2     |                  | size     |       |                  |
//! ```

use crate::error::FormatError;
use crate::geometry::{BlockSize, Geometry};

/// Bytes of a v2 header.
pub const HEADER_LEN: usize = 32;
/// First bytes of a v2 header.
pub const SIGNATURE: [u8; 4] = *b"AMF.";
/// The version number that this header carries.
pub const VERSION: u32 = 2;

/// Counts the lives and the snapshots of a volume. New objects carry it in their names, so that
/// `(volume, epoch)` is never used twice (`spec/protocol.md` section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Of what never owned an object: snapshots, and maps that come from v0 or v1.
    pub const NONE: Epoch = Epoch(0);

    /// The epoch that follows; an error at the end, where names would repeat.
    pub fn next(self) -> Result<Epoch, FormatError> {
        self.0
            .checked_add(1)
            .map(Epoch)
            .ok_or(FormatError::EpochsExhausted)
    }

    /// The epoch of a volume made by create, clone or rename, given that of the deleted map whose
    /// name it takes (`spec/choices.md`, "A deleted name").
    pub fn of_new_volume(predecessor: Option<Epoch>) -> Result<Epoch, FormatError> {
        predecessor.unwrap_or(Epoch::NONE).next()
    }

    /// The epoch of a new snapshot, likewise. It is 0 unless the name was used before.
    pub fn of_new_snapshot(predecessor: Option<Epoch>) -> Result<Epoch, FormatError> {
        predecessor.map_or(Ok(Epoch::NONE), Epoch::next)
    }
}

/// What holds for a map as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MapFlags {
    /// The map is a snapshot, a hashed map or came from v0: nothing in it may change.
    pub readonly: bool,
    /// The volume is gone; the header stays so that its epochs are not reused.
    pub deleted: bool,
}

impl MapFlags {
    const READONLY: u32 = 1;
    const DELETED: u32 = 2;

    /// Neither read-only nor deleted.
    pub const NONE: MapFlags = MapFlags {
        readonly: false,
        deleted: false,
    };
    /// Read-only, not deleted.
    pub const SNAPSHOT: MapFlags = MapFlags {
        readonly: true,
        deleted: false,
    };

    fn parse(bits: u32) -> Result<MapFlags, FormatError> {
        match bits & !(Self::READONLY | Self::DELETED) {
            0 => Ok(MapFlags::from_known_bits(bits)),
            unknown => Err(FormatError::Flags(unknown)),
        }
    }

    /// Takes the bits that are defined and ignores the rest.
    pub(crate) fn from_known_bits(bits: u32) -> MapFlags {
        MapFlags {
            readonly: bits & Self::READONLY != 0,
            deleted: bits & Self::DELETED != 0,
        }
    }

    /// The flags as stored.
    pub fn bits(self) -> u32 {
        let readonly = if self.readonly { Self::READONLY } else { 0 };
        let deleted = if self.deleted { Self::DELETED } else { 0 };
        readonly | deleted
    }
}

/// A v2 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Size and block size of the volume.
    pub geometry: Geometry,
    /// Read-only, deleted.
    pub flags: MapFlags,
    /// Goes into the names of objects that are made from now on.
    pub epoch: Epoch,
}

impl Header {
    /// Reads the header at the start of `bytes`, which may go on after it.
    pub fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            let (have, need) = (bytes.len() as u64, HEADER_LEN as u64);
            return Err(FormatError::Short { have, need });
        };
        if bytes[..4] != SIGNATURE {
            return Err(FormatError::Foreign);
        }
        let version = be_u32(bytes, 4);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        Ok(Header {
            geometry: Geometry::new(be_u64(bytes, 8), BlockSize::new(be_u32(bytes, 16))?)?,
            flags: MapFlags::parse(be_u32(bytes, 20))?,
            epoch: Epoch(be_u64(bytes, 24)),
        })
    }

    /// The bytes to store.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&SIGNATURE);
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.geometry.size().to_be_bytes());
        bytes[16..20].copy_from_slice(&self.geometry.block_size().bytes().to_be_bytes());
        bytes[20..24].copy_from_slice(&self.flags.bits().to_be_bytes());
        bytes[24..].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes
    }
}

/// The big-endian u32 at `at`.
pub(crate) fn be_u32(header: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|i| header[at + i]))
}

fn be_u64(header: &[u8; HEADER_LEN], at: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| header[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of `spec/observed.md` point 2: a volume of 10 MiB in epoch 1.
    const OBSERVED: [u8; 32] = [
        0x41, 0x4d, 0x46, 0x2e, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0xa0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 1,
    ];

    fn with(at: usize, bytes: &[u8]) -> [u8; 32] {
        let mut header = OBSERVED;
        header[at..at + bytes.len()].copy_from_slice(bytes);
        header
    }

    #[test]
    fn the_observed_header_is_read_and_written() {
        let header = Header::parse(&OBSERVED).unwrap();
        assert_eq!(header.geometry.size(), 10 << 20);
        assert_eq!(header.geometry.block_size(), BlockSize::DEFAULT);
        assert_eq!((header.flags, header.epoch), (MapFlags::NONE, Epoch(1)));
        assert_eq!(header.encode(), OBSERVED);
    }

    #[test]
    fn every_damage_has_its_own_error() {
        let table: [(&[u8], FormatError); 6] = [
            (&OBSERVED[..31], FormatError::Short { have: 31, need: 32 }),
            (&with(0, b"AMG."), FormatError::Foreign),
            (&with(7, &[3]), FormatError::Version(3)),
            (&with(19, &[1]), FormatError::BlockSize(0x40_0001)),
            (&with(20, &[0x80]), FormatError::Flags(0x8000_0000)),
            (
                &with(8, &[0x80]),
                FormatError::Oversize(0x8000_0000_00a0_0000),
            ),
        ];
        for (bytes, error) in table {
            assert_eq!(Header::parse(bytes), Err(error));
        }
    }

    #[test]
    fn epochs_start_where_the_predecessor_ended() {
        assert_eq!(Epoch::of_new_volume(None), Ok(Epoch(1)));
        assert_eq!(Epoch::of_new_volume(Some(Epoch(4))), Ok(Epoch(5)));
        assert_eq!(Epoch::of_new_snapshot(None), Ok(Epoch(0)));
        assert_eq!(Epoch::of_new_snapshot(Some(Epoch(4))), Ok(Epoch(5)));
        assert_eq!(Epoch(u64::MAX).next(), Err(FormatError::EpochsExhausted));
    }
}
