//! The original's defects (spec/protocol.md section 6), one test each, with its story.

use crate::audit;
use crate::rig::*;
use driver::{Errno, Faults, Op};
use std::cell::Cell;
use std::rc::Rc;
use xseg::Request;
use xseg::protocol::{Operation, flags};

/// Lets operations fail that `which` picks, while the switch is on.
fn faults(on: &Rc<Cell<bool>>, which: fn(&Op) -> bool, errno: Errno) -> Option<Faults> {
    let on = on.clone();
    let fail = move |op: &Op| (on.get() && which(op)).then_some(errno);
    Some(Faults {
        choose: Rc::new(|| 0),
        delay: 0,
        fail: Rc::new(fail),
    })
}

/// The entry of a zero block was written before its object existed: a crash in between left a
/// volume that could be neither read nor deleted.
#[test]
fn b01_a_missing_object_is_zeros_and_can_be_deleted() {
    let mut rig = Rig::new();
    rig.create("volume", 2 * BLOCK).unwrap();
    rig.write("volume", 0, b"x").unwrap();
    rig.simple(Operation::Close, "volume").unwrap();
    let lost = object("volume", 1, 0);
    let delete = Request::new(Operation::Delete, name(&lost));
    rig.storage_call(BLOCKERB, delete, &[]).unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    rig.write("volume", 1, b"y").unwrap();
    assert_eq!(
        rig.read("volume", 0, 3).unwrap(),
        b"\0y\0",
        "the copy's source counts as zeros"
    );
    let lost = object("volume", 2, 0);
    let delete = Request::new(Operation::Delete, name(&lost));
    rig.storage_call(BLOCKERB, delete, &[]).unwrap();
    rig.simple(Operation::Delete, "volume").unwrap();
    rig.simple(Operation::Delete, "snapshot").unwrap();
    audit::check(&rig);
}

/// The same story from its beginning: an entry is written only when its object is there, and new.
#[test]
fn b01_no_entry_comes_before_its_object() {
    let mut rig = Rig::new();
    let on = Rc::new(Cell::new(true));
    let makes = |op: &Op| matches!(op, Op::Truncate { .. });
    rig.weather.blocks = faults(&on, makes, Errno::NOSPC);
    rig.kill_storage();
    rig.start_storage();
    rig.create("volume", BLOCK).unwrap();
    let before = rig.entries("volume");
    let asked = rig.map(Operation::MapWrite, "volume", 0, 1);
    assert_eq!(asked.unwrap_err(), libc::ENOSPC);
    assert_eq!(rig.entries("volume"), before, "no entry without its object");
    on.set(false);
    let own = object("volume", 1, 0);
    rig.blocks_put(&own, b"a leftover of the dead");
    rig.map(Operation::MapWrite, "volume", 0, 1).unwrap();
    assert_eq!(rig.entries("volume"), [(3, own.clone())]);
    assert_eq!(rig.block(own.as_bytes()), Some(Vec::new()));
}

/// An object that Archipelago did not make is nowhere else: its loss is no zero block.
#[test]
fn b01_a_missing_pithos_block_is_an_error() {
    let mut rig = Rig::new();
    let hash = "0bc7a95a16ea344b939661371f9a9bb7758b2a4a6d925b30fc44202f1ecffab8";
    let (request, data) = create_request("snf_file_7", BLOCK, 0, 1, &[(hash, 1)]);
    rig.call(request, &data, 0).unwrap();
    rig.clone_of("snf_file_7", "machine", 0).unwrap();
    assert_eq!(
        rig.map(Operation::MapWrite, "machine", 0, 1).unwrap_err(),
        libc::EIO
    );
    assert_eq!(
        rig.entries("machine"),
        [(0, hash.to_owned())],
        "the entry stays as it was"
    );
    rig.blocks_put(hash, b"pithos");
    rig.write("machine", 0, b"P").unwrap();
    assert_eq!(rig.read("machine", 0, 6).unwrap(), b"Pithos");
}

/// Unknown operations were never answered, and the slot was lost.
#[test]
fn b02_every_operation_is_answered() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    for op in [
        Operation::Read,
        Operation::Write,
        Operation::Copy,
        Operation::Acquire,
        Operation::Release,
        Operation::Sync,
        Operation::Commit,
        Operation::Discard,
        Operation::Zeroes,
        Operation::Fence,
        Operation::SyncTag,
        Operation::AwaitLock,
    ] {
        assert_eq!(rig.simple(op, "volume"), Err(libc::EOPNOTSUPP), "{op:?}");
    }
    let odd = Request {
        op: 4711,
        ..Request::new(Operation::Ping, name("volume"))
    };
    assert_eq!(rig.call(odd, &[], 0), Err(libc::EOPNOTSUPP));
    assert_eq!(rig.simple(Operation::Ping, ""), Ok(()));
    assert_eq!(rig.simple(Operation::Flush, "nosuchvolume"), Ok(()));
}

