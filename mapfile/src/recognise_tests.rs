//! Tables for [`recognise`]: the three formats, their padded forms, and every kind of damage.

use super::*;

const BLOCK: u64 = 4 << 20;
const ASK: Option<V0Hint> = Some(V0Hint { size: None });

fn sized(size: u64) -> Option<V0Hint> {
    Some(V0Hint { size: Some(size) })
}

fn geometry(size: u64) -> Geometry {
    Geometry::new(size, BlockSize::DEFAULT).unwrap()
}

fn v0(entries: usize) -> Vec<u8> {
    vec![0xab; entries * 32]
}

fn v1(size: u64) -> Vec<u8> {
    let mut map = V1_START.to_vec();
    map.extend(size.to_le_bytes());
    map.resize(12 + 33 * size.div_ceil(BLOCK) as usize, 0xab);
    map
}

fn padded(mut map: Vec<u8>) -> Vec<u8> {
    map.resize(map.len().next_multiple_of(512), 0);
    map
}

fn of(map: &[u8], hint: Option<V0Hint>) -> Result<Recognised, FormatError> {
    let head = &map[..map.len().min(HEAD_LEN)];
    recognise(head, map.len() as u64, hint)
}

#[test]
fn a_v2_header_wins_whatever_the_request_allows() {
    let header = Header {
        geometry: geometry(10),
        flags: MapFlags::NONE,
        epoch: Epoch(1),
    };
    for map in [header.encode().to_vec(), padded(header.encode().to_vec())] {
        assert_eq!(of(&map, None), Ok(Recognised::V2(header)));
        assert_eq!(of(&map, ASK), Ok(Recognised::V2(header)));
    }
}

/// 32 bytes of a damaged v2 header are as long as a v0 map of one block. Taking them for one
/// would let an upgrade overwrite what is left of the header.
#[test]
fn a_damaged_v2_header_never_becomes_a_v0_map() {
    let header = Header {
        geometry: geometry(10),
        flags: MapFlags::NONE,
        epoch: Epoch(1),
    };
    let mut map = header.encode();
    map[7] = 9;
    assert_eq!(of(&map, ASK), Err(FormatError::Version(9)));
}

/// B10: the original read a v1 map as v0 when the request allowed v0, as Ganeti's always does.
#[test]
fn a_v1_map_stays_v1_when_v0_is_allowed() {
    for size in [BLOCK, 14 << 20, 100 * BLOCK + 1] {
        for map in [v1(size), padded(v1(size))] {
            for hint in [None, ASK, sized(size), sized(1)] {
                assert_eq!(of(&map, hint), Ok(Recognised::V1(geometry(size))));
            }
        }
    }
}

#[test]
fn a_v0_map_may_begin_like_v1() {
    let mut map = v0(3);
    map[..4].copy_from_slice(&V1_START);
    assert_eq!(of(&map, ASK), Ok(Recognised::V0(geometry(3 * BLOCK))));
    assert!(matches!(of(&map, None), Err(FormatError::Oversize(_))));
}

#[test]
fn v0_needs_to_be_asked_for() {
    assert_eq!(of(&v0(3), None), Err(FormatError::Foreign));
    assert_eq!(of(&v0(3), ASK), Ok(Recognised::V0(geometry(3 * BLOCK))));
}

/// The calls that were made against the original in the golden stage `01-nomigrate-info`.
#[test]
fn a_v0_size_must_need_exactly_the_entries_there_are() {
    assert_eq!(
        of(&v0(3), sized(10_485_883)),
        Ok(Recognised::V0(geometry(10_485_883)))
    );
    assert_eq!(
        of(&v0(3), sized(10_485_783)),
        Ok(Recognised::V0(geometry(10_485_783)))
    );
    let error = FormatError::Count {
        file_len: 96,
        size: 14_680_187,
        need: 4,
    };
    assert_eq!(of(&v0(3), sized(14_680_187)), Err(error));
    assert_eq!(of(&v0(2), sized(0)), Err(FormatError::ZeroSize));
}

