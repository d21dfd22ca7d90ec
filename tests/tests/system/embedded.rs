//! The embedded node: the main job in one process, on each storage.

use client::{Client, ErrorKind, Hint, Name, Volume};
use system_tests::golden::node::ends;
use system_tests::storage::Storage;

on_each! {
    memory, files, direct, rados =>
        the_main_job,
}
on_each! {
    files, direct, rados =>
        all_is_there_after_a_restart,
}
on_each! {
    memory, files, rados =>
        bad_input_gets_a_sentence_and_changes_nothing,
        b15_a_failed_freeze_ends,
        b15_names_that_do_not_exist_leave_no_record,
        b24_a_snapshot_can_be_deleted_while_it_is_cloned,
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

fn read(client: &Client, volume: &str, offset: u64, len: usize) -> Vec<u8> {
    let volume = Volume::open(client, name(volume), Hint::default()).unwrap();
    let mut bytes = vec![0; len];
    volume.read_at(&mut bytes, offset).unwrap();
    bytes
}

/// Everything that a volume is for, on any storage.
pub(crate) fn main_job(client: &Client) {
    const MIB: usize = 1 << 20;
    client.create(name("volume-1"), 10 << 30).unwrap();
    assert_eq!(client.info(name("volume-1"), Hint::default()), Ok(10 << 30));
    let volume = Volume::open(client, name("volume-1"), Hint::default()).unwrap();
    let first = pattern(1, 9 * MIB);
    volume.write_at(&first, 3 * MIB as u64 + 100).unwrap();
    volume.flush().unwrap();
    assert!(read(client, "volume-1", 3 * MIB as u64 + 100, first.len()) == first);
    assert!(read(client, "volume-1", 0, 100).iter().all(|b| *b == 0));

    client
        .snapshot(name("volume-1"), name("snapshot-1"), Hint::default())
        .unwrap();
    client
        .clone_volume(name("snapshot-1"), name("volume-2"), 0, Hint::default())
        .unwrap();
    let clone = Volume::open(client, name("volume-2"), Hint::default()).unwrap();
    let second = pattern(7, MIB);
    clone.write_at(&second, 4 * MIB as u64).unwrap();
    volume.write_zeroes(8 << 20, 1 << 20).unwrap();

    assert!(read(client, "volume-2", 4 * MIB as u64, MIB) == second);
    assert!(read(client, "snapshot-1", 3 * MIB as u64 + 100, first.len()) == first);
    assert!(
        read(client, "volume-1", 8 << 20, MIB)
            .iter()
            .all(|b| *b == 0)
    );
    let refused = Volume::open(client, name("snapshot-1"), Hint::default())
        .unwrap()
        .write_at(&second, 0)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");

    let holes = volume.block_status(0, 10 << 30).unwrap();
    assert!(holes.last().unwrap().hole && !holes[0].hole, "{holes:?}");
    let written: u64 = holes.iter().filter(|b| !b.hole).map(|b| b.len).sum();
    assert_eq!(
        written,
        4 * (4 << 20),
        "blocks 0 to 3 were touched, the others are holes"
    );

    client
        .rename(name("volume-2"), name("volume-3"), Hint::default())
        .unwrap();
    assert!(read(client, "volume-3", 4 * MIB as u64, MIB) == second);
    let gone = client.info(name("volume-2"), Hint::default()).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    client.remove(name("volume-3"), Hint::default()).unwrap();
    client.create(name("volume-3"), 1 << 20).unwrap();
}

fn the_main_job(storage: &Storage) {
    storage.serve(|node| main_job(node.client()));
}

fn all_is_there_after_a_restart(storage: &Storage) {
    storage.serve(|node| main_job(node.client()));
    storage.serve(|node| {
        let first = pattern(1, 9 << 20);
        assert!(read(node.client(), "snapshot-1", (3 << 20) + 100, first.len()) == first);
    });
}

fn bad_input_gets_a_sentence_and_changes_nothing(storage: &Storage) {
    let node = storage.node();
    let client = node.client();
    client.create(name("volume-1"), 1 << 30).unwrap();
    client
        .snapshot(name("volume-1"), name("snapshot-1"), Hint::default())
        .unwrap();
    let long = "x".repeat(83);
    for bad in [
        "a/b/c/d",
        "short",
        ".",
        "..",
        "nul\0nul",
        &long,
        "archip_x",
        "x_lock",
        "v_0123456789abcdef",
    ] {
        let refused = client.create(name(bad), 1 << 20).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{bad}: {refused}");
    }
    let exists = client.create(name("volume-1"), 1 << 20).unwrap_err();
    assert_eq!(exists.kind(), ErrorKind::Exists, "{exists}");
    assert_eq!(client.info(name("volume-1"), Hint::default()), Ok(1 << 30));
    let none = Hint::default();
    let kinds = [
        (
            client.snapshot(name("volume-1"), name("snapshot-1"), none),
            ErrorKind::Exists,
        ),
        (
            client.snapshot(name("volume-1"), name("volume-1"), none),
            ErrorKind::Exists,
        ),
        (
            client.rename(name("volume-1"), name("volume-1"), none),
            ErrorKind::Exists,
        ),
        (
            client.rename(name("volume-1"), name("snapshot-1"), none),
            ErrorKind::Exists,
        ),
        (
            client.clone_volume(name("snapshot-1"), name("volume-2"), 1 << 20, none),
            ErrorKind::Invalid,
        ),
        (
            client.clone_volume(name("nothing-here"), name("volume-2"), 0, none),
            ErrorKind::NotFound,
        ),
        (client.create(name("volume-2"), 0), ErrorKind::Invalid),
        (client.resize(name("volume-1"), 0, true), ErrorKind::Invalid),
        (
            client.resize(name("volume-1"), 1 << 20, false),
            ErrorKind::Invalid,
        ),
        (
            client.remove(name("nothing-here"), none),
            ErrorKind::NotFound,
        ),
    ];
    for (at, (outcome, kind)) in kinds.into_iter().enumerate() {
        let refused = outcome.unwrap_err();
        assert_eq!(refused.kind(), kind, "{at}: {refused}");
    }
    let volume = Volume::open(client, name("volume-1"), none).unwrap();
    let past = volume.write_at(&[1; 4096], (1 << 30) - 1).unwrap_err();
    assert_eq!(past.kind(), ErrorKind::Invalid, "{past}");
    assert!(volume.read_at(&mut [0; 1], 1 << 30).is_err());
    assert!(volume.read_at(&mut [0; 1], u64::MAX).is_err());
    assert!(
        volume.read_at(&mut [], 1 << 30).is_ok(),
        "length 0 at the end is fine"
    );
}

/// A freezing request that failed left its volume frozen for ever in the original.
fn b15_a_failed_freeze_ends(storage: &Storage) {
    let storage = storage.clone();
    ends(move || writes_follow_a_failed_snapshot(&storage));
}

fn writes_follow_a_failed_snapshot(storage: &Storage) {
    let node = storage.node();
    let client = node.client();
    let none = Hint::default();
    client.create(name("volume-1"), 1 << 30).unwrap();
    let volume = Volume::open(client, name("volume-1"), none).unwrap();
    volume.write_at(b"before", 0).unwrap();
    for _ in 0..3 {
        let refused = client.snapshot(name("volume-1"), name("volume-1"), none);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exists);
        volume.write_at(b"behind", 0).unwrap();
    }
    client
        .snapshot(name("volume-1"), name("snapshot-1"), none)
        .unwrap();
    assert_eq!(read(client, "snapshot-1", 0, 6), b"behind");
}

