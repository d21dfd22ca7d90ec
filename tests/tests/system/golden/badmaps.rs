//! Objects that are no maps, where maps should be: truncated, oversized, foreign, corrupt.
//!
//! Whoever asks for such a volume gets an errno, and the log a line with its name; nothing that is
//! stored changes, other volumes work, and nothing is created over it (B3).

use client::Hint;
use std::sync::{Mutex, Once};
use system_tests::golden::{Node, name};
use system_tests::storage::Storage;
use tracing_subscriber::filter::LevelFilter;
use xseg::protocol::{CreateObject, CreateRequest, Operation};

on_each! {
    files, rados =>
        b03_bad_headers_are_refused_and_nothing_is_made_over_them,
        b03_old_names_are_taken_too,
        b28_bad_maps_of_version_0,
        bad_chunks_are_refused,
        bad_chunks_fail_what_needs_the_whole_map,
        an_empty_header_is_none,
}
// A directory in the place of a file. In a pool it is an object that the node may not read:
// `rados::unreadable`.
on_each!(files => b03_what_cannot_be_read_is_not_missing);

/// What the peers logged, of all tests in this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn watch_the_log() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(|| Log);
        subscriber.with_max_level(LevelFilter::WARN).init();
    });
}

fn logged(words: &str) -> bool {
    let text = LOG.lock().unwrap();
    String::from_utf8_lossy(&text).contains(words)
}

pub(crate) fn header(version: u32, size: u64, block_size: u32, flags: u32) -> Vec<u8> {
    let mut bytes = b"AMF.".to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(size.to_be_bytes());
    bytes.extend(block_size.to_be_bytes());
    bytes.extend(flags.to_be_bytes());
    bytes.extend(1u64.to_be_bytes());
    bytes
}

pub(crate) fn entry(flags: u8, len: u32, name: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags];
    bytes.extend(len.to_le_bytes());
    bytes.extend(name);
    bytes.resize(128, 0);
    bytes
}

const V1: [u8; 4] = [1, 0, 0, 0];

pub(crate) fn v1(size: u64, entries: usize) -> Vec<u8> {
    let mut bytes = V1.to_vec();
    bytes.extend(size.to_le_bytes());
    bytes.resize(12 + 33 * entries, 7);
    bytes
}

/// Header objects that are no headers.
pub(crate) fn bad_headers() -> Vec<(&'static str, Vec<u8>)> {
    let good = header(2, 1 << 20, 4 << 20, 0);
    let of_a_disk = {
        let mut bytes = vec![0; 1 << 20];
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes
    };
    vec![
        ("bad-signature-only", good[..4].to_vec()),
        ("bad-cut-off", good[..31].to_vec()),
        ("bad-one-byte", b"A".to_vec()),
        ("bad-version-0", header(0, 1 << 20, 4 << 20, 0)),
        ("bad-version-1", header(1, 1 << 20, 4 << 20, 0)),
        ("bad-version-3", header(3, 1 << 20, 4 << 20, 0)),
        ("bad-block-size-0", header(2, 1 << 20, 0, 0)),
        ("bad-block-size-128", header(2, 1 << 20, 128, 0)),
        ("bad-block-size-odd", header(2, 1 << 20, 3 << 20, 0)),
        ("bad-flags", header(2, 1 << 20, 4 << 20, 0x84)),
        ("bad-oversized", header(2, u64::MAX, 4 << 20, 0)),
        (
            "bad-foreign-text",
            b"this is somebody's diary, not a map".to_vec(),
        ),
        ("bad-foreign-disk", of_a_disk),
        ("bad-v1-cut-off", v1(9 << 20, 2)),
        ("bad-v1-no-size", V1.to_vec()),
        ("bad-v1-oversized", v1(u64::MAX, 2)),
    ]
}

/// Headers that are well, and first chunks that are not; `None`: there is no chunk.
pub(crate) fn bad_chunks() -> Vec<(&'static str, Option<Vec<u8>>)> {
    let object = b"somebodys-object";
    let len = object.len() as u32;
    vec![
        ("rot-no-chunk", None),
        ("rot-empty", Some(vec![])),
        ("rot-cut-off", Some(entry(3, len, object)[..100].to_vec())),
        ("rot-one-missing", Some(entry(3, len, object))),
        (
            "rot-flags",
            Some([entry(0xf3, len, object), entry(0xf3, len, object)].concat()),
        ),
        (
            "rot-no-name",
            Some([entry(3, 0, b""), entry(3, 0, b"")].concat()),
        ),
        (
            "rot-long-name",
            Some([entry(3, 124, object), entry(3, u32::MAX, object)].concat()),
        ),
        (
            "rot-slash",
            Some([entry(3, 7, b"../../x"), entry(3, 7, b"../../x")].concat()),
        ),
        (
            "rot-nul",
            Some([entry(3, 9, b"nul\0nulnu"), entry(3, 9, b"nul\0nulnu")].concat()),
        ),
        ("rot-noise", Some([0x5a; 256].to_vec())),
    ]
}