/// Any failure to read a header counted as "no such volume", and creation wrote over it.
#[test]
fn b03_what_cannot_be_read_is_not_written_over() {
    let mut rig = Rig::new();
    let on = Rc::new(Cell::new(false));
    // The headers alone: what else is read of a name on the way must not be what refuses it.
    let reads = |op: &Op| match op {
        Op::Read { name, .. } | Op::Info { name } => {
            [&b"volume"[..], b"unheardof"].contains(&name.as_bytes())
        }
        _ => false,
    };
    rig.weather.maps = faults(&on, reads, Errno::IO);
    rig.kill_storage();
    rig.start_storage();
    rig.create("volume", BLOCK).unwrap();
    rig.create("source", BLOCK).unwrap();
    rig.maps_put("garbage", b"no map at all");
    rig.maps_put("archip_oldstyle", b"\x01\0\0\0\0\0\x40\0\0\0\0\0rest");
    for taken in ["volume", "garbage", "oldstyle"] {
        let before: Vec<_> = rig.maps.names();
        assert_eq!(rig.create(taken, BLOCK), Err(libc::EEXIST), "{taken}");
        assert_eq!(rig.snapshot("source", taken), Err(libc::EEXIST), "{taken}");
        assert_eq!(rig.rename("source", taken), Err(libc::EEXIST), "{taken}");
        assert_eq!(rig.maps.names(), before);
        assert!(!rig.is_locked(taken));
    }
    // What was deleted in the old layout is not in the way.
    let mut deleted = rig.stored("volume").unwrap();
    deleted[23] = 2;
    rig.maps_put("archip_gonevolume", &deleted);
    rig.create("gonevolume", BLOCK).unwrap();
    on.set(true);
    let before = rig.stored("volume");
    for volume in ["volume", "unheardof"] {
        assert_eq!(rig.create(volume, BLOCK), Err(libc::EIO), "{volume}");
    }
    assert_eq!(rig.stored("volume"), before);
    assert!(rig.stored("unheardof").is_none());
}

/// A failed copy was answered as a success with an empty object.
#[test]
fn b04_b05_a_failed_copy_leaves_the_entry() {
    let mut rig = Rig::new();
    let on = Rc::new(Cell::new(false));
    let copies = |op: &Op| matches!(op, Op::Copy { .. });
    rig.weather.blocks = faults(&on, copies, Errno::NOSPC);
    rig.kill_storage();
    rig.start_storage();
    rig.create("volume", 3 * BLOCK).unwrap();
    rig.write("volume", BLOCK, b"kept").unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    on.set(true);
    let asked = rig.map(Operation::MapWrite, "volume", 0, 3 * BLOCK);
    assert_eq!(asked.unwrap_err(), libc::ENOSPC);
    assert_eq!(rig.entries("volume")[1], (2, object("volume", 1, 1)));
    on.set(false);
    rig.write("volume", BLOCK, b"K").unwrap();
    assert_eq!(rig.read("volume", BLOCK, 4).unwrap(), b"Kept");
    audit::check(&rig);
}

/// Truncate took WRITABLE from all entries within one epoch, so that the next write copied an
/// object onto itself.
#[test]
fn b07_truncate_keeps_writable() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.write("volume", 0, b"here").unwrap();
    rig.truncate("volume", 3 * BLOCK, 0).unwrap();
    assert_eq!(rig.entries("volume")[0], (3, object("volume", 1, 0)));
    assert!(rig.is_locked("volume"), "it is in use");
    rig.write("volume", 4, b" too").unwrap();
    assert_eq!(rig.read("volume", 0, 8).unwrap(), b"here too");
}

