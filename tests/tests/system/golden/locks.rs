//! Another node's locks, and ours (`spec/observed.md` points 8 and 19), on each storage.
//!
//! A lock file as the original writes it is its owner's text, padded with zeros under O_DIRECT; its
//! locks on RADOS say nothing but which client has them.

use client::{ErrorKind, Hint, Volume};
use std::pin::pin;
use std::task::Poll;
use std::time::SystemTime;
use system_tests::golden::node::{OWNER_M, both, ends};
use system_tests::golden::tree::{Files, files, sha256};
use system_tests::golden::{Archive, Setup, name};
use system_tests::storage::{ORIGINAL, Storage};
use xseg::Request;
use xseg::protocol::Operation;

const NONE: Hint = Hint {
    assume_v0: false,
    v0_size: None,
};

on_each! {
    files, direct, rados =>
        b08_what_another_host_has_locked_is_left_alone,
        a_stale_lock_of_our_own_is_taken_over,
}
on_each! {
    files, rados =>
        b16_a_snapshot_to_a_locked_name_leaves_nothing_locked,
        a_write_waits_for_another_hosts_lock,
        b13_a_write_that_waits_for_a_lock_does_not_keep_the_node_from_stopping,
        b25_a_name_that_does_not_exist_gets_no_lock,
}
// Who breaks a lock in a pool with our tools cuts its holder off, too (`rados::breaking`).
on_each!(files, rados => b08_a_broken_lock_is_noticed);
on_each!(files => the_lock_of_an_old_name_is_broken_once);
// The bytes and places of lock files; in pools `rados::job` looks at locks with Ceph's own tool.
on_each!(files => our_locks_are_as_the_originals);
// A lock in a pool is taken in one step, which leaves nothing half done.
on_each!(files => b18_temporary_files_of_a_crash_hinder_nobody);

/// A closed volume of 8 MiB that begins with `first`, and a snapshot of it.
fn make_a_volume(storage: &Storage) {
    let node = storage.node();
    let client = node.client();
    client.create(name("volume-1"), 8 << 20).unwrap();
    let vlmcd = client.ports().vlmcd;
    assert_eq!(node.write(vlmcd, "volume-1", 0, b"first"), Ok(5));
    client
        .snapshot(name("volume-1"), name("snapshot-1"), NONE)
        .unwrap();
    client.close(name("volume-1"), NONE).unwrap();
    node.stop();
}

/// The text that this node's own locks hold.
fn our_owner(storage: &Storage) -> String {
    match storage.is_rados() {
        true => storage.config().role("blockerm").unwrap().owner(),
        false => OWNER_M.to_owned(),
    }
}

fn b08_what_another_host_has_locked_is_left_alone(storage: &Storage) {
    make_a_volume(storage);
    let ours = our_owner(storage);
    // B8: the original compared prefixes, so that the last two were ours to it.
    let (longer, shorter) = (format!("{ours}1"), &ours[..ours.len() - 1]);
    for owner in [ORIGINAL, &longer, shorter] {
        another_host_has_it(storage, owner);
    }
}

fn another_host_has_it(storage: &Storage, owner: &str) {
    let _stranger = storage.locked_by(owner, &["volume-1", "new-name"]);
    let before = storage.files();
    let node = storage.node();
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
    assert_eq!(storage.files(), before, "with {owner}");
    node.stop();
    assert_eq!(storage.files(), before, "with {owner}");
}

/// A snapshot whose name is locked fails, and leaves its volume as it was: closed (B16).
fn b16_a_snapshot_to_a_locked_name_leaves_nothing_locked(storage: &Storage) {
    make_a_volume(storage);
    let _stranger = storage.locked_by_another(&["snapshot-2"]);
    let before = storage.files();
    let node = storage.node();
    let client = node.client();
    let refused = client
        .snapshot(name("volume-1"), name("snapshot-2"), NONE)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
    let taken = client
        .snapshot(name("volume-1"), name("snapshot-1"), NONE)
        .unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Exists, "{taken}");
    assert_eq!(storage.files(), before);
    client.open(name("volume-1"), NONE).unwrap();
    let refused = client
        .rename(name("volume-1"), name("snapshot-2"), NONE)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
    let both = ["snapshot-2", "volume-1"];
    assert_eq!(storage.locked(), both, "what was open stays so");
    node.stop();
    assert_eq!(storage.files(), before);
}

