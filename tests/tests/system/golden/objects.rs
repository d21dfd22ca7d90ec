//! What the original's own tests relied on (`spec/protocol.md` sections 2 and 7), of objects and
//! locks at a blocker; on each storage.

use system_tests::golden::node::ends;
use system_tests::golden::{Node, name};
use system_tests::storage::Storage;
use xseg::Request;
use xseg::protocol::{NameRequest, Operation, PortNo, flags};

on_each! {
    memory, files, direct, rados =>
        writing_and_reading,
        b04_copying,
        b20_hashing,
        locking,
}
on_each! {
    files, rados =>
        what_another_owner_has_locked_is_released_by_force_alone,
        b13_waiting_for_locks_keeps_nobody_else_waiting,
        b13_waiting_for_a_lock_does_not_keep_the_node_from_stopping,
}

/// Runs `test` with a blocker of a node.
fn on_a_blocker(storage: &Storage, test: impl Fn(&Node, PortNo)) {
    storage.serve(|node| test(node, node.client().ports().blockerb));
}

fn info(node: &Node, port: PortNo, object: &str) -> Result<u64, i32> {
    let (_, bytes) = node.ask(port, Request::new(Operation::Info, name(object)), &[])?;
    Ok(u64::from_le_bytes(bytes[..8].try_into().unwrap()))
}

fn copy(node: &Node, port: PortNo, from: &str, to: &str, size: u64) -> Result<u64, i32> {
    node.with_name(port, Operation::Copy, to, from, size)
}

fn writing_and_reading(storage: &Storage) {
    on_a_blocker(storage, |node, port| {
        assert_eq!(
            node.read(port, "object-1", 0, 1),
            Err(libc::ENOENT),
            "missing"
        );
        assert_eq!(info(node, port, "object-1"), Err(libc::ENOENT));
        assert_eq!(node.write(port, "object-1", 0, &[7; 1024]), Ok(1024));
        assert_eq!(
            info(node, port, "object-1"),
            Ok(1024),
            "as much as was written"
        );
        let mut filled = vec![7; 1024];
        filled.resize(4096, 0);
        assert_eq!(
            node.read(port, "object-1", 0, 4096),
            Ok((4096, filled)),
            "filled with zeros"
        );
        assert_eq!(node.read(port, "object-1", 9000, 0), Ok((0, vec![])));
        assert_eq!(
            node.write(port, "object-2", 0, &[]),
            Ok(0),
            "size 0 makes the object"
        );
        assert_eq!(info(node, port, "object-2"), Ok(0));
        assert_eq!(node.do_to(port, Operation::Delete, "object-1"), Ok(()));
        assert_eq!(
            node.do_to(port, Operation::Delete, "object-1"),
            Err(libc::ENOENT)
        );
        assert_eq!(
            node.read(port, "object-1", 0, 1),
            Err(libc::ENOENT),
            "after the deletion"
        );
    });
}

/// The original answered success when the source was missing, and left an empty destination; a
/// copy onto an object appended to it or left its tail (B4).
fn b04_copying(storage: &Storage) {
    on_a_blocker(storage, |node, port| {
        assert_eq!(
            copy(node, port, "source-1", "target-1", 4096),
            Err(libc::ENOENT)
        );
        assert_eq!(
            info(node, port, "target-1"),
            Err(libc::ENOENT),
            "nothing was made"
        );
        node.write(port, "source-1", 0, &[1; 1024]).unwrap();
        assert_eq!(
            copy(node, port, "source-1", "target-1", 1025),
            Ok(1025),
            "size + 1 is serviced"
        );
        assert_eq!(info(node, port, "target-1"), Ok(1024));
        node.write(port, "target-2", 0, &[2; 8192]).unwrap();
        for _ in 0..2 {
            assert_eq!(copy(node, port, "source-1", "target-2", 512), Ok(512));
            let mut expected = vec![1; 512];
            expected.resize(8192, 0);
            assert_eq!(node.read(port, "target-2", 0, 8192), Ok((8192, expected)));
        }
        assert_eq!(
            node.read(port, "source-1", 0, 1024),
            Ok((1024, vec![1; 1024]))
        );
    });
}

/// The original's second HASH answered success without a hash (B20), and believed its first for
/// ever.
fn b20_hashing(storage: &Storage) {
    on_a_blocker(storage, |node, port| {
        let hash = |object: &str, size| -> Result<String, i32> {
            let request = Request {
                size,
                ..Request::new(Operation::Hash, name(object))
            };
            let (_, bytes) = node.ask(port, request, &[])?;
            let NameRequest(hash) = NameRequest::decode(&bytes).unwrap();
            Ok(String::from_utf8(hash.to_vec()).unwrap())
        };
        let expected = |bytes: &[u8]| Ok(system_tests::golden::tree::sha256(bytes));
        assert_eq!(hash("object-1", 4096), Err(libc::ENOENT));
        node.write(port, "object-1", 0, b"content\0\0\0").unwrap();
        assert_eq!(hash("object-1", 0), Err(libc::EINVAL));
        for _ in 0..3 {
            assert_eq!(hash("object-1", 4 << 20), expected(b"content"));
        }
        let content = expected(b"content").unwrap();
        assert_eq!(
            node.read(port, &content, 0, 7),
            Ok((7, b"content".to_vec()))
        );
        node.write(port, "object-1", 0, b"C").unwrap();
        assert_eq!(
            hash("object-1", 4 << 20),
            expected(b"Content"),
            "not what it was once"
        );
        node.write(port, "object-2", 0, &[0; 512]).unwrap();
        assert_eq!(hash("object-2", 4 << 20), expected(b""));
        let longest = "x".repeat(123);
        node.write(port, &longest, 0, b"long").unwrap();
        assert_eq!(hash(&longest, 4 << 20), expected(b"long"));
    });
}

