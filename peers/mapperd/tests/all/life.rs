//! What operations leave in storage, byte for byte as the original did (spec/observed.md), but for
//! what spec/choices.md changes on purpose.

use crate::audit;
use crate::rig::*;
use xseg::protocol::{Operation, flags, mapflags};

const MIB: u64 = 1 << 20;

fn zero() -> (u8, String) {
    (4, ZERO_NAME.to_owned())
}

#[test]
fn a_new_volume_is_a_header_and_zero_entries() {
    let mut rig = Rig::new();
    rig.create("goldvol1", 10 * MIB).unwrap();
    assert_eq!(
        rig.header("goldvol1"),
        "414d462e000000020000000000a0000000400000000000000000000000000001"
    );
    assert_eq!(rig.stored("goldvol1").unwrap().len(), 32);
    assert_eq!(
        rig.stored("goldvol1_0000000000000000").unwrap().len(),
        3 * 128
    );
    assert_eq!(rig.entries("goldvol1"), [zero(), zero(), zero()]);
    assert_eq!(rig.info("goldvol1"), Ok(10 * MIB));
    assert_eq!(rig.maps.names().len(), 2);
    assert!(!rig.is_locked("goldvol1"));
}

/// blockerm answered RELEASE as if it were LOCKINFO, with a report larger than the request had room
/// for. The buffer that it took for that was mapperd's to free, mapperd did not know of it, and
/// after some four thousand creations, snapshots or closings no small buffer was left.
#[test]
fn giving_a_lock_back_costs_no_buffer() {
    let mut rig = Rig::new();
    rig.create("goldvol1", 10 * MIB).unwrap();
    rig.snapshot("goldvol1", "goldsnap1").unwrap();
    rig.rename("goldvol1", "goldvol2").unwrap();
    rig.simple(Operation::Delete, "goldvol2").unwrap();
    assert_eq!(rig.buffers_in_use(), 0);
}

#[test]
fn snapshot_copy_on_write_and_clone() {
    let mut rig = Rig::new();
    rig.create("goldvol1", 10 * MIB).unwrap();
    rig.write("goldvol1", 100, b"before").unwrap();
    let own = |epoch, index| object("goldvol1", epoch, index);
    assert_eq!(rig.entries("goldvol1"), [(3, own(1, 0)), zero(), zero()]);
    rig.snapshot("goldvol1", "goldsnap1").unwrap();
    assert_eq!(
        rig.header("goldvol1"),
        "414d462e000000020000000000a0000000400000000000000000000000000002"
    );
    assert_eq!(
        rig.header("goldsnap1"),
        "414d462e000000020000000000a0000000400000000000010000000000000000"
    );
    for map in ["goldvol1", "goldsnap1"] {
        assert_eq!(rig.entries(map), [(2, own(1, 0)), zero(), zero()], "{map}");
    }
    rig.write("goldvol1", 200, b"after").unwrap();
    assert_eq!(rig.entries("goldvol1")[0], (3, own(2, 0)));
    let old = rig.block(own(1, 0).as_bytes()).unwrap();
    let new = rig.block(own(2, 0).as_bytes()).unwrap();
    assert_eq!(
        (&old[100..], &new[100..106], &new[200..]),
        (&b"before"[..], &b"before"[..], &b"after"[..])
    );
    rig.clone_of("goldsnap1", "goldclone1", 18 * MIB).unwrap();
    let clone = rig.entries("goldclone1");
    assert_eq!(clone, [(2, own(1, 0)), zero(), zero(), zero(), zero()]);
    rig.write("goldclone1", 0, b"clone").unwrap();
    assert_eq!(
        rig.entries("goldclone1")[0],
        (3, object("goldclone1", 1, 0))
    );
    assert_eq!(rig.read("goldclone1", 98, 10).unwrap(), b"\0\0before\0\0");
    audit::check(&rig);
}

#[test]
fn delete_and_use_the_name_again() {
    let mut rig = Rig::new();
    rig.create("golddel01", 10 * MIB).unwrap();
    rig.write("golddel01", 4096, b"x").unwrap();
    rig.write("golddel01", 9 * MIB, b"x").unwrap();
    rig.simple(Operation::Delete, "golddel01").unwrap();
    assert_eq!(
        rig.header("golddel01"),
        "414d462e000000020000000000a0000000400000000000020000000000000001"
    );
    let own = |epoch, index| object("golddel01", epoch, index);
    assert_eq!(
        rig.entries("golddel01"),
        [(15, own(1, 0)), zero(), (15, own(1, 2))]
    );
    assert!(rig.blocks.names().is_empty());
    assert!(!rig.is_locked("golddel01"));
    for op in [
        Operation::Info,
        Operation::Open,
        Operation::Delete,
        Operation::MapRead,
    ] {
        assert_eq!(rig.simple(op, "golddel01"), Err(libc::ENOENT), "{op:?}");
    }
    rig.create("golddel01", 6 * MIB).unwrap();
    rig.write("golddel01", 5 * MIB, b"x").unwrap();
    let gone = (15, own(1, 2));
    assert_eq!(
        rig.entries("golddel01"),
        [zero(), (3, own(2, 1)), gone],
        "the chunk is not cut"
    );
    audit::check(&rig);
}