/// The names of `bad`, such that no test on another storage logs them.
fn called<T>(storage: &Storage, bad: Vec<(&str, T)>) -> Vec<(String, T)> {
    let suffix = if storage.is_rados() { "pool" } else { "files" };
    let named = |(name, what)| (format!("{name}-{suffix}"), what);
    bad.into_iter().map(named).collect()
}

fn put(storage: &Storage, object: &str, bytes: &[u8]) {
    storage.put("maps", object, bytes);
}

/// A node with a good volume, a snapshot and whatever `damage` puts there.
fn damaged(storage: &Storage, damage: impl FnOnce()) -> Node {
    watch_the_log();
    let node = storage.node();
    let client = node.client();
    client.create(name("volume-1"), 5 << 20).unwrap();
    client
        .snapshot(name("volume-1"), name("snapshot-1"), Hint::default())
        .unwrap();
    node.write(client.ports().vlmcd, "volume-1", 0, b"good")
        .unwrap();
    damage();
    node
}

/// Everything that makes a volume of a name, with the errno of each.
fn creations(node: &Node, volume: &str) -> Vec<(&'static str, Option<i32>)> {
    let (client, none) = (node.client(), Hint::default());
    let objects = CreateRequest {
        block_size: 0,
        flags: 0,
        objects: vec![CreateObject {
            name: name("object-1"),
            flags: 0,
        }],
    };
    vec![
        ("create", client.create(name(volume), 1 << 20)),
        (
            "clone",
            client.clone_volume(name("snapshot-1"), name(volume), 0, none),
        ),
        (
            "snapshot",
            client.snapshot(name("volume-1"), name(volume), none),
        ),
        (
            "rename",
            client.rename(name("volume-1"), name(volume), none),
        ),
        (
            "create of objects",
            client.create_map(name(volume), 1 << 20, &objects),
        ),
    ]
    .into_iter()
    .map(|(what, outcome)| (what, outcome.err().map(|error| error.errno)))
    .collect()
}

fn assert_no_creation(node: &Node, volume: &str) {
    for (what, errno) in creations(node, volume) {
        assert_eq!(errno, Some(libc::EEXIST), "{what} over {volume}");
    }
}

/// Everything that needs the volume to be one.
fn uses(node: &Node, volume: &str, hint: Hint) -> Vec<(&'static str, Option<i32>)> {
    let (client, ports) = (node.client(), node.client().ports());
    let errno = |error: client::Error| error.errno;
    vec![
        (
            "INFO",
            client.info(name(volume), hint).map(drop).map_err(errno),
        ),
        ("OPEN", client.open(name(volume), hint).map_err(errno)),
        ("CLOSE", client.close(name(volume), hint).map_err(errno)),
        ("UPDATE", client.update(name(volume), hint).map_err(errno)),
        (
            "SNAPSHOT",
            client
                .snapshot(name(volume), name("snapshot-2"), hint)
                .map_err(errno),
        ),
        (
            "RENAME",
            client
                .rename(name(volume), name("volume-2"), hint)
                .map_err(errno),
        ),
        (
            "CLONE",
            client
                .clone_volume(name(volume), name("volume-2"), 0, hint)
                .map_err(errno),
        ),
        (
            "TRUNCATE",
            client.resize(name(volume), 1 << 30, true).map_err(errno),
        ),
        ("DELETE", client.remove(name(volume), hint).map_err(errno)),
        (
            "HASH",
            client.hash(name(volume), hint).map(drop).map_err(errno),
        ),
        ("READ", node.read(ports.vlmcd, volume, 0, 512).map(drop)),
        (
            "WRITE",
            node.write(ports.vlmcd, volume, 0, &[1; 512]).map(drop),
        ),
        (
            "MAPR",
            node.map(Operation::MapRead, volume, 0, 512).map(drop),
        ),
        (
            "MAPW",
            node.map(Operation::MapWrite, volume, 0, 512).map(drop),
        ),
    ]
    .into_iter()
    .map(|(what, outcome)| (what, outcome.err()))
    .collect()
}