#[test]
fn v0_padding_is_not_counted() {
    for entries in [1, 3, 15, 16, 17, 40] {
        let size = entries as u64 * BLOCK;
        for hint in [ASK, sized(size)] {
            let map = padded(v0(entries));
            let geometry = match of(&map, hint).unwrap() {
                Recognised::V0(geometry) => geometry,
                Recognised::V0Tail(tail) => {
                    let range = tail.range();
                    tail.settle(&map[range.start as usize..range.end as usize])
                        .unwrap()
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(geometry.size(), size);
        }
    }
}

/// B28: the original stopped at the first all-zero entry and served the rest as if it had never
/// been there. A whole sector of zeros is an error at once; a blank entry that no padding explains
/// is counted, and the decoder refuses it.
#[test]
fn a_v0_map_that_lost_its_end_is_not_shortened() {
    let mut map = v0(32);
    map[512..].fill(0);
    let Ok(Recognised::V0Tail(tail)) = of(&map, ASK) else {
        panic!("unsettled")
    };
    let error = FormatError::Entry {
        index: 16,
        fault: EntryFault::Blank,
    };
    assert_eq!(tail.settle(&map[512..]), Err(error));

    let mut map = v0(20);
    map[19 * 32..].fill(0);
    let Ok(Recognised::V0(geometry)) = of(&map, ASK) else {
        panic!("settled")
    };
    assert_eq!(geometry.block_count(), 20);
}

#[test]
fn a_given_size_is_checked_against_the_padding() {
    let mut map = padded(v0(3));
    map[3 * 32 + 5] = 1;
    let error = FormatError::Count {
        file_len: 512,
        size: 3 * BLOCK,
        need: 3,
    };
    assert_eq!(of(&map, sized(3 * BLOCK)), Err(error));
}

#[test]
fn every_damage_has_its_own_error() {
    let cut_v1 = &v1(14 << 20)[..100];
    let huge_v1 = [&V1_START[..], &[0xff; 8]].concat();
    let table: [(&[u8], Option<V0Hint>, FormatError); 9] = [
        (b"", ASK, FormatError::Absent),
        (
            b"AMF.\0\0\0\x02",
            None,
            FormatError::Short { have: 8, need: 32 },
        ),
        (b"AM", None, FormatError::Short { have: 2, need: 12 }),
        (&V1_START, None, FormatError::Short { have: 4, need: 12 }),
        (
            cut_v1,
            None,
            FormatError::Truncated {
                have: 100,
                need: 144,
            },
        ),
        (&huge_v1, None, FormatError::Oversize(u64::MAX)),
        (&[0; 512], None, FormatError::Foreign),
        (b"neither one nor the other", None, FormatError::Foreign),
        (&[0xab; 33], ASK, FormatError::Ragged(33)),
    ];
    for (bytes, hint, error) in table {
        assert_eq!(of(bytes, hint), Err(error));
    }
}

#[test]
fn zeros_that_a_blocker_appends_are_not_part_of_the_object() {
    let mut head = v0(2);
    head.resize(512, 0);
    assert_eq!(
        recognise(&head, 64, ASK),
        Ok(Recognised::V0(geometry(2 * BLOCK)))
    );
    assert_eq!(recognise(&head, 0, ASK), Err(FormatError::Absent));
}

#[test]
fn an_upgrade_keeps_size_and_rights() {
    let v0 = Recognised::V0(geometry(10)).as_v2().unwrap();
    assert_eq!(
        (v0.flags, v0.epoch, v0.geometry.size()),
        (MapFlags::SNAPSHOT, Epoch(0), 10)
    );
    let v1 = Recognised::V1(geometry(10)).as_v2().unwrap();
    assert_eq!(
        (v1.flags, v1.epoch, v1.geometry.size()),
        (MapFlags::NONE, Epoch(0), 10)
    );
}
