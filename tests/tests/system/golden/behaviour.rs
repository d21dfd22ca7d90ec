//! What the original's own tests relied on (`spec/protocol.md` section 7), of volumes, by raw
//! requests to mapperd and vlmcd; on each storage.

use client::{Hint, Volume};
use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use system_tests::golden::node::{Answer, both};
use system_tests::golden::{Node, name};
use system_tests::storage::Storage;
use xseg::Request;
use xseg::protocol::{
    CloneRequest, CreateObject, CreateRequest, MapSegment, NameRequest, Operation, flags, mapflags,
};

const BLOCK: u64 = 4 << 20;
const SIZE: u64 = 2 * BLOCK + 1234;
const ZERO_BLOCK: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

on_each! {
    memory, files, rados =>
        open_and_close,
        reading_what_was_never_written_and_what_is_not_there,
        ranges_past_the_end,
        creation_and_deletion,
        snapshots_and_clones,
        a_snapshot_is_read_and_closed_and_nothing_else,
        renaming,
        b21_a_deleted_name_is_free_for_all,
        maps_of_given_objects,
        b11_b23_small_blocks_and_many_chunks,
        flushes,
}
on_each! {
    files, rados =>
        what_mapw_answered_survives_a_restart,
        b01_a_missing_object_reads_as_zeros_and_can_be_deleted,
        hash_of_a_snapshot_makes_a_map_that_others_can_read,
        b12_a_snapshot_behind_vlmcds_back_is_of_one_moment,
}

fn to_mapperd(node: &Node, operation: Operation, volume: &str) -> Result<(), i32> {
    node.do_to(node.client().ports().mapperd, operation, volume)
}

fn to_vlmcd(node: &Node, operation: Operation, volume: &str) -> Result<(), i32> {
    node.do_to(node.client().ports().vlmcd, operation, volume)
}

fn clone_of(node: &Node, parent: &str, volume: &str, size: u64) -> Result<(), i32> {
    let parent = if parent.is_empty() {
        xseg::Name::EMPTY
    } else {
        name(parent)
    };
    let bytes = CloneRequest { parent, size }.encode();
    let request = Request::new(Operation::Clone, name(volume));
    node.ask(node.client().ports().mapperd, request, &bytes)
        .map(drop)
}

fn create(node: &Node, volume: &str) {
    clone_of(node, "", volume, SIZE).unwrap();
}

fn snapshot(node: &Node, volume: &str, snapshot: &str) -> Result<(), i32> {
    let mapperd = node.client().ports().mapperd;
    node.with_name(mapperd, Operation::Snapshot, volume, snapshot, 0)
        .map(drop)
}

fn rename(node: &Node, volume: &str, new: &str) -> Result<(), i32> {
    let mapperd = node.client().ports().mapperd;
    node.with_name(mapperd, Operation::Rename, volume, new, 0)
        .map(drop)
}

fn info(node: &Node, volume: &str) -> Result<u64, i32> {
    let request = Request::new(Operation::Info, name(volume));
    let vlmcd = node.client().ports().vlmcd;
    let (_, by_vlmcd) = node.ask(vlmcd, request, &[])?;
    let (_, by_mapperd) = node.ask(node.client().ports().mapperd, request, &[0; 8])?;
    assert_eq!(by_vlmcd, by_mapperd);
    Ok(u64::from_le_bytes(by_vlmcd.try_into().unwrap()))
}

fn names(segments: &[MapSegment]) -> Vec<String> {
    let text = |segment: &MapSegment| String::from_utf8(segment.name.to_vec()).unwrap();
    segments.iter().map(text).collect()
}

fn object(volume: &str, epoch: u64, index: u64) -> String {
    format!("{volume}_{epoch:016x}_{index:016x}")
}

fn read(node: &Node, volume: &str, offset: u64, size: u64) -> Answer {
    node.read(node.client().ports().vlmcd, volume, offset, size)
}

fn write(node: &Node, volume: &str, offset: u64, bytes: &[u8]) -> Result<u64, i32> {
    node.write(node.client().ports().vlmcd, volume, offset, bytes)
}

