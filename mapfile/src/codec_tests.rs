//! Stored entries, byte for byte, and every kind of damage.

use super::*;
use crate::name::NameError;

const OWN: &[u8] = b"goldvol1_0000000000000002_0000000000000000";
const HASH: &[u8] = b"e8b8d9bfa7cabcc729a51c7776ec3ce5ce06d88eeb677d9e1b6979d0e06b9ec0";

fn stored(flags: u8, name: &[u8]) -> [u8; 128] {
    let mut entry = [0; 128];
    entry[0] = flags;
    entry[1] = name.len() as u8;
    entry[5..5 + name.len()].copy_from_slice(name);
    entry
}

fn fault_of(version: Version, entry: &[u8]) -> EntryFault {
    match decode(version, entry, 7, &mut Names::new()) {
        Err(FormatError::Entry { index: 7, fault }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn v2_entries_come_back_byte_for_byte() {
    let strange_index = b"goldvol1_0000000000000002_0000000000000009";
    let archip = [b"archip_", HASH].concat();
    let names_seen: [&[u8]; 6] = [OWN, strange_index, HASH, &archip, b"x", &[0xff; 123]];
    for name in names_seen {
        for flags in 0..=0x0f {
            let mut names = Names::new();
            let entry = decode(Version::V2, &stored(flags, name), 0, &mut names).unwrap()[0];
            assert_eq!(entry.name(&names, 0).as_bytes(), name);
            assert_eq!(encode_one(entry, 0, &names), stored(flags, name));
        }
    }
}

#[test]
fn a_slice_keeps_its_order_and_its_first_index() {
    let mut names = Names::new();
    let second = b"goldvol1_0000000000000002_0000000000000fff";
    let first = b"goldvol1_0000000000000002_0000000000000ffe";
    let bytes = [stored(3, first), stored(2, second)].concat();
    let entries = decode(Version::V2, &bytes, 0xffe, &mut names).unwrap();
    assert_eq!(names.count(), 1, "both are the own objects of one series");
    let mut again = Vec::new();
    encode(&entries, 0xffe, &names, &mut again);
    assert_eq!(again, bytes);
}

#[test]
fn v0_and_v1_entries_become_v2_as_the_original_upgraded_them() {
    let mut names = Names::new();
    let hash = crate::name::parse_hash(HASH).unwrap();
    let v0 = [hash, crate::entry::ZERO_BLOCK].concat();
    let v0 = decode(Version::V0, &v0, 0, &mut names).unwrap();
    assert_eq!(encode_one(v0[0], 0, &names), stored(0, HASH));
    assert_eq!(v0[1], Entry::ZERO);

    let v1 = [
        &[1][..],
        &hash,
        &[0],
        &hash,
        &[0],
        &crate::entry::ZERO_BLOCK,
    ]
    .concat();
    let v1 = decode(Version::V1, &v1, 0, &mut names).unwrap();
    assert_eq!(
        encode_one(v1[0], 0, &names),
        stored(3, &[b"archip_", HASH].concat())
    );
    assert_eq!(encode_one(v1[1], 1, &names), stored(0, HASH));
    assert_eq!(v1[2], Entry::ZERO);
}

#[test]
fn damage_is_named_with_its_block() {
    let mut long = stored(3, OWN);
    long[1..5].copy_from_slice(&124u32.to_le_bytes());
    let mut huge = stored(3, OWN);
    huge[4] = 0x80;
    let mut cut = stored(3, OWN);
    cut[1] -= 1;
    let table = [
        (stored(0, b""), EntryFault::Blank),
        (
            stored(4, b""),
            EntryFault::Name(NameError::TooShort { len: 0, min: 1 }),
        ),
        (stored(0x13, OWN), EntryFault::Flags(0x13)),
        (long, EntryFault::Length(124)),
        (huge, EntryFault::Length(0x8000_002a)),
        (cut, EntryFault::Padding),
        (
            stored(3, b"../../../etc"),
            EntryFault::Name(NameError::Slash),
        ),
    ];
    for (entry, fault) in table {
        assert_eq!(fault_of(Version::V2, &entry), fault);
    }
}

/// B28: a legal v0 map holds no such entry, and the original took it for the map's end.
#[test]
fn blank_hashes_are_damage() {
    assert_eq!(fault_of(Version::V0, &[0; 32]), EntryFault::Blank);
    assert_eq!(fault_of(Version::V1, &[0; 33]), EntryFault::Blank);
    assert_eq!(fault_of(Version::V1, &[2; 33]), EntryFault::Flags(2));
}

#[test]
fn a_slice_that_is_cut_off_is_refused() {
    for (version, len, need) in [
        (Version::V0, 33, 64),
        (Version::V1, 32, 33),
        (Version::V2, 127, 128),
    ] {
        let error = decode(version, &vec![1; len], 0, &mut Names::new()).unwrap_err();
        assert_eq!(
            error,
            FormatError::Truncated {
                have: len as u64,
                need
            }
        );
    }
    assert_eq!(decode(Version::V2, &[], 0, &mut Names::new()), Ok(vec![]));
}