/// Stale bytes came back when a volume was cut within a block and grew again.
#[test]
fn b07_what_was_cut_off_reads_as_zeros() {
    for shared in [false, true] {
        let mut rig = Rig::new();
        rig.create("volume", 2 * BLOCK).unwrap();
        rig.write("volume", BLOCK + 1000, &[7; 1000]).unwrap();
        if shared {
            rig.snapshot("volume", "snapshot").unwrap();
        }
        rig.truncate("volume", BLOCK + 1500, flags::SHRINK).unwrap();
        let own = object("volume", if shared { 2 } else { 1 }, 1);
        let mut cut = rig.block(own.as_bytes()).unwrap();
        cut.resize(2000, 0);
        assert_eq!(cut[1500..], [0; 500], "shared: {shared}");
        rig.truncate("volume", 4 * BLOCK, 0).unwrap();
        let data = rig.read("volume", BLOCK + 1000, 1000).unwrap();
        assert_eq!(data[..500], [7; 500]);
        assert_eq!(data[500..], [0; 500], "shared: {shared}");
        if shared {
            assert_eq!(rig.read("snapshot", BLOCK + 1000, 1000).unwrap(), [7; 1000]);
        }
        audit::check(&rig);
    }
}

/// The same when the original had cut it, which left the bytes behind.
#[test]
fn b07_growing_clears_what_the_original_left() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK + 1000).unwrap();
    rig.write("volume", BLOCK, &[7; 1000]).unwrap();
    rig.simple(Operation::Close, "volume").unwrap();
    rig.blocks_put(&object("volume", 1, 1), &[7; 3000]);
    rig.truncate("volume", 2 * BLOCK, 0).unwrap();
    let data = rig.read("volume", BLOCK, 3000).unwrap();
    assert_eq!(
        (&data[..1000], &data[1000..]),
        (&[7; 1000][..], &[0; 2000][..])
    );
}

/// A map that truncate left without WRITABLE in its own epoch: nothing is copied, the entry says
/// again what is so.
#[test]
fn b07_an_own_object_is_not_copied_onto_itself() {
    let mut rig = Rig::new();
    let copies = |op: &Op| matches!(op, Op::Copy { .. });
    rig.weather.blocks = faults(&Rc::new(Cell::new(true)), copies, Errno::IO);
    rig.kill_storage();
    rig.start_storage();
    rig.create("volume", BLOCK).unwrap();
    rig.write("volume", 0, b"here").unwrap();
    rig.simple(Operation::Close, "volume").unwrap();
    let mut chunk = rig.stored("volume_0000000000000000").unwrap();
    chunk[0] = 2;
    rig.maps_put("volume_0000000000000000", &chunk);
    rig.write("volume", 4, b" too").unwrap();
    assert_eq!(rig.entries("volume"), [(3, object("volume", 1, 0))]);
    assert_eq!(rig.read("volume", 0, 8).unwrap(), b"here too");
}

#[test]
fn b07_bad_sizes_are_refused() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    for (size, flag) in [(0, flags::SHRINK), (0, 0), (BLOCK - 1, 0), (1 << 63, 0)] {
        assert_eq!(
            rig.truncate("volume", size, flag),
            Err(libc::EINVAL),
            "{size}"
        );
    }
    assert_eq!(rig.truncate("nosuchvolume", BLOCK, 0), Err(libc::ENOENT));
    assert!(!rig.is_locked("volume") && !rig.is_locked("nosuchvolume"));
}

/// A snapshot sent straight to mapperd did not wait for the writes that vlmcd had under way.
#[test]
fn b12_a_snapshot_by_any_door_fences_writes() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    let (answer, segments) = rig.map(Operation::MapWrite, "volume", 0, 4).unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    let late = Request {
        size: 4,
        flags: flags::VOLATILE,
        tag: answer.tag,
        lease: answer.lease,
        ..Request::new(Operation::Write, segments[0].name)
    };
    let id = rig.peer.ask(BLOCKERB, late, b"late", 0);
    rig.settle();
    assert_eq!(rig.peer.take(id).unwrap().unwrap_err(), libc::ESTALE);
    assert_eq!(rig.read("snapshot", 0, 4).unwrap(), [0; 4]);
}