#[test]
fn a_deleted_name_serves_snapshots_and_renames_too() {
    let mut rig = Rig::new();
    for old in ["oldsnap", "oldname"] {
        rig.create(old, BLOCK).unwrap();
        rig.simple(Operation::Delete, old).unwrap();
    }
    rig.create("volume", BLOCK).unwrap();
    rig.snapshot("volume", "oldsnap").unwrap();
    assert!(
        rig.header("oldsnap").ends_with("000000010000000000000002"),
        "epoch 2, read-only"
    );
    rig.rename("volume", "oldname").unwrap();
    assert!(rig.header("oldname").ends_with("000000000000000000000002"));
    audit::check(&rig);
}

#[test]
fn rename_keeps_the_objects() {
    let mut rig = Rig::new();
    rig.create("goldren01", 8 * MIB).unwrap();
    rig.write("goldren01", 0, b"kept").unwrap();
    rig.rename("goldren01", "goldren02").unwrap();
    assert!(
        rig.header("goldren01")
            .ends_with("000000020000000000000001")
    );
    assert!(
        rig.stored("goldren01_0000000000000000").is_none(),
        "its map block goes"
    );
    assert!(
        rig.header("goldren02")
            .ends_with("000000000000000000000001")
    );
    assert_eq!(rig.info("goldren01"), Err(libc::ENOENT));
    rig.write("goldren02", 5 * MIB, b"new").unwrap();
    assert_eq!(
        rig.entries("goldren02"),
        [
            (3, object("goldren01", 1, 0)),
            (3, object("goldren02", 1, 1))
        ]
    );
    rig.snapshot("goldren02", "goldrsnp1").unwrap();
    rig.write("goldren02", 0, b"n").unwrap();
    assert_eq!(rig.entries("goldren02")[0].1, object("goldren02", 2, 0));
    assert_eq!(rig.read("goldren02", 0, 4).unwrap(), b"nept");
    assert_eq!(rig.create("goldren02", 1), Err(libc::EEXIST));
    audit::check(&rig);
}

#[test]
fn a_renamed_volume_survives_the_use_of_its_old_name() {
    let mut rig = Rig::new();
    rig.create("first1", BLOCK).unwrap();
    rig.write("first1", 0, b"kept").unwrap();
    rig.rename("first1", "second").unwrap();
    rig.create("first1", BLOCK).unwrap();
    rig.write("first1", 0, b"else").unwrap();
    rig.simple(Operation::Delete, "first1").unwrap();
    rig.create("first1", BLOCK).unwrap();
    assert_eq!(rig.read("second", 0, 4).unwrap(), b"kept");
    rig.simple(Operation::Delete, "second").unwrap();
    assert!(
        rig.block(object("first1", 1, 0).as_bytes()).is_none(),
        "it owned that object"
    );
    audit::check(&rig);
}

#[test]
fn create_of_given_objects() {
    let mut rig = Rig::new();
    let objects = [
        ("aaaaaaaa", mapflags::READONLY),
        ("bbbbbbbb", 0),
        (ZERO_NAME, 0),
    ];
    let (request, data) = create_request("goldcreat1", 10 * MIB, 0, 0, &objects);
    rig.call(request, &data, 0).unwrap();
    assert_eq!(
        rig.entries("goldcreat1"),
        [(0, "aaaaaaaa".into()), (1, "bbbbbbbb".into()), zero()]
    );
    assert!(
        rig.header("goldcreat1")
            .ends_with("00400000000000000000000000000001")
    );
    let (_, segments) = rig
        .map(Operation::MapWrite, "goldcreat1", BLOCK, 10)
        .unwrap();
    assert_eq!(
        &*segments[0].name, b"bbbbbbbb",
        "writable objects keep their names"
    );
    let (request, data) = create_request("snf_file_1", BLOCK, 0, mapflags::READONLY, &objects[..1]);
    rig.call(request, &data, 0).unwrap();
    assert_eq!(
        rig.map(Operation::MapWrite, "snf_file_1", 0, 1)
            .unwrap_err(),
        libc::EROFS
    );
    let (_, segments) = rig.map(Operation::MapRead, "snf_file_1", 0, 10).unwrap();
    assert_eq!(
        (&*segments[0].name, segments[0].flags),
        (&b"aaaaaaaa"[..], mapflags::FROZEN),
        "a peer is told that the map is read-only"
    );
}