fn open_and_close(storage: &Storage) {
    storage.serve(|node| {
        create(node, "volume-1");
        for send in [to_mapperd, to_vlmcd] {
            assert_eq!(
                send(node, Operation::Close, "volume-1"),
                Err(libc::EINVAL),
                "never opened"
            );
            assert_eq!(send(node, Operation::Open, "volume-1"), Ok(()));
            assert_eq!(
                send(node, Operation::Open, "volume-1"),
                Ok(()),
                "opened twice"
            );
            assert_eq!(send(node, Operation::Close, "volume-1"), Ok(()));
            assert_eq!(
                send(node, Operation::Close, "volume-1"),
                Err(libc::EINVAL),
                "closed twice"
            );
            assert_eq!(send(node, Operation::Open, "nothing"), Err(libc::ENOENT));
            assert_eq!(send(node, Operation::Close, "nothing"), Err(libc::ENOENT));
        }
    });
}

fn reading_what_was_never_written_and_what_is_not_there(storage: &Storage) {
    storage.serve(|node| {
        create(node, "volume-1");
        assert_eq!(info(node, "volume-1"), Ok(SIZE), "exact");
        assert_eq!(
            read(node, "volume-1", 0, SIZE),
            Ok((SIZE, vec![0; SIZE as usize]))
        );
        assert_eq!(read(node, "nothing", 0, 512), Err(libc::ENOENT));
        assert_eq!(write(node, "nothing", 0, &[1; 512]), Err(libc::ENOENT));
        assert_eq!(info(node, "nothing"), Err(libc::ENOENT));
    });
}

fn ranges_past_the_end(storage: &Storage) {
    storage.serve(|node| {
        create(node, "volume-1");
        let (past, none) = (Err(libc::EINVAL), Ok((0, vec![])));
        assert_eq!(read(node, "volume-1", SIZE - 511, 512), past);
        assert_eq!(
            write(node, "volume-1", SIZE - 511, &[1; 512]),
            Err(libc::EINVAL)
        );
        assert_eq!(
            read(node, "volume-1", SIZE, 0),
            none,
            "length 0 at the end is fine"
        );
        assert_eq!(write(node, "volume-1", SIZE, &[]), Ok(0));
        assert_eq!(
            read(node, "volume-1", SIZE + 1, 0),
            past,
            "beyond it is not"
        );
        assert_eq!(write(node, "volume-1", SIZE + 1, &[]), Err(libc::EINVAL));
        for operation in [Operation::MapRead, Operation::MapWrite] {
            let map = |offset, size| {
                node.map(operation, "volume-1", offset, size)
                    .map(|m| m.len())
            };
            assert_eq!(map(0, SIZE), Ok(3), "{operation:?}");
            assert_eq!(map(0, SIZE + 1), Err(libc::EINVAL), "{operation:?}");
            assert_eq!(map(SIZE, 1), Err(libc::EINVAL), "{operation:?}");
            assert_eq!(map(u64::MAX, 1), Err(libc::EINVAL), "{operation:?}");
            assert_eq!(map(1, u64::MAX), Err(libc::EINVAL), "{operation:?}");
        }
    });
}

fn creation_and_deletion(storage: &Storage) {
    storage.serve(|node| {
        assert_eq!(
            clone_of(node, "", "volume-1", 0),
            Err(libc::EINVAL),
            "blank, of size 0"
        );
        create(node, "volume-1");
        assert_eq!(clone_of(node, "", "volume-1", SIZE), Err(libc::EEXIST));
        let first = node.map(Operation::MapWrite, "volume-1", 0, 1).unwrap();
        assert_eq!(names(&first), [object("volume-1", 1, 0)]);
        assert_eq!(to_vlmcd(node, Operation::Delete, "volume-1"), Ok(()));
        for operation in [Operation::Delete, Operation::Info, Operation::Open] {
            assert_eq!(
                to_vlmcd(node, operation, "volume-1"),
                Err(libc::ENOENT),
                "{operation:?}"
            );
        }
        create(node, "volume-1");
        let again = node.map(Operation::MapWrite, "volume-1", 0, SIZE).unwrap();
        assert_eq!(
            names(&again),
            [0, 1, 2].map(|index| object("volume-1", 2, index))
        );
    });
}