/// Only CLOSE freed a volume's record in the original, so that each wrong name left one for ever.
fn b15_names_that_do_not_exist_leave_no_record(storage: &Storage) {
    let storage = storage.clone();
    ends(move || wrong_names_leave_no_record(&storage));
}

fn wrong_names_leave_no_record(storage: &Storage) {
    let node = storage.node();
    let client = node.client();
    let none = Hint::default();
    client.create(name("volume-1"), 1 << 30).unwrap();
    let records = || {
        let vlmcd = client.ports().vlmcd;
        let report = client.status(vlmcd, Name::EMPTY, none).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        report["volumes"].as_u64().unwrap()
    };
    for i in 0..50 {
        let missing = name(&format!("nothing-{i}"));
        let snapshot = client.snapshot(missing, name("snapshot-1"), none);
        assert_eq!(snapshot.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(client.info(missing, none).is_err());
        assert!(client.remove(missing, none).is_err());
    }
    assert_eq!(records(), 0);
    assert_eq!(read(client, "volume-1", 0, 1), [0]);
    assert_eq!(records(), 1);
    client.close(name("volume-1"), none).unwrap();
    assert_eq!(records(), 0);
}

/// A snapshot that was being cloned sat in the original's cache without a lock, and opening or
/// deleting it failed.
fn b24_a_snapshot_can_be_deleted_while_it_is_cloned(storage: &Storage) {
    let node = storage.node();
    let (client, embedded) = (node.client(), node.embedded());
    let none = Hint::default();
    client.create(name("volume-1"), 40 << 30).unwrap();
    for round in 0..20 {
        let snapshot = format!("snapshot-{round}");
        client
            .snapshot(name("volume-1"), name(&snapshot), none)
            .unwrap();
        std::thread::scope(|scope| {
            let cloning = scope.spawn(|| {
                let client = embedded.client().unwrap();
                client.clone_volume(name(&snapshot), name(&format!("clone-{round}")), 0, none)
            });
            client.remove(name(&snapshot), none).unwrap();
            match cloning.join().unwrap() {
                Ok(()) => {
                    assert_eq!(
                        client.info(name(&format!("clone-{round}")), none),
                        Ok(40 << 30)
                    );
                }
                // The deletion came first.
                Err(gone) => assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}"),
            }
        });
    }
}