fn assert_others_work(node: &Node) {
    let vlmcd = node.client().ports().vlmcd;
    assert_eq!(
        node.read(vlmcd, "volume-1", 0, 4),
        Ok((4, b"good".to_vec()))
    );
    assert_eq!(node.write(vlmcd, "volume-1", 0, b"good"), Ok(4));
    node.client().create(name("volume-3"), 1 << 20).unwrap();
    node.client()
        .remove(name("volume-3"), Hint::default())
        .unwrap();
}

fn b03_bad_headers_are_refused_and_nothing_is_made_over_them(storage: &Storage) {
    let bad = called(storage, bad_headers());
    let node = damaged(storage, || {
        bad.iter()
            .for_each(|(volume, bytes)| put(storage, volume, bytes))
    });
    let before = storage.files();
    for (volume, _) in &bad {
        for (what, errno) in uses(&node, volume, Hint::default()) {
            let expected = [libc::EINVAL, libc::EIO];
            assert!(
                errno.is_some_and(|e| expected.contains(&e)),
                "{what} of {volume}: {errno:?}"
            );
        }
        assert_no_creation(&node, volume);
        assert!(logged(volume), "{volume} is not in the log");
    }
    assert_eq!(storage.files(), before);
    assert_others_work(&node);
    node.stop();
}

/// A map of the 0.3 layout stands in the way as well.
fn b03_old_names_are_taken_too(storage: &Storage) {
    let node = damaged(storage, || {
        put(storage, "archip_oldvolume", &v1(1 << 20, 1));
        put(storage, "archip_damaged", b"not a map");
    });
    let before = storage.files();
    assert_eq!(
        node.client().info(name("oldvolume"), Hint::default()),
        Ok(1 << 20)
    );
    assert_no_creation(&node, "oldvolume");
    assert_no_creation(&node, "damaged");
    assert_eq!(storage.files(), before);
    node.stop();
}

/// An unreadable name is no free name: a directory where the header should be.
fn b03_what_cannot_be_read_is_not_missing(storage: &Storage) {
    let node = damaged(storage, || {
        let place = system_tests::golden::tree::place(storage.dir(), "maps", "directory");
        std::fs::create_dir_all(place).unwrap();
    });
    let before = storage.files();
    for (what, errno) in uses(&node, "directory", Hint::default()) {
        assert!(
            errno.is_some_and(|errno| errno != libc::ENOENT),
            "{what}: {errno:?}"
        );
    }
    for (what, errno) in creations(&node, "directory") {
        assert!(errno.is_some(), "{what} over a directory");
    }
    assert_eq!(storage.files(), before);
    assert_others_work(&node);
    node.stop();
}

/// v0: a file that is no whole number of hashes, one with a hole in it (B28: the original took a
/// blank entry for the end), and one that another size was said of.
fn b28_bad_maps_of_version_0(storage: &Storage) {
    let hole = [[7; 32], [0; 32], [7; 32]].concat();
    let bad = vec![
        ("bad-v0-ragged", (vec![7; 33], None)),
        ("bad-v0-with-hole", (hole, None)),
        ("bad-v0-count", (vec![7; 64], Some(9 << 20))),
        ("bad-v0-of-zeros", (vec![0; 64], None)),
    ];
    let bad = called(storage, bad);
    let node = damaged(storage, || {
        bad.iter()
            .for_each(|(volume, (bytes, _))| put(storage, volume, bytes))
    });
    let before = storage.files();
    for (volume, (_, v0_size)) in &bad {
        let hint = Hint {
            assume_v0: true,
            v0_size: *v0_size,
        };
        let readable = client::Volume::open(node.client(), name(volume), hint).and_then(|volume| {
            let mut bytes = vec![0; volume.size() as usize];
            volume.read_at(&mut bytes, 0)
        });
        let refused = readable.expect_err(volume);
        assert!(
            [libc::EINVAL, libc::EIO].contains(&refused.errno),
            "{volume}: {refused}"
        );
        let opened = node.client().open(name(volume), hint);
        assert!(opened.is_err(), "{volume}");
        assert_no_creation(&node, volume);
        assert!(logged(volume), "{volume} is not in the log");
    }
    assert_eq!(storage.files(), before);
    assert_others_work(&node);
    node.stop();
}

