//! Another node's lock files, and ours (`spec/observed.md` points 8 and 19).
//!
//! A file as the original writes it is its owner's text, padded with zeros under O_DIRECT.

use client::{ErrorKind, Hint, Volume};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use system_tests::golden::node::{OWNER_M, both, ends};
use system_tests::golden::tree::{Files, files, sha256};
use system_tests::golden::{Node, Setup, name};
use xseg::Request;
use xseg::protocol::Operation;

const NONE: Hint = Hint {
    assume_v0: false,
    v0_size: None,
};

fn lock_file(dir: &Path, volume: &str) -> PathBuf {
    dir.join("locks").join(format!("{volume}_lock"))
}

/// A lock as the original leaves it.
fn lock_as_the_original(dir: &Path, volume: &str, owner: &str, padded: bool) -> Vec<u8> {
    let mut content = owner.as_bytes().to_vec();
    content.resize(if padded { 512 } else { content.len() }, 0);
    std::fs::write(lock_file(dir, volume), &content).unwrap();
    content
}

fn locks(dir: &Path) -> Vec<String> {
    let mut files = files(dir);
    files.retain(|path, _| path.starts_with("locks/"));
    files.into_keys().collect()
}

/// A tree with a closed volume of 8 MiB that begins with `first`, and a snapshot of it.
fn tree_with_a_volume(setup: Setup) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::over(dir.path(), setup);
    let client = node.client();
    client.create(name("volume-1"), 8 << 20).unwrap();
    let vlmcd = client.ports().vlmcd;
    assert_eq!(node.write(vlmcd, "volume-1", 0, b"first"), Ok(5));
    client
        .snapshot(name("volume-1"), name("snapshot-1"), NONE)
        .unwrap();
    client.close(name("volume-1"), NONE).unwrap();
    node.stop();
    dir
}

#[test]
fn b08_what_another_host_has_locked_is_left_alone() {
    for direct in [true, false] {
        let setup = Setup {
            direct,
            ..Setup::default()
        };
        let dir = tree_with_a_volume(setup);
        // B8: the original compared prefixes, so that these two were ours to it.
        for owner in ["otherhost_1002", "refhost_10021", "refhost_100"] {
            another_host_has_it(dir.path(), owner, setup);
        }
    }
}

fn another_host_has_it(dir: &Path, owner: &str, setup: Setup) {
    let content = lock_as_the_original(dir, "volume-1", owner, setup.direct);
    lock_as_the_original(dir, "new-name", owner, setup.direct);
    let before = files(dir);
    let node = Node::over(dir, setup);
    let client = node.client();
    let refused = [
        ("OPEN", client.open(name("volume-1"), NONE)),
        (
            "SNAPSHOT",
            client.snapshot(name("volume-1"), name("snapshot-2"), NONE),
        ),
        ("DELETE", client.remove(name("volume-1"), NONE)),
        (
            "RENAME",
            client.rename(name("volume-1"), name("volume-2"), NONE),
        ),
        ("TRUNCATE", client.resize(name("volume-1"), 16 << 20, true)),
        ("CREATE", client.create(name("new-name"), 1 << 20)),
        (
            "CLONE",
            client.clone_volume(name("snapshot-1"), name("new-name"), 0, NONE),
        ),
    ];
    for (what, outcome) in refused {
        let error = outcome.expect_err(what);
        assert_eq!(
            error.kind(),
            ErrorKind::Busy,
            "{what} with {owner}: {error}"
        );
    }
    let closed = client.close(name("volume-1"), NONE).unwrap_err();
    assert_eq!(
        closed.kind(),
        ErrorKind::Invalid,
        "CLOSE of what is not open here: {closed}"
    );
    assert_eq!(client.info(name("volume-1"), NONE), Ok(8 << 20));
    let read = node.read(client.ports().vlmcd, "volume-1", 0, 5).unwrap();
    assert_eq!(read, (5, b"first".to_vec()));
    let read_map = || {
        let request = Request {
            size: 8 << 20,
            ..Request::new(Operation::MapRead, name("volume-1"))
        };
        client.call(client.ports().mapperd, request, &[], 0)
    };
    let (one, other) = client.block_on(both(read_map(), read_map()));
    assert_eq!(one.unwrap().bytes, other.unwrap().bytes, "two MAPR at once");
    assert_eq!(files(dir), before, "with {owner}");
    assert_eq!(std::fs::read(lock_file(dir, "volume-1")).unwrap(), content);
    node.stop();
    assert_eq!(files(dir), before, "with {owner}");
}

