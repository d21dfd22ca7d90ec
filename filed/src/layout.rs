//! Where the object of a name lies: three directories of two bytes each, then the name.
//!
//! Three places (`spec/choices.md`, "Looking for a name"): *hashed*, by the first three bytes of
//! sha256(NAME) in hex, is where new objects are made; for names of 64 hex digits their own first
//! six characters (Pithos until 0.15); for names that begin with `archip_` the six characters after
//! that (Archipelago 0.3). No place is outside the root: `..` is never one of the directories.

use driver::{Digest, Name};
use sha2::Digest as _;
use std::ffi::CString;

/// Names of 0.3 begin with it.
pub(crate) const LEGACY_PREFIX: &[u8] = b"archip_";

/// Three directories, of two bytes each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place([[u8; 2]; 3]);

impl Place {
    /// Where a new object of this name is made.
    pub(crate) fn hashed(name: &[u8]) -> Place {
        let hash: [u8; 32] = sha2::Sha256::digest(name).into();
        let hex = Digest::from_bytes(&hash);
        Place::from_six(hex.0.first_chunk().expect("64 digits hold 6"))
    }

    /// Where an object of this name may have been left by an older layout; of one name in
    /// millions that is where a new one is made too, which is `None`.
    pub(crate) fn legacy(name: &Name) -> Option<Place> {
        let own = match name.strip_prefix(LEGACY_PREFIX) {
            Some(rest) => rest,
            None if name.is_hash() => name.as_bytes(),
            None => return None,
        };
        let place = Place::from_six(own.first_chunk()?);
        let elsewhere = !place.0.contains(b"..") && place != Place::hashed(name);
        elsewhere.then_some(place)
    }

    /// It as a number, by which places are ordered.
    pub(crate) fn number(&self) -> u64 {
        crate::walk::number(self.0, 3, 0)
    }

    /// The place that a walk has come to.
    pub(crate) fn walked(dirs: [[u8; 2]; 3]) -> Place {
        Place(dirs)
    }

    fn from_six(six: &[u8; 6]) -> Place {
        let [a, b, c, d, e, f] = *six;
        Place([[a, b], [c, d], [e, f]])
    }

    /// The same for all places with the same first `depth` directories.
    pub(crate) fn upto(mut self, depth: usize) -> Place {
        self.0[depth..].fill([0; 2]);
        self
    }

    /// The path of its first `depth` directories; `.` for none.
    pub(crate) fn dir(&self, depth: usize) -> CString {
        if depth == 0 {
            return c".".to_owned();
        }
        c_path(&self.0[..depth].join(&b'/'))
    }

    /// The path of `name` in it.
    pub(crate) fn path(&self, name: &[u8]) -> CString {
        let mut path = self.0.join(&b'/');
        path.push(b'/');
        path.extend_from_slice(name);
        c_path(&path)
    }
}

/// Paths are made of names and hex digits, and neither holds a NUL.
fn c_path(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("no NUL in a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(place: Place, name: &str) -> String {
        place.path(name.as_bytes()).into_string().unwrap()
    }

    #[test]
    fn the_three_places() {
        let name = Name::try_from("goldvol1").unwrap();
        // printf goldvol1 | sha256sum
        assert_eq!(path(Place::hashed(&name), "goldvol1"), "96/42/c5/goldvol1");
        assert_eq!(Place::legacy(&name), None);
        let hash = "0123456789abcdef".repeat(4);
        let legacy = Place::legacy(&Name::try_from(hash.as_str()).unwrap()).unwrap();
        assert_eq!(path(legacy, "x"), "01/23/45/x");
        let old = Name::try_from("archip_legacyv1b").unwrap();
        let legacy = Place::legacy(&old).unwrap();
        assert_eq!(
            path(legacy, "archip_legacyv1b"),
            "le/ga/cy/archip_legacyv1b"
        );
        assert_eq!(legacy.dir(0).to_bytes(), b".");
        assert_eq!(legacy.dir(2).to_bytes(), b"le/ga");
    }

    /// The bug this forbids: `archip_......x` would be looked for three levels above the root.
    #[test]
    fn no_place_is_outside() {
        for name in [
            "archip_......",
            "archip_ab..cd",
            "archip_abcd..x",
            "archip_abcde",
        ] {
            assert_eq!(
                Place::legacy(&Name::try_from(name).unwrap()),
                None,
                "{name}"
            );
        }
    }
}