fn snapshots_and_clones(storage: &Storage) {
    storage.serve(|node| {
        create(node, "volume-1");
        write(node, "volume-1", 0, b"first").unwrap();
        assert_eq!(snapshot(node, "volume-1", "snapshot-1"), Ok(()));
        assert_eq!(snapshot(node, "volume-1", "snapshot-1"), Err(libc::EEXIST));
        assert_eq!(
            clone_of(node, "snapshot-1", "volume-2", SIZE - 1),
            Err(libc::EINVAL),
            "smaller"
        );
        assert_eq!(
            clone_of(node, "volume-1", "volume-2", 0),
            Err(libc::EINVAL),
            "of a volume"
        );
        assert_eq!(
            clone_of(node, "snapshot-1", "volume-2", SIZE + BLOCK),
            Ok(())
        );
        assert_eq!(
            clone_of(node, "snapshot-1", "volume-2", 0),
            Err(libc::EEXIST)
        );
        let shared = node
            .map(Operation::MapRead, "volume-2", 0, SIZE + BLOCK)
            .unwrap();
        let zero = ZERO_BLOCK.to_owned();
        assert_eq!(
            names(&shared),
            [object("volume-1", 1, 0), zero.clone(), zero.clone(), zero]
        );
        let own = node.map(Operation::MapWrite, "volume-2", 0, 1).unwrap();
        assert_eq!(names(&own), [object("volume-2", 1, 0)]);
        assert_eq!(own[0].flags & mapflags::ZERO, 0, "never ZERO");
        assert_eq!(read(node, "volume-2", 0, 5), Ok((5, b"first".to_vec())));
    });
}

fn a_snapshot_is_read_and_closed_and_nothing_else(storage: &Storage) {
    storage.serve(|node| {
        create(node, "volume-1");
        snapshot(node, "volume-1", "snapshot-1").unwrap();
        let refused = [
            write(node, "snapshot-1", 0, b"never").map(drop),
            node.map(Operation::MapWrite, "snapshot-1", 0, 1).map(drop),
            to_vlmcd(node, Operation::Open, "snapshot-1"),
            snapshot(node, "snapshot-1", "snapshot-2"),
            rename(node, "snapshot-1", "snapshot-2"),
            node.client()
                .resize(name("snapshot-1"), SIZE + 1, true)
                .map_err(|e| e.errno),
        ];
        assert_eq!(refused, [Err(libc::EROFS); 6]);
        assert!(read(node, "snapshot-1", 0, 512).is_ok());
        assert_eq!(
            to_vlmcd(node, Operation::Close, "snapshot-1"),
            Ok(()),
            "after a read"
        );
        assert_eq!(to_vlmcd(node, Operation::Delete, "snapshot-1"), Ok(()));
    });
}

fn renaming(storage: &Storage) {
    storage.serve(|node| {
        create(node, "volume-1");
        let before = node.map(Operation::MapWrite, "volume-1", 0, SIZE).unwrap();
        write(node, "volume-1", 7, b"kept").unwrap();
        assert_eq!(rename(node, "volume-1", "volume-2"), Ok(()));
        for operation in [Operation::MapRead, Operation::MapWrite] {
            assert_eq!(
                node.map(operation, "volume-1", 0, 1),
                Err(libc::ENOENT),
                "{operation:?}"
            );
            let same = node.map(operation, "volume-2", 0, SIZE).unwrap();
            assert_eq!(names(&same), names(&before), "{operation:?}");
        }
        assert_eq!(clone_of(node, "", "volume-2", SIZE), Err(libc::EEXIST));
        assert_eq!(read(node, "volume-2", 7, 4), Ok((4, b"kept".to_vec())));
        snapshot(node, "volume-2", "snapshot-2").unwrap();
        let own = node.map(Operation::MapWrite, "volume-2", 0, 1).unwrap();
        assert_eq!(names(&own), [object("volume-2", 2, 0)], "NEWNAME_epoch+1");
        create(node, "volume-1");
        let again = node.map(Operation::MapWrite, "volume-1", 0, 1).unwrap();
        assert_eq!(
            names(&again),
            [object("volume-1", 2, 0)],
            "the old name's epochs go on"
        );
    });
}