/// A WRITE waits until the other host's lock is gone, and then it is done.
fn a_write_waits_for_another_hosts_lock(storage: &Storage) {
    make_a_volume(storage);
    let mut stranger = storage.locked_by_another(&["volume-1"]);
    let before = storage.files();
    let node = storage.node();
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
        assert_eq!(storage.files(), before);
        stranger.unlock("volume-1");
        write.await.unwrap();
        volume.read(&mut first, 0).await.unwrap();
        assert_eq!(&first, b"later");
    });
    assert_eq!(storage.locked(), ["volume-1"]);
    drop(volume);
    node.stop();
    assert_eq!(storage.locked(), [""; 0]);
}

/// A node that stops does not wait for the lock that one of its writes waits for (B13).
fn b13_a_write_that_waits_for_a_lock_does_not_keep_the_node_from_stopping(storage: &Storage) {
    make_a_volume(storage);
    let storage = storage.clone();
    ends(move || a_node_stops_while_a_write_waits(&storage));
}

fn a_node_stops_while_a_write_waits(storage: &Storage) {
    let _stranger = storage.locked_by_another(&["volume-1"]);
    let node = storage.node();
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

/// Of a lock with our own text and no living process: padded with zeros or not, where it is a file.
/// On RADOS it is another instance's, which writes nothing any more afterwards.
fn a_stale_lock_of_our_own_is_taken_over(storage: &Storage) {
    make_a_volume(storage);
    for padded in [true, false] {
        let mut theirs = storage.clone();
        theirs.setup.direct = padded;
        let mut stale = theirs.locked_by(&our_owner(storage), &["volume-1"]);
        let node = storage.node();
        node.client().open(name("volume-1"), NONE).unwrap();
        let vlmcd = node.client().ports().vlmcd;
        assert_eq!(node.write(vlmcd, "volume-1", 0, b"first"), Ok(5));
        match storage.is_rados() {
            true => stale.is_cut_off(),
            false => assert_our_lock(storage, "locks/volume-1_lock"),
        }
        node.client().close(name("volume-1"), NONE).unwrap();
        assert_eq!(storage.locked(), [""; 0]);
        node.stop();
    }
}

fn assert_our_lock(storage: &Storage, file: &str) {
    let mut expected = OWNER_M.as_bytes().to_vec();
    expected.resize(
        if storage.setup.direct {
            512
        } else {
            expected.len()
        },
        0,
    );
    assert_eq!(
        std::fs::read(storage.dir().join(file)).unwrap(),
        expected,
        "{file}"
    );
}

/// Flat in `lock_dir`, or hashed beside the maps: just the owner's text, and gone at the end.
fn our_locks_are_as_the_originals(_: &Storage) {
    for (direct, flat_locks) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut storage = Storage::over_files();
        storage.setup = Setup {
            direct,
            flat_locks,
            ..storage.setup
        };
        make_a_volume(&storage);
        let before = files(storage.dir());
        let node = storage.node();
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
        let mut now = files(storage.dir());
        assert_eq!(
            now.remove(&lock).map(|facts| facts.mode),
            Some(0o660),
            "{now:#?}"
        );
        assert_eq!(now, before, "the lock is all that came");
        assert_our_lock(&storage, &lock);
        node.stop();
        assert_eq!(files(storage.dir()), before);
    }
}