/// A snapshot whose name is locked fails, and leaves its volume as it was: closed (B16).
#[test]
fn b16_a_snapshot_to_a_locked_name_leaves_nothing_locked() {
    let setup = Setup::default();
    let dir = tree_with_a_volume(setup);
    lock_as_the_original(dir.path(), "snapshot-2", "otherhost_1002", false);
    let before = files(dir.path());
    let node = Node::over(dir.path(), setup);
    let client = node.client();
    let refused = client
        .snapshot(name("volume-1"), name("snapshot-2"), NONE)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
    let taken = client
        .snapshot(name("volume-1"), name("snapshot-1"), NONE)
        .unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Exists, "{taken}");
    assert_eq!(files(dir.path()), before);
    client.open(name("volume-1"), NONE).unwrap();
    let refused = client
        .rename(name("volume-1"), name("snapshot-2"), NONE)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
    let both = ["locks/snapshot-2_lock", "locks/volume-1_lock"];
    assert_eq!(locks(dir.path()), both, "what was open stays so");
    node.stop();
    assert_eq!(files(dir.path()), before);
}

/// A WRITE waits until the other host's lock is gone, and then it is done.
#[test]
fn a_write_waits_for_another_hosts_lock() {
    let setup = Setup::default();
    let dir = tree_with_a_volume(setup);
    lock_as_the_original(dir.path(), "volume-1", "otherhost_1002", false);
    let before = files(dir.path());
    let node = Node::over(dir.path(), setup);
    let client = node.client();
    let volume = Volume::open(client, name("volume-1"), NONE).unwrap();
    client.block_on(async {
        let mut write = pin!(volume.write(b"later", 0, false));
        let mut first = [0; 5];
        for _ in 0..10 {
            let state = std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
            assert!(state.is_pending(), "{state:?}");
            // Others are served meanwhile.
            volume.read(&mut first, 0).await.unwrap();
            assert_eq!(&first, b"first");
        }
        assert_eq!(files(dir.path()), before);
        std::fs::remove_file(lock_file(dir.path(), "volume-1")).unwrap();
        write.await.unwrap();
        volume.read(&mut first, 0).await.unwrap();
        assert_eq!(&first, b"later");
    });
    assert_eq!(locks(dir.path()), ["locks/volume-1_lock"]);
    drop(volume);
    node.stop();
    assert_eq!(locks(dir.path()), [""; 0]);
}

/// A node that stops does not wait for the lock that one of its writes waits for (B13).
#[test]
fn b13_a_write_that_waits_for_a_lock_does_not_keep_the_node_from_stopping() {
    let setup = Setup::default();
    let dir = tree_with_a_volume(setup);
    lock_as_the_original(dir.path(), "volume-1", "otherhost_1002", false);
    let path = dir.path().to_owned();
    ends(move || a_node_stops_while_a_write_waits(&path, setup));
}

fn a_node_stops_while_a_write_waits(dir: &Path, setup: Setup) {
    let node = Node::over(dir, setup);
    let client = node.client().clone();
    let volume = Volume::open(&client, name("volume-1"), NONE).unwrap();
    let mut write = Box::pin(volume.write(b"never", 0, false));
    client.block_on(async {
        let state = std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
        assert!(state.is_pending(), "{state:?}");
        // When this is answered the write has reached mapperd.
        let mut first = [0; 5];
        volume.read(&mut first, 0).await.unwrap();
    });
    node.stop();
    assert!(client.block_on(write).is_err());
}

#[test]
fn a_stale_lock_of_our_own_is_taken_over() {
    for direct in [true, false] {
        let setup = Setup {
            direct,
            ..Setup::default()
        };
        let dir = tree_with_a_volume(setup);
        for padded in [true, false] {
            lock_as_the_original(dir.path(), "volume-1", OWNER_M, padded);
            let node = Node::over(dir.path(), setup);
            node.client().open(name("volume-1"), NONE).unwrap();
            let vlmcd = node.client().ports().vlmcd;
            assert_eq!(node.write(vlmcd, "volume-1", 0, b"first"), Ok(5));
            assert_our_lock(&lock_file(dir.path(), "volume-1"), direct);
            node.client().close(name("volume-1"), NONE).unwrap();
            assert_eq!(locks(dir.path()), [""; 0]);
            node.stop();
        }
    }
}

fn assert_our_lock(file: &Path, direct: bool) {
    let mut expected = OWNER_M.as_bytes().to_vec();
    expected.resize(if direct { 512 } else { expected.len() }, 0);
    assert_eq!(std::fs::read(file).unwrap(), expected, "{}", file.display());
}