/// The original could use a deleted name for create and clone, never for snapshot and rename; and
/// a snapshot over it would have begun with epoch 0 again.
fn b21_a_deleted_name_is_free_for_all(storage: &Storage) {
    storage.serve(|node| {
        for target in ["target-1", "target-2"] {
            create(node, target);
            to_vlmcd(node, Operation::Delete, target).unwrap();
        }
        create(node, "volume-1");
        assert_eq!(snapshot(node, "volume-1", "target-1"), Ok(()));
        assert_eq!(rename(node, "volume-1", "target-2"), Ok(()));
        let own = node.map(Operation::MapWrite, "target-2", 0, 1).unwrap();
        assert_eq!(names(&own), [object("target-2", 2, 0)]);
        to_vlmcd(node, Operation::Delete, "target-1").unwrap();
        create(node, "target-1");
        let own = node.map(Operation::MapWrite, "target-1", 0, 1).unwrap();
        assert_eq!(
            names(&own),
            [object("target-1", 3, 0)],
            "created, snapshot, created"
        );
    });
}

fn given(name_of: &str, flags: u32) -> CreateObject {
    CreateObject {
        name: name(name_of),
        flags,
    }
}

fn create_map(node: &Node, volume: &str, size: u64, asked: &CreateRequest) -> Result<(), i32> {
    let request = Request {
        size,
        ..Request::new(Operation::Create, name(volume))
    };
    node.ask(node.client().ports().mapperd, request, &asked.encode())
        .map(drop)
}

fn maps_of_given_objects(storage: &Storage) {
    storage.serve(|node| {
        let (readonly, writable) = (mapflags::READONLY, 0);
        let asked = |flags, object_flags| CreateRequest {
            block_size: 0,
            flags,
            objects: vec![
                given("object-1", object_flags),
                given(ZERO_BLOCK, object_flags),
            ],
        };
        let blockerb = node.client().ports().blockerb;
        node.write(blockerb, "object-1", 0, b"content").unwrap();
        for (size, why) in [
            (0, "no size"),
            (BLOCK, "one too many"),
            (2 * BLOCK + 1, "one too few"),
        ] {
            let refused = create_map(node, "given-1", size, &asked(readonly, readonly));
            assert_eq!(refused, Err(libc::EINVAL), "{why}");
        }
        assert_eq!(
            create_map(node, "given-1", BLOCK + 1, &asked(readonly, readonly)),
            Ok(())
        );
        assert_eq!(
            create_map(node, "given-1", BLOCK + 1, &asked(readonly, readonly)),
            Err(libc::EEXIST)
        );
        assert_eq!(
            node.map(Operation::MapWrite, "given-1", 0, 1),
            Err(libc::EROFS)
        );
        assert_eq!(read(node, "given-1", 0, 7), Ok((7, b"content".to_vec())));
        assert_eq!(
            create_map(node, "given-2", BLOCK + 1, &asked(writable, writable)),
            Ok(())
        );
        let kept = node
            .map(Operation::MapWrite, "given-2", 0, BLOCK + 1)
            .unwrap();
        let own = object("given-2", 1, 1);
        assert_eq!(
            names(&kept),
            ["object-1".to_owned(), own],
            "writable objects keep their names"
        );
        assert_eq!(
            create_map(node, "given-3", BLOCK + 1, &asked(writable, readonly)),
            Ok(())
        );
        let copied = node.map(Operation::MapWrite, "given-3", 0, 1).unwrap();
        assert_eq!(names(&copied), [object("given-3", 1, 0)]);
        assert_eq!(read(node, "given-3", 0, 7), Ok((7, b"content".to_vec())));
    });
}

