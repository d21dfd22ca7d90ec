//! Names as they travel, and what they name.
//!
//! `X` and `archip_X` are one volume in two layouts (0.4 and 0.3): both are served under the name
//! `X`, its gate, tag and lock. Where both headers exist the new one counts, and the old name is
//! refused, so that nobody deletes one by naming the other.

use crate::errno::Result;
use mapfile::name::ARCHIP_PREFIX;
use mapfile::{HeaderName, VolumeName};
use xseg::Name;

/// Shortest name of a volume, bytes.
const NAME_LEN_MIN: usize = 6;

/// A name of ours in the form that requests carry.
pub(crate) fn wire(name: &[u8]) -> Name {
    Name::new(name).expect("names of volumes and objects are shorter than targets")
}

/// The part of `target` behind the prefix of the old layout, if it has both.
fn without_prefix(target: &[u8]) -> Option<&[u8]> {
    target
        .strip_prefix(ARCHIP_PREFIX)
        .filter(|rest| rest.len() >= NAME_LEN_MIN)
}

/// Whether `target` names a volume by its header of the old layout.
pub(crate) fn is_old_name(target: &[u8]) -> bool {
    without_prefix(target).is_some()
}

/// The volume that `target` names: as loading allows, reserved forms included.
pub(crate) fn volume_name(target: &[u8]) -> Result<VolumeName> {
    Ok(VolumeName::new(without_prefix(target).unwrap_or(target))?)
}

/// The name of a volume that is to be made: no reserved form.
pub(crate) fn new_volume_name(target: &[u8]) -> Result<VolumeName> {
    Ok(VolumeName::for_creation(target)?)
}

/// The volume whose map begins in `header`.
pub(crate) fn volume_of(header: &HeaderName) -> Result<VolumeName> {
    volume_name(header.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;

    #[test]
    fn both_layouts_are_one_volume() {
        assert_eq!(volume_name(b"archip_volume").unwrap().as_bytes(), b"volume");
        assert_eq!(
            volume_name(b"archip_vol").unwrap().as_bytes(),
            b"archip_vol"
        );
        assert_eq!(
            volume_name(b"volume_lock").unwrap().as_bytes(),
            b"volume_lock"
        );
    }

    #[test]
    fn bad_names_have_their_errno() {
        for (name, errno) in [
            (&b"short"[..], Errno::INVAL),
            (b"../../etc", Errno::INVAL),
            (b"archip_volume", Errno::INVAL),
            (b"volume_lock", Errno::INVAL),
            (b"volume_0000000000000001", Errno::INVAL),
            (&[b'x'; 83], Errno::NAMETOOLONG),
        ] {
            assert_eq!(new_volume_name(name), Err(errno), "{}", name.escape_ascii());
        }
    }
}