fn locking(storage: &Storage) {
    on_a_blocker(storage, |node, _| {
        let port = node.client().ports().blockerm;
        let ask = |operation, flags| {
            let request = Request {
                flags,
                ..Request::new(operation, name("volume-1"))
            };
            node.ask(port, request, &[]).map(drop)
        };
        assert_eq!(ask(Operation::Release, 0), Err(libc::ENOENT), "not locked");
        assert_eq!(ask(Operation::Release, flags::FORCE), Err(libc::ENOENT));
        assert_eq!(ask(Operation::Acquire, flags::NOSYNC), Ok(()));
        assert_eq!(
            ask(Operation::Acquire, flags::NOSYNC),
            Ok(()),
            "twice by the same owner"
        );
        assert_eq!(ask(Operation::Acquire, 0), Ok(()));
        assert_eq!(ask(Operation::Release, 0), Ok(()));
        assert_eq!(ask(Operation::Release, 0), Err(libc::ENOENT), "twice");
    });
}

fn what_another_owner_has_locked_is_released_by_force_alone(storage: &Storage) {
    let node = storage.node();
    let _stranger = storage.locked_by_another(&["volume-1"]);
    let before = storage.files();
    let client = node.client();
    assert_eq!(
        client.lock(name("volume-1")).unwrap_err().errno,
        libc::EBUSY
    );
    assert_eq!(
        client.unlock(name("volume-1"), false).unwrap_err().errno,
        libc::EPERM
    );
    assert_eq!(storage.files(), before);
    client.unlock(name("volume-1"), true).unwrap();
    assert_eq!(storage.locked(), [""; 0]);
    client.lock(name("volume-1")).unwrap();
    assert_eq!(storage.locked(), ["volume-1"]);
    client.unlock(name("volume-1"), false).unwrap();
    assert_eq!(storage.locked(), [""; 0]);
    node.stop();
}

/// While it waited for a lock the original slept in one of its few threads, and answered nobody
/// when all of them did: not even the RELEASE that they waited for (B13).
fn b13_waiting_for_locks_keeps_nobody_else_waiting(storage: &Storage) {
    let storage = storage.clone();
    ends(move || a_hundred_wait_for_their_locks(&storage));
}

fn a_hundred_wait_for_their_locks(storage: &Storage) {
    let node = storage.node();
    let client = node.client();
    let port = client.ports().blockerm;
    let volumes: Vec<_> = (0..100).map(|i| format!("volume-{i}")).collect();
    let names: Vec<_> = volumes.iter().map(String::as_str).collect();
    let _stranger = storage.locked_by_another(&names);
    let wait = |volume: &String| {
        let request = Request::new(Operation::Acquire, name(volume));
        Box::pin(client.call(port, request, &[], 0))
    };
    let mut waiting: Vec<_> = volumes.iter().map(wait).collect();
    client.block_on(std::future::poll_fn(|cx| {
        let pending = waiting
            .iter_mut()
            .all(|wait| wait.as_mut().poll(cx).is_pending());
        assert!(pending, "somebody else has them all");
        std::task::Poll::Ready(())
    }));
    for volume in &volumes {
        client.unlock(name(volume), true).unwrap();
    }
    for (wait, volume) in waiting.into_iter().zip(&volumes) {
        let taken = client.block_on(wait);
        assert!(taken.is_ok(), "{volume}: {taken:?}");
    }
    node.stop();
}

/// Nor could such a wait be interrupted: the original did not stop before it had the lock (B13).
fn b13_waiting_for_a_lock_does_not_keep_the_node_from_stopping(storage: &Storage) {
    let storage = storage.clone();
    ends(move || a_node_stops_while_one_waits_for_a_lock(&storage));
}

fn a_node_stops_while_one_waits_for_a_lock(storage: &Storage) {
    let node = storage.node();
    let _stranger = storage.locked_by_another(&["volume-1"]);
    let client = node.client().clone();
    let port = client.ports().blockerm;
    let request = Request::new(Operation::Acquire, name("volume-1"));
    let mut wait = Box::pin(client.call(port, request, &[], 0));
    client.block_on(std::future::poll_fn(|cx| {
        assert!(wait.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    }));
    // When this is answered the other has been found locked.
    assert_eq!(node.do_to(port, Operation::LockInfo, "volume-1"), Ok(()));
    node.stop();
    assert_eq!(client.block_on(wait).map(drop), Err(libc::EINTR));
}