/// The entries are looked at when they are needed: INFO and OPEN need none.
fn bad_chunks_are_refused(storage: &Storage) {
    let bad = called(storage, bad_chunks());
    let node = damaged(storage, || {
        for (volume, chunk) in &bad {
            put(storage, volume, &header(2, 5 << 20, 4 << 20, 0));
            if let Some(chunk) = chunk {
                put(storage, &format!("{volume}_0000000000000000"), chunk);
            }
        }
    });
    let before = storage.files();
    let client = node.client();
    for (volume, _) in &bad {
        assert_eq!(
            client.info(name(volume), Hint::default()),
            Ok(5 << 20),
            "{volume}"
        );
        let vlmcd = client.ports().vlmcd;
        let outcomes = [
            ("READ", node.read(vlmcd, volume, 0, 5 << 20).map(drop)),
            (
                "WRITE",
                node.write(vlmcd, volume, 0, &vec![1; 5 << 20]).map(drop),
            ),
            (
                "MAPR",
                node.map(Operation::MapRead, volume, 0, 5 << 20).map(drop),
            ),
            (
                "MAPW",
                node.map(Operation::MapWrite, volume, 0, 5 << 20).map(drop),
            ),
        ];
        for (what, outcome) in outcomes {
            assert_eq!(outcome, Err(libc::EIO), "{what} of {volume}");
        }
        client.close(name(volume), Hint::default()).unwrap();
        assert_no_creation(&node, volume);
        assert!(logged(volume), "{volume} is not in the log");
    }
    assert_eq!(storage.files(), before);
    assert_others_work(&node);
    node.stop();
}

/// An operation on the whole map that meets a bad chunk fails; of the source it may have raised
/// the epoch, which costs copies, and nothing else.
fn bad_chunks_fail_what_needs_the_whole_map(storage: &Storage) {
    let bad = called(storage, bad_chunks());
    let node = damaged(storage, || {
        for (volume, chunk) in &bad {
            put(storage, volume, &header(2, 5 << 20, 4 << 20, 0));
            let readonly = format!("{volume}-snapshot");
            put(storage, &readonly, &header(2, 5 << 20, 4 << 20, 1));
            for (owner, chunk) in [(volume, chunk), (&readonly, chunk)] {
                let object = format!("{owner}_0000000000000000");
                chunk.iter().for_each(|chunk| put(storage, &object, chunk));
            }
        }
    });
    let mut before = storage.files();
    let (client, none) = (node.client(), Hint::default());
    for (volume, _) in &bad {
        let readonly = format!("{volume}-snapshot");
        let outcomes = [
            (
                "SNAPSHOT",
                client.snapshot(name(volume), name("snapshot-2"), none),
            ),
            (
                "RENAME",
                client.rename(name(volume), name("volume-2"), none),
            ),
            (
                "CLONE",
                client.clone_volume(name(&readonly), name("volume-2"), 0, none),
            ),
            ("HASH", client.hash(name(&readonly), none).map(drop)),
        ];
        for (what, outcome) in outcomes {
            let refused = outcome.expect_err(what);
            assert_eq!(refused.errno, libc::EIO, "{what} of {volume}: {refused}");
        }
        for free in ["snapshot-2", "volume-2"] {
            let missing = client.info(name(free), none).unwrap_err();
            assert_eq!(missing.errno, libc::ENOENT, "{free}: {missing}");
        }
    }
    let mut after = storage.files();
    let headers: Vec<_> = bad.iter().map(|(volume, _)| format!("/{volume}")).collect();
    for files in [&mut before, &mut after] {
        files.retain(|path, _| !headers.iter().any(|header| path.ends_with(header)));
    }
    assert_eq!(after, before);
    assert_others_work(&node);
    node.stop();
}

/// A header of no bytes is what a crash leaves of a creation: nothing to lose, so the name is free.
fn an_empty_header_is_none(storage: &Storage) {
    let node = damaged(storage, || put(storage, "volume-4", b""));
    let missing = node
        .client()
        .info(name("volume-4"), Hint::default())
        .unwrap_err();
    assert_eq!(missing.errno, libc::ENOENT);
    node.client().create(name("volume-4"), 1 << 20).unwrap();
    node.stop();
    system_tests::golden::tree::assert_servable_by_the_original(&storage.tree());
}