/// Two entries fill a chunk of a map with blocks of 256 bytes. The original split chunks rightly
/// only for ranges that begin at 0 (B23), and gave every clone blocks of 4 MiB (B11).
fn b11_b23_small_blocks_and_many_chunks(storage: &Storage) {
    storage.serve(|node| {
        let asked = CreateRequest {
            block_size: 256,
            flags: 0,
            objects: (0..7)
                .map(|_| given(ZERO_BLOCK, mapflags::READONLY))
                .collect(),
        };
        let size = 6 * 256 + 10;
        create_map(node, "small-1", size, &asked).unwrap();
        write(node, "small-1", 3 * 256 + 5, &[7; 300]).unwrap();
        let segments = node
            .map(Operation::MapRead, "small-1", 2 * 256, 4 * 256)
            .unwrap();
        let zero = ZERO_BLOCK.to_owned();
        let own = |index| object("small-1", 1, index);
        assert_eq!(names(&segments), [zero.clone(), own(3), own(4), zero]);
        assert_eq!(
            segments.iter().map(|s| s.size).collect::<Vec<_>>(),
            [256; 4]
        );
        snapshot(node, "small-1", "small-2").unwrap();
        clone_of(node, "small-2", "small-3", 0).unwrap();
        let segments = node.map(Operation::MapRead, "small-3", 0, size).unwrap();
        assert_eq!(segments.len(), 7, "the parent's block size");
        assert_eq!(segments[6].size, 10);
        let mut expected = vec![0; size as usize];
        expected[3 * 256 + 5..][..300].fill(7);
        assert_eq!(read(node, "small-3", 0, size), Ok((size, expected)));
    });
}

/// MAPW answers what stays so: after mapperd began anew it says the same.
fn what_mapw_answered_survives_a_restart(storage: &Storage) {
    let node = storage.node();
    create(&node, "volume-1");
    let before = node
        .map(Operation::MapWrite, "volume-1", BLOCK, SIZE - BLOCK)
        .unwrap();
    node.stop();
    let node = storage.node();
    let after = node
        .map(Operation::MapRead, "volume-1", BLOCK, SIZE - BLOCK)
        .unwrap();
    assert_eq!(names(&after), names(&before));
    node.stop();
}

/// An entry whose object never came to be: a crash between the two, in the original, made the
/// volume unreadable and impossible to delete.
fn b01_a_missing_object_reads_as_zeros_and_can_be_deleted(storage: &Storage) {
    let node = storage.node();
    create(&node, "volume-1");
    write(&node, "volume-1", 0, b"lost").unwrap();
    write(&node, "volume-1", BLOCK, b"kept").unwrap();
    node.stop();
    let lose = |epoch| {
        storage.remove("blocks", &object("volume-1", epoch, 0));
    };
    lose(1);
    let node = storage.node();
    assert_eq!(read(&node, "volume-1", 0, 4), Ok((4, vec![0; 4])));
    assert_eq!(
        read(&node, "volume-1", BLOCK - 2, 6),
        Ok((6, b"\0\0kept".to_vec()))
    );
    snapshot(&node, "volume-1", "snapshot-1").unwrap();
    assert_eq!(write(&node, "volume-1", 2, b"new"), Ok(3));
    assert_eq!(read(&node, "volume-1", 0, 5), Ok((5, b"\0\0new".to_vec())));
    lose(2);
    assert_eq!(to_vlmcd(&node, Operation::Delete, "volume-1"), Ok(()));
    node.stop();
}