/// What taking a lock for a moment leaves: the time of its folder, or, in a pool, its object.
fn traces_of_locks(storage: &Storage) -> Vec<String> {
    if storage.is_rados() {
        let facts = storage.pools().facts().unwrap().into_iter();
        return facts
            .filter(|(_, fact)| fact.is_lock)
            .map(|(path, _)| path)
            .collect();
    }
    let locks = std::fs::metadata(storage.dir().join("locks")).unwrap();
    vec![format!("{:?}", locks.modified().unwrap())]
}

/// Each failed lookup of the original made and removed a lock (B25).
fn b25_a_name_that_does_not_exist_gets_no_lock(storage: &Storage) {
    make_a_volume(storage);
    let node = storage.node();
    let locks = std::fs::File::open(storage.dir().join("locks")).unwrap();
    locks.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let before = traces_of_locks(storage);
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
    assert_eq!(traces_of_locks(storage), before);
    client.lock(name("any-name")).unwrap();
    client.unlock(name("any-name"), false).unwrap();
    assert_ne!(traces_of_locks(storage), before, "a lock would have shown");
    node.stop();
}

/// The original named the temporary file of a lock by its operation; one that a crash left behind
/// made that operation's locks fail for ever (B18).
fn b18_temporary_files_of_a_crash_hinder_nobody(storage: &Storage) {
    make_a_volume(storage);
    for slot in ["aa", "ab", "00", "ba"] {
        let left = format!("volume-1_lock{OWNER_M}_{slot}");
        std::fs::write(storage.dir().join("locks").join(left), OWNER_M).unwrap();
    }
    let before = storage.files();
    let node = storage.node();
    node.client().open(name("volume-1"), NONE).unwrap();
    node.client().close(name("volume-1"), NONE).unwrap();
    node.stop();
    assert_eq!(storage.files(), before);
    assert_ne!(before, Files::new());
}

/// A lock that is broken elsewhere: no flush is acknowledged and no entry written any more (B8). In a
/// pool, where who breaks it with the original's means cuts nobody off, flushes were acknowledged.
fn b08_a_broken_lock_is_noticed(storage: &Storage) {
    make_a_volume(storage);
    let node = storage.node();
    let client = node.client();
    let vlmcd = client.ports().vlmcd;
    assert_eq!(node.write(vlmcd, "volume-1", 0, b"mine!"), Ok(5));
    storage.break_lock("volume-1");
    let _stranger = storage.locked_by_another(&["volume-1"]);
    let before = storage.files();
    let volume = Volume::open(client, name("volume-1"), NONE).unwrap();
    let refused = volume.flush().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LostLock, "{refused}");
    let copy_up = node.write(vlmcd, "volume-1", 5 << 20, b"never");
    assert_eq!(copy_up, Err(libc::ESTALE));
    assert_eq!(storage.files(), before);
    drop(volume);
    node.stop();
    assert_eq!(storage.files(), before, "their lock is not ours to remove");
}

/// A node died while it moved a volume of 0.3 to its new name; another node finished that and gave the
/// old name's lock back, which the first one then took for broken: it could never move a volume of
/// that name again, and reads of it failed for ever.
fn the_lock_of_an_old_name_is_broken_once(storage: &Storage) {
    let Some(archive) = Archive::unpack("legacy") else {
        return;
    };
    storage.fill(&archive.tree("00-before"));
    let node = storage.node();
    let request = Request {
        flags: xseg::protocol::flags::NOSYNC,
        ..Request::new(Operation::Acquire, name("archip_legacyv1a"))
    };
    let blockerm = node.client().ports().blockerm;
    node.ask(blockerm, request, &[]).unwrap();
    // Taken straight from the blocker, it stays, as it does after a kill.
    node.stop();
    storage.break_lock("archip_legacyv1a");
    let node = storage.node();
    node.client().open(name("legacyv1a"), NONE).unwrap();
    node.client().close(name("legacyv1a"), NONE).unwrap();
    node.stop();
    assert_eq!(storage.locked(), [""; 0]);
}