/// Failed snapshots left locks behind, and so did snapshots of volumes that were not open.
#[test]
fn b16_no_operation_leaves_a_lock() {
    let mut rig = Rig::new();
    let on = Rc::new(Cell::new(false));
    let writes = |op: &Op| matches!(op, Op::Write { name, .. } if name.starts_with(b"snapshot"));
    rig.weather.maps = faults(&on, writes, Errno::NOSPC);
    rig.kill_storage();
    rig.start_storage();
    rig.create("volume", BLOCK).unwrap();
    on.set(true);
    assert_eq!(rig.snapshot("volume", "snapshot"), Err(libc::ENOSPC));
    assert_eq!(rig.rename("volume", "snapshot"), Err(libc::ENOSPC));
    assert_eq!(rig.clone_of("", "snapshot", BLOCK), Err(libc::ENOSPC));
    assert!(!rig.is_locked("volume") && !rig.is_locked("snapshot"));
    on.set(false);
    assert_eq!(rig.read("volume", 0, 1).unwrap(), [0]);
    rig.simple(Operation::Close, "volume").unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    assert!(!rig.is_locked("volume") && !rig.is_locked("snapshot"));
    rig.write("volume", 0, b"x").unwrap();
    rig.snapshot("volume", "another").unwrap();
    assert!(rig.is_locked("volume"), "it was open, and stays so");
    audit::check(&rig);
}

/// A failed lookup made and removed a lock file.
#[test]
fn b25_no_lock_for_what_does_not_exist() {
    let mut rig = Rig::new();
    let locked = Rc::new(Cell::new(false));
    let seen = locked.clone();
    let fail = move |op: &Op| {
        seen.set(seen.get() | matches!(op, Op::Acquire { .. }));
        None
    };
    rig.weather.maps = Some(Faults {
        choose: Rc::new(|| 0),
        delay: 0,
        fail: Rc::new(fail),
    });
    rig.kill_storage();
    rig.start_storage();
    for op in [
        Operation::Open,
        Operation::Delete,
        Operation::Info,
        Operation::Close,
        Operation::Update,
        Operation::MapRead,
        Operation::MapWrite,
        Operation::Truncate,
    ] {
        let request = Request {
            offset: BLOCK,
            ..Request::new(op, name("nosuchvolume"))
        };
        assert_eq!(rig.call(request, &[], 0), Err(libc::ENOENT), "{op:?}");
    }
    assert_eq!(rig.snapshot("nosuchvolume", "snapshot"), Err(libc::ENOENT));
    assert_eq!(rig.rename("nosuchvolume", "newname"), Err(libc::ENOENT));
    assert_eq!(
        rig.clone_of("nosuchvolume", "newname", 0),
        Err(libc::ENOENT)
    );
    assert!(!locked.get());
}

/// Epochs were checked on the parent; at their end names would repeat.
#[test]
fn b11_epochs_end_with_an_error() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    let mut header = rig.stored("volume").unwrap();
    header[24..32].fill(0xff);
    rig.maps_put("volume", &header);
    assert_eq!(rig.snapshot("volume", "snapshot"), Err(libc::EOVERFLOW));
    assert_eq!(rig.stored("volume").unwrap(), header);
    rig.simple(Operation::Delete, "volume").unwrap();
    assert_eq!(rig.create("volume", BLOCK), Err(libc::EOVERFLOW));
    assert!(!rig.is_locked("volume"));
}

/// Entries were read and written rightly only where a range begins at block 0: here at and across
/// the ends of a page (4096 entries) and of a chunk (32768).
#[test]
fn b23_ranges_may_begin_anywhere() {
    let mut rig = Rig::new();
    rig.create("volume", 40_000 * BLOCK).unwrap();
    let written = [4095, 4096, 5000, 32_767, 32_768];
    for block in written {
        let data = format!("{block:08}");
        rig.write("volume", block * BLOCK, data.as_bytes()).unwrap();
    }
    rig.simple(Operation::Close, "volume").unwrap();
    let len = |chunk: &str| rig.stored(chunk).map(|bytes| bytes.len());
    let chunks = ["volume_0000000000000000", "volume_0000000000000001"].map(len);
    assert_eq!(chunks, [Some(32_768 * 128), Some(7_232 * 128)]);
    let entries = rig.entries("volume");
    let own = (0..).zip(&entries).filter(|(_, entry)| entry.0 == 3);
    let own: Vec<u64> = own.map(|(block, _)| block).collect();
    assert_eq!(own, written, "what is stored");
    for block in written {
        let data = rig.read("volume", block * BLOCK, 8).unwrap();
        assert_eq!(data, format!("{block:08}").as_bytes());
    }
    let (_, segments) = rig
        .map(Operation::MapRead, "volume", 32_766 * BLOCK, 4 * BLOCK)
        .unwrap();
    let zero =
        |segment: &xseg::protocol::MapSegment| segment.flags & xseg::protocol::mapflags::ZERO != 0;
    let zeros: Vec<bool> = segments.iter().map(zero).collect();
    assert_eq!(zeros, [true, false, false, true]);
}