#[test]
fn many_chunks_and_pages() {
    let mut rig = Rig::new();
    // Blocks of 4 KiB: 32 entries in a chunk; 200 blocks make 7 chunks.
    let objects = vec![("zzzzzzzz", 0); 200];
    let (request, data) = create_request("manychunks", 200 * 4096, 4096, 0, &objects);
    rig.call(request, &data, 0).unwrap();
    assert_eq!(
        rig.stored("manychunks_0000000000000006").unwrap().len(),
        8 * 128
    );
    let (answer, segments) = rig
        .map(Operation::MapRead, "manychunks", 100, 199 * 4096)
        .unwrap();
    assert_eq!(
        (segments.len(), answer.block_size, answer.volume_size),
        (200, 4096, 200 * 4096)
    );
    assert_eq!((segments[0].offset, segments[0].size), (100, 3996));
    assert_eq!((segments[199].offset, segments[199].size), (0, 100));
    rig.snapshot("manychunks", "manysnap").unwrap();
    rig.map(Operation::MapWrite, "manychunks", 31 * 4096, 2 * 4096)
        .unwrap_err();
    rig.clone_of("manysnap", "manyclone", 300 * 4096).unwrap();
    let (answer, segments) = rig
        .map(Operation::MapRead, "manyclone", 0, 300 * 4096)
        .unwrap();
    assert_eq!(answer.block_size, 4096, "B11: the parent's block size");
    assert_eq!(
        segments
            .iter()
            .filter(|s| s.flags & mapflags::ZERO != 0)
            .count(),
        100
    );
}

#[test]
fn truncate_up_and_down() {
    let mut rig = Rig::new();
    rig.create("goldtrc01", 6 * MIB).unwrap();
    rig.write("goldtrc01", 5 * MIB, b"tail").unwrap();
    rig.truncate("goldtrc01", 13 * MIB, 0).unwrap();
    let own = object("goldtrc01", 1, 1);
    assert_eq!(
        rig.entries("goldtrc01"),
        [zero(), (3, own.clone()), zero(), zero()]
    );
    assert_eq!(rig.info("goldtrc01"), Ok(13 * MIB));
    assert_eq!(
        rig.truncate("goldtrc01", 3 * MIB, 0),
        Err(libc::EINVAL),
        "shrinking is asked for"
    );
    rig.truncate("goldtrc01", 3 * MIB, flags::SHRINK).unwrap();
    assert_eq!(rig.info("goldtrc01"), Ok(3 * MIB));
    assert!(
        rig.block(own.as_bytes()).is_none(),
        "the tail's object goes"
    );
    rig.truncate("goldtrc01", 6 * MIB, 0).unwrap();
    assert_eq!(rig.read("goldtrc01", 5 * MIB, 4).unwrap(), [0; 4]);
    assert!(rig.is_locked("goldtrc01"), "it was open before");
    rig.simple(Operation::Close, "goldtrc01").unwrap();
    rig.truncate("goldtrc01", 7 * MIB, 0).unwrap();
    assert!(!rig.is_locked("goldtrc01"), "it was not open before");
}

#[test]
fn snapshots_are_read_only() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    assert_eq!(rig.simple(Operation::Open, "snapshot"), Err(libc::EROFS));
    assert!(!rig.is_locked("snapshot"), "EROFS keeps no lock");
    assert_eq!(
        rig.map(Operation::MapWrite, "snapshot", 0, 1).unwrap_err(),
        libc::EROFS
    );
    assert!(!rig.is_locked("snapshot"));
    assert_eq!(rig.snapshot("snapshot", "snapsnap"), Err(libc::EROFS));
    assert_eq!(rig.rename("snapshot", "newname"), Err(libc::EROFS));
    assert_eq!(rig.truncate("snapshot", 2 * BLOCK, 0), Err(libc::EROFS));
    assert!(!rig.is_locked("snapshot") && !rig.is_locked("snapsnap") && !rig.is_locked("newname"));
    rig.map(Operation::MapRead, "snapshot", 0, 1).unwrap();
    assert_eq!(rig.info("snapshot"), Ok(BLOCK));
    rig.simple(Operation::Close, "snapshot").unwrap();
    rig.simple(Operation::Delete, "snapshot").unwrap();
    assert!(rig.header("snapshot").ends_with("000000030000000000000000"));
}