fn flushes(storage: &Storage) {
    storage.serve(|node| {
        create(node, "volume-1");
        for volume in ["volume-1", "nothing-here"] {
            assert_eq!(to_vlmcd(node, Operation::Flush, volume), Ok(()), "{volume}");
            let request = Request {
                flags: flags::FLUSH,
                ..Request::new(Operation::Write, name(volume))
            };
            let vlmcd = node.client().ports().vlmcd;
            assert_eq!(node.ask(vlmcd, request, &[]), Ok((0, vec![])), "{volume}");
        }
        let request = Request {
            size: 3,
            flags: flags::FUA,
            ..Request::new(Operation::Write, name("volume-1"))
        };
        let vlmcd = node.client().ports().vlmcd;
        assert_eq!(
            node.ask(vlmcd, request, b"fua")
                .map(|(serviced, _)| serviced),
            Ok(3)
        );
    });
}

/// HASH of a snapshot (`spec/choices.md`): a read-only map, named by the Merkle root of its blocks;
/// done again it is the same; of a volume it is refused.
fn hash_of_a_snapshot_makes_a_map_that_others_can_read(storage: &Storage) {
    let node = storage.node();
    let client = node.client();
    create(&node, "volume-1");
    write(&node, "volume-1", BLOCK - 3, b"across").unwrap();
    snapshot(&node, "volume-1", "snapshot-1").unwrap();
    let hashed = client.hash(name("snapshot-1"), Hint::default()).unwrap();
    assert_eq!(client.hash(name("snapshot-1"), Hint::default()), Ok(hashed));
    let root = std::str::from_utf8(&hashed).unwrap();
    assert_eq!(root.len(), 64);
    assert_eq!(read(&node, root, BLOCK - 3, 6), Ok((6, b"across".to_vec())));
    let refused = client.hash(name("volume-1"), Hint::default()).unwrap_err();
    assert_eq!(refused.errno, libc::EINVAL);
    node.stop();
    let tree = storage.tree();
    system_tests::golden::tree::assert_servable_by_the_original(&tree);
    let hash_of = |volume| system_tests::golden::tree::decoded_hash(&tree, volume);
    assert_eq!(hash_of(root), hash_of("snapshot-1"));
}

/// A snapshot that mapperd is asked for directly: vlmcd, which would have let the writes under way
/// end first, knows nothing of it (B12). Of two blocks that are written one after the other, no
/// snapshot shows the second without the first, or less than was answered before it was asked for,
/// or what was sent after it was answered.
fn b12_a_snapshot_behind_vlmcds_back_is_of_one_moment(storage: &Storage) {
    const SNAPSHOTS: u64 = 12;
    let node = storage.node();
    create(&node, "volume-1");
    let client = node.client();
    let volume = Volume::open(client, name("volume-1"), Hint::default()).unwrap();
    let (answered, enough) = (Cell::new(0u64), Cell::new(false));
    let writes = async {
        while !enough.get() {
            let next = (answered.get() + 1).to_le_bytes();
            volume.write(&next, 0, false).await.unwrap();
            volume.write(&next, BLOCK, false).await.unwrap();
            answered.set(answered.get() + 1);
        }
    };
    let snapshots = async {
        let mut bounds = Vec::new();
        for at in 0..SNAPSHOTS {
            // Each begins when something was written since the one before.
            poll_fn(|_| match answered.get() >= at {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            let floor = answered.get();
            let request = Request::new(Operation::Snapshot, name("volume-1"));
            let bytes = NameRequest(name(&format!("snapshot-{at}"))).encode();
            let call = client.call(client.ports().mapperd, request, &bytes, 0);
            call.await.unwrap();
            // One more may have been sent.
            bounds.push((floor, answered.get() + 1));
        }
        enough.set(true);
        bounds
    };
    let (_, bounds) = client.block_on(both(writes, snapshots));
    for (at, (floor, ceiling)) in (0..SNAPSHOTS).zip(bounds) {
        let value = |offset| {
            let (_, bytes) = read(&node, &format!("snapshot-{at}"), offset, 8).unwrap();
            u64::from_le_bytes(bytes.try_into().unwrap())
        };
        let (first, second) = (value(0), value(BLOCK));
        let whole = first == second || first == second + 1;
        assert!(
            whole && second >= floor && first <= ceiling,
            "{at}: {first}, {second}, of {floor} answered before and {ceiling} sent until it was"
        );
    }
    drop(volume);
    node.stop();
}
