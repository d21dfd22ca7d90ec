//! Tables for the name rules of `spec/choices.md` and `spec/cli.md` section 2.

use super::*;
use crate::header::Epoch;

#[test]
fn lengths_are_checked_at_both_ends() {
    assert_eq!(
        VolumeName::new(b"five5"),
        Err(NameError::TooShort { len: 5, min: 6 })
    );
    assert!(VolumeName::new(b"sixsix").is_ok());
    assert!(VolumeName::new(&[b'a'; 82]).is_ok());
    assert_eq!(
        VolumeName::new(&[b'a'; 83]),
        Err(NameError::TooLong { len: 83, max: 82 })
    );
    assert!(ObjectName::new(&[b'a'; 123]).is_ok());
    assert!(ObjectName::new(&[b'a'; 124]).is_err());
}

#[test]
fn a_name_cannot_leave_its_directory() {
    assert_eq!(VolumeName::new(b"../../../abcdefg"), Err(NameError::Slash));
    assert_eq!(VolumeName::new(b"volume\0x"), Err(NameError::Nul));
    assert_eq!(ObjectName::new(b"."), Err(NameError::Dots));
    assert_eq!(ObjectName::new(b".."), Err(NameError::Dots));
    assert!(VolumeName::new(b"8b7c.ext.disk0").is_ok());
}

#[test]
fn reserved_forms_load_but_are_not_created() {
    let table: [(&[u8], ReservedForm); 4] = [
        (b"archip_volume", ReservedForm::ArchipPrefix),
        (b"volume_lock", ReservedForm::LockSuffix),
        (b"vol_0123456789abcdef", ReservedForm::HexRun),
        (b"vol_0123456789abcdef0-more", ReservedForm::HexRun),
    ];
    for (name, form) in table {
        assert!(VolumeName::new(name).is_ok());
        assert_eq!(
            VolumeName::for_creation(name),
            Err(NameError::Reserved(form))
        );
    }
}

#[test]
fn names_that_look_reserved_but_are_not() {
    let table: [&[u8]; 6] = [
        b"vol_0123456789ABCDEF",
        b"vol_0123456789abcde",
        b"snf_file_1234567",
        b"volume_locked",
        b"myarchip_volume",
        &[b'a'; 64],
    ];
    for name in table {
        assert!(VolumeName::for_creation(name).is_ok(), "{}", Escaped(name));
    }
}

#[test]
fn object_names_are_put_together_and_taken_apart() {
    let header = VolumeName::new(b"goldvol1").unwrap().header();
    let object = header.object(Epoch(2), 0x1f);
    assert_eq!(
        object.as_bytes(),
        b"goldvol1_0000000000000002_000000000000001f"
    );
    let parts = split_object(object.as_bytes()).unwrap();
    assert_eq!(parts, (b"goldvol1".as_slice(), Epoch(2), 0x1f));
    assert_eq!(header.chunk(1).as_bytes(), b"goldvol1_0000000000000001");
    assert_eq!(header.lock().as_bytes(), b"goldvol1_lock");
}

#[test]
fn other_forms_are_no_own_objects() {
    let table: [&[u8]; 4] = [
        b"_0000000000000002_000000000000001f",
        b"goldvol1_000000000000000G_000000000000001f",
        b"goldvol1_000000000000000A_000000000000001f",
        b"goldvol1x0000000000000002_000000000000001f",
    ];
    for name in table {
        assert_eq!(split_object(name), None, "{}", Escaped(name));
    }
}

#[test]
fn the_longest_volume_name_has_room_for_everything() {
    let volume = VolumeName::new(&[b'v'; 82]).unwrap();
    let header = volume.fallback_header().unwrap();
    assert_eq!(header.as_bytes().len(), 89);
    assert_eq!(
        header.object(Epoch(u64::MAX), u64::MAX).as_bytes().len(),
        123
    );
}

#[test]
fn only_unprefixed_names_fall_back() {
    let fallback = |name| VolumeName::new(name).unwrap().fallback_header();
    assert_eq!(
        fallback(b"legacyv1a").unwrap().as_bytes(),
        b"archip_legacyv1a"
    );
    assert_eq!(fallback(b"archip_legacyv1a"), None);
}

#[test]
fn names_print_escaped() {
    let table: [(&[u8], &str); 4] = [
        (b"plain.name-1", "plain.name-1"),
        ("données".as_bytes(), "données"),
        (b"bell\x07\x1b[31m", "bell\\x07\\x1b[31m"),
        (b"back\\slash\xff", "back\\\\slash\\xff"),
    ];
    for (name, shown) in table {
        assert_eq!(VolumeName::new(name).unwrap().to_string(), shown);
    }
}
