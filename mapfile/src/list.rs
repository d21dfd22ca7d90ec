//! What a scan of the map storage shows, told from an object's name and its first 32 bytes
//! (`spec/cli.md` section 2, "`list` rules"). A scan must not fail on what it meets, so that
//! nothing here is an error: an object is a map or it is passed over.

use crate::header::{HEADER_LEN, MapFlags, SIGNATURE, be_u32};
use crate::name::{ARCHIP_PREFIX, is_hash_name};
use crate::recognise::V1_START;

/// A map, as far as a scan can tell. Deleted ones are included; hiding them is the caller's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Version of the format; for a foreign header whatever it says.
    pub version: u32,
    /// Read-only, deleted.
    pub flags: MapFlags,
}

/// Tells whether the object is the header of a map. `head` is its first 32 bytes, or all of it.
///
/// The rule for v0 is stricter than the original's (any 64 bytes that begin with a hexadecimal
/// digit), because the chunk of a volume with a name of 47 bytes has 64 too, and v0 maps are
/// always named by a hash.
pub fn classify(object_name: &[u8], head: &[u8]) -> Option<Listing> {
    if let Some(header) = head
        .first_chunk::<HEADER_LEN>()
        .filter(|h| h.starts_with(&SIGNATURE))
    {
        let flags = MapFlags::from_known_bits(be_u32(header, 20));
        return Some(Listing {
            version: be_u32(header, 4),
            flags,
        });
    }
    if head.starts_with(&V1_START) {
        return Some(Listing {
            version: 1,
            flags: MapFlags::NONE,
        });
    }
    (is_hash_name(object_name) && head.len() >= HEADER_LEN && !head.starts_with(&SIGNATURE))
        .then_some(Listing {
            version: 0,
            flags: MapFlags::SNAPSHOT,
        })
}

/// The name under which a map is listed, given that of its header object.
pub fn shown_name(object_name: &[u8]) -> &[u8] {
    object_name
        .strip_prefix(ARCHIP_PREFIX)
        .unwrap_or(object_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockSize, Epoch, Geometry, Header};

    fn header(flags: MapFlags) -> [u8; 32] {
        let geometry = Geometry::new(1, BlockSize::DEFAULT).unwrap();
        Header {
            geometry,
            flags,
            epoch: Epoch(1),
        }
        .encode()
    }

    #[test]
    fn maps_of_all_versions_are_seen() {
        let deleted = MapFlags {
            readonly: true,
            deleted: true,
        };
        let v2 = Listing {
            version: 2,
            flags: deleted,
        };
        assert_eq!(classify(b"volume", &header(deleted)), Some(v2));
        let v1 = Listing {
            version: 1,
            flags: MapFlags::NONE,
        };
        assert_eq!(classify(b"archip_volume", b"\x01\0\0\0and so on"), Some(v1));
        let v0 = Listing {
            version: 0,
            flags: MapFlags::SNAPSHOT,
        };
        assert_eq!(classify(&[b'a'; 64], &[0xab; 32]), Some(v0));
    }

    #[test]
    fn chunks_locks_and_rubbish_are_passed_over() {
        let entry = b"\x03\x2a\0\0\0goldvol1_0000000000000002_000";
        let uuid_chunk = b"0a1b2c3d-0000-0000-0000-000000000000.ext.disk10_0000000000000000";
        assert_eq!(uuid_chunk.len(), 64);
        assert_eq!(classify(uuid_chunk, entry), None);
        assert_eq!(classify(b"goldvol1_lock", b"refhost_1002"), None);
        assert_eq!(classify(&[b'a'; 64], b"too short"), None);
        assert_eq!(classify(b"volume", &header(MapFlags::NONE)[..20]), None);
    }

    #[test]
    fn the_old_prefix_is_not_shown() {
        assert_eq!(shown_name(b"archip_legacyv1a"), b"legacyv1a");
        assert_eq!(shown_name(b"goldvol1"), b"goldvol1");
    }
}