/// Flat in `lock_dir`, or hashed beside the maps: just the owner's text, and gone at the end.
#[test]
fn our_locks_are_as_the_originals() {
    for (direct, flat_locks) in [(true, true), (true, false), (false, true), (false, false)] {
        let setup = Setup {
            direct,
            flat_locks,
            ..Setup::default()
        };
        let dir = tree_with_a_volume(setup);
        let before = files(dir.path());
        let node = Node::over(dir.path(), setup);
        node.client().open(name("volume-1"), NONE).unwrap();
        let hash = sha256(b"volume-1_lock");
        let hashed = format!(
            "maps/{}/{}/{}/volume-1_lock",
            &hash[..2],
            &hash[2..4],
            &hash[4..6]
        );
        let flat = "locks/volume-1_lock".to_owned();
        let lock = if flat_locks { flat } else { hashed };
        let mut now = files(dir.path());
        assert_eq!(
            now.remove(&lock).map(|facts| facts.mode),
            Some(0o660),
            "{now:#?}"
        );
        assert_eq!(now, before, "the lock is all that came");
        assert_our_lock(&dir.path().join(lock), direct);
        node.stop();
        assert_eq!(files(dir.path()), before);
    }
}

/// Each failed lookup of the original made and removed a lock file (B25).
#[test]
fn b25_a_name_that_does_not_exist_gets_no_lock_file() {
    let setup = Setup::default();
    let dir = tree_with_a_volume(setup);
    let node = Node::over(dir.path(), setup);
    let locks = std::fs::File::open(dir.path().join("locks")).unwrap();
    let before = std::time::SystemTime::UNIX_EPOCH;
    locks.set_modified(before).unwrap();
    let changed = || locks.metadata().unwrap().modified().unwrap();
    let client = node.client();
    let missing = name("nothing-here");
    let outcomes = [
        client.open(missing, NONE),
        client.remove(missing, NONE),
        client.snapshot(missing, name("snapshot-2"), NONE),
        client.rename(missing, name("volume-2"), NONE),
        client.resize(missing, 1 << 20, true),
        client.update(missing, NONE),
        client.info(missing, NONE).map(drop),
    ];
    for (at, outcome) in outcomes.into_iter().enumerate() {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{at}: {error}");
    }
    let vlmcd = client.ports().vlmcd;
    assert_eq!(node.read(vlmcd, "nothing-here", 0, 1), Err(libc::ENOENT));
    assert_eq!(
        node.write(vlmcd, "nothing-here", 0, b"x"),
        Err(libc::ENOENT)
    );
    assert_eq!(changed(), before);
    client.open(name("volume-1"), NONE).unwrap();
    assert_ne!(changed(), before, "a lock file would have shown");
    node.stop();
}

/// The original named the temporary file of a lock by its operation; one that a crash left behind
/// made that operation's locks fail for ever (B18).
#[test]
fn b18_temporary_files_of_a_crash_hinder_nobody() {
    let setup = Setup::default();
    let dir = tree_with_a_volume(setup);
    for slot in ["aa", "ab", "00", "ba"] {
        let left = format!("volume-1_lock{OWNER_M}_{slot}");
        std::fs::write(dir.path().join("locks").join(left), OWNER_M).unwrap();
    }
    let before = files(dir.path());
    let node = Node::over(dir.path(), setup);
    node.client().open(name("volume-1"), NONE).unwrap();
    node.client().close(name("volume-1"), NONE).unwrap();
    node.stop();
    assert_eq!(files(dir.path()), before);
    assert_ne!(before, Files::new());
}

/// A lock that is broken elsewhere: no flush is acknowledged and no entry written any more (B8).
#[test]
fn b08_a_broken_lock_is_noticed() {
    let setup = Setup::default();
    let dir = tree_with_a_volume(setup);
    let node = Node::over(dir.path(), setup);
    let client = node.client();
    let vlmcd = client.ports().vlmcd;
    assert_eq!(node.write(vlmcd, "volume-1", 0, b"mine!"), Ok(5));
    std::fs::remove_file(lock_file(dir.path(), "volume-1")).unwrap();
    lock_as_the_original(dir.path(), "volume-1", "otherhost_1002", false);
    let before = files(dir.path());
    let volume = Volume::open(client, name("volume-1"), NONE).unwrap();
    let refused = volume.flush().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LostLock, "{refused}");
    let copy_up = node.write(vlmcd, "volume-1", 5 << 20, b"never");
    assert_eq!(copy_up, Err(libc::ESTALE));
    assert_eq!(files(dir.path()), before);
    drop(volume);
    node.stop();
    assert_eq!(
        files(dir.path()),
        before,
        "their lock is not ours to remove"
    );
}
