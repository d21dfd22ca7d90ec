//! Leases, fences, lost locks and those of other nodes.

use crate::rig::*;
use driver::{Errno, Faults, Op};
use runtime::LeaseTerm;
use std::cell::Cell;
use std::rc::Rc;
use xseg::Request;
use xseg::protocol::{Operation, flags, mapflags};

const SECOND: u64 = 1_000_000_000;

#[test]
fn an_open_volume_is_leased_and_an_unheld_one_is_not() {
    let mut rig = Rig::new();
    rig.create("volume", 2 * BLOCK).unwrap();
    let (first, segments) = rig.map(Operation::MapRead, "volume", 0, 2 * BLOCK).unwrap();
    assert!(first.lease > 0 && rig.is_locked("volume"));
    assert!(segments.iter().all(|s| s.flags == mapflags::ZERO));
    let (second, segments) = rig.map(Operation::MapWrite, "volume", 0, 1).unwrap();
    assert!(second.lease > first.lease);
    assert_eq!(segments[0].flags, mapflags::ARCHIP | mapflags::WRITABLE);
    let (peek, segments) = rig
        .map_with(Operation::MapRead, "volume", 0, 2 * BLOCK, flags::PEEK)
        .unwrap();
    assert_eq!((peek.lease, segments.len()), (0, 2));
    rig.simple(Operation::Close, "volume").unwrap();
    rig.map_with(Operation::MapRead, "volume", 0, 1, flags::PEEK)
        .unwrap();
    assert!(!rig.is_locked("volume"), "PEEK takes no lock");
    rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    let mut stranger = Stranger::new(&rig);
    assert!(!stranger.acquire("volume"));
    rig.simple(Operation::Close, "volume").unwrap();
    assert!(stranger.acquire("volume"));
    let (unheld, segments) = rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    assert_eq!(
        (unheld.lease, segments[0].flags),
        (0, mapflags::ARCHIP),
        "not writable now"
    );
    assert_eq!(
        (unheld.volume_size, unheld.block_size),
        (2 * BLOCK, BLOCK as u32)
    );
}

#[test]
fn clients_see_the_flags_of_the_original() {
    let mut rig = Rig::new();
    rig.create("volume", 2 * BLOCK).unwrap();
    rig.write("volume", 0, b"x").unwrap();
    let request = map_request(Operation::MapRead, "volume", 0, 2 * BLOCK, 0);
    let reply = rig.call(request, &[], 4096).unwrap();
    let reply = xseg::protocol::MapReply::decode(&reply).unwrap();
    let seen: Vec<_> = reply.segments.iter().map(|s| s.flags).collect();
    assert_eq!(seen, [0, mapflags::ZERO]);
}

#[test]
fn a_small_reply_buffer_is_replaced_by_a_larger_one() {
    let mut rig = Rig::new();
    rig.create("volume", 100 * BLOCK).unwrap();
    let request = map_request(Operation::MapRead, "volume", 0, 100 * BLOCK, 0);
    let reply = rig.call(request, &[], 8).unwrap();
    assert_eq!(
        xseg::protocol::MapReply::decode(&reply)
            .unwrap()
            .segments
            .len(),
        100
    );
}

#[test]
fn what_another_node_holds_is_left_alone() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.acquire("volume"));
    let before = rig.stored("volume");
    assert_eq!(rig.simple(Operation::Open, "volume"), Err(libc::EBUSY));
    assert_eq!(rig.snapshot("volume", "snapshot"), Err(libc::EBUSY));
    assert_eq!(rig.simple(Operation::Delete, "volume"), Err(libc::EBUSY));
    assert_eq!(rig.rename("volume", "newname"), Err(libc::EBUSY));
    assert_eq!(rig.truncate("volume", 2 * BLOCK, 0), Err(libc::EBUSY));
    assert_eq!(rig.simple(Operation::Close, "volume"), Err(libc::EINVAL));
    assert_eq!(rig.info("volume"), Ok(BLOCK));
    assert_eq!(rig.read("volume", 0, 1).unwrap(), [0]);
    assert!(stranger.acquire("newvolume"));
    assert_eq!(rig.create("newvolume", BLOCK), Err(libc::EBUSY));
    assert_eq!(rig.stored("volume"), before);
    assert!(stranger.release("volume", false), "it still is theirs");
}

#[test]
fn open_and_close() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    assert_eq!(
        rig.simple(Operation::Close, "volume"),
        Err(libc::EINVAL),
        "never opened"
    );
    assert_eq!(
        rig.simple(Operation::Close, "nosuchvolume"),
        Err(libc::ENOENT)
    );
    for _ in 0..2 {
        rig.simple(Operation::Open, "volume").unwrap();
    }
    assert!(rig.is_locked("volume"));
    rig.simple(Operation::Close, "volume").unwrap();
    assert!(!rig.is_locked("volume"));
    assert_eq!(
        rig.simple(Operation::Close, "volume"),
        Err(libc::EINVAL),
        "the second fails"
    );
}

#[test]
fn a_restarted_mapperd_finds_its_volumes_open() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.write("volume", 0, b"volatile").unwrap();
    for both in [false, true] {
        rig.kill_mapper();
        if both {
            rig.kill_storage();
            rig.start_storage();
        }
        rig.start_mapper();
        rig.simple(Operation::Flush, "volume").unwrap();
        rig.simple(Operation::Open, "volume").unwrap();
    }
    rig.kill_mapper();
    rig.start_mapper();
    rig.simple(Operation::Close, "volume").unwrap();
    assert!(!rig.is_locked("volume"));
}

/// What was answered before a restart is made durable by the first flush after it: nobody knows
/// any more what is.
#[test]
fn the_first_flush_after_a_restart_syncs() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.write("volume", 0, b"x").unwrap();
    rig.kill_mapper();
    rig.start_mapper();
    rig.simple(Operation::Flush, "volume").unwrap();
    rig.maps.lose_power(&|| 1);
    assert_eq!(rig.entries("volume"), [(3, object("volume", 1, 0))]);
}

#[test]
fn entries_are_volatile_until_a_flush_unless_asked_for() {
    for (flush, fua, survives) in [
        (false, false, false),
        (true, false, true),
        (false, true, true),
    ] {
        let mut rig = Rig::new();
        rig.create("volume", BLOCK).unwrap();
        let asked = if fua { flags::FUA } else { 0 };
        rig.map_with(Operation::MapWrite, "volume", 0, 1, asked)
            .unwrap();
        if flush {
            rig.simple(Operation::Flush, "volume").unwrap();
        }
        rig.maps.lose_power(&|| 1);
        let kept = rig.entries("volume")[0].0 == 3;
        assert_eq!(kept, survives, "flush {flush}, FUA {fua}");
    }
}

/// FUA on a block whose entry was published by an earlier, volatile write.
#[test]
fn a_durable_write_takes_earlier_entries_along() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.map(Operation::MapWrite, "volume", 0, 1).unwrap();
    rig.map_with(Operation::MapWrite, "volume", 0, 1, flags::FUA)
        .unwrap();
    rig.maps.lose_power(&|| 1);
    assert_eq!(rig.entries("volume")[0].0, 3);
}

#[test]
fn a_lost_volume_serves_nothing_until_it_is_opened() {
    let mut rig = Rig::new();
    rig.create("volume", 3 * BLOCK).unwrap();
    rig.write("volume", 0, b"x").unwrap();
    let (granted, segments) = rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.release("volume", true) && stranger.acquire("volume"));
    let before = rig.stored("volume_0000000000000000");
    assert_eq!(
        rig.map(Operation::MapWrite, "volume", BLOCK, 1)
            .unwrap_err(),
        libc::ESTALE
    );
    assert_eq!(
        rig.stored("volume_0000000000000000"),
        before,
        "no entry is committed"
    );
    let late = Request {
        size: 1,
        tag: granted.tag,
        lease: granted.lease,
        ..Request::new(Operation::Write, segments[0].name)
    };
    let id = rig.peer.ask(BLOCKERB, late, b"y", 0);
    rig.settle();
    assert_eq!(
        rig.peer.take(id).unwrap().unwrap_err(),
        libc::ESTALE,
        "its leases are fenced"
    );
    for op in [
        Operation::Flush,
        Operation::MapRead,
        Operation::MapWrite,
        Operation::Delete,
        Operation::Update,
    ] {
        assert_eq!(rig.simple(op, "volume"), Err(libc::ESTALE), "{op:?}");
    }
    assert_eq!(rig.snapshot("volume", "snapshot"), Err(libc::ESTALE));
    assert_eq!(rig.info("volume"), Ok(3 * BLOCK));
    assert_eq!(rig.simple(Operation::Open, "volume"), Err(libc::EBUSY));
    assert!(stranger.release("volume", false));
    rig.simple(Operation::Open, "volume").unwrap();
    rig.write("volume", BLOCK, b"x").unwrap();
}

/// The lock of a map that never changes was broken, by a node of the same host that found its holder
/// dead: whoever read it there heard an error.
#[test]
fn a_read_only_map_is_read_though_its_lock_was_broken() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.write("volume", 0, b"content").unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    for died in [false, true] {
        let (lease, _) = rig.map(Operation::MapRead, "snapshot", 0, 1).unwrap();
        assert!(lease.lease != 0 && rig.is_locked("snapshot"));
        let mut stranger = Stranger::new(&rig);
        assert!(stranger.release("snapshot", true) && stranger.acquire("snapshot"));
        if died {
            rig.kill_mapper();
            rig.start_mapper();
        }
        // Half a lease without a look at the lock: it is looked at now.
        rig.pass(20 * SECOND);
        let (lease, _) = rig.map(Operation::MapRead, "snapshot", 0, 1).unwrap();
        assert_eq!(lease.lease, 0, "it is not ours");
        assert_eq!(rig.read("snapshot", 0, 7).unwrap(), b"content");
        assert!(stranger.release("snapshot", false), "it still is theirs");
    }
}

#[test]
fn a_flush_notices_a_broken_lock_even_with_nothing_to_sync() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.simple(Operation::Open, "volume").unwrap();
    rig.simple(Operation::Flush, "volume").unwrap();
    assert!(Stranger::new(&rig).release("volume", true));
    assert_eq!(rig.simple(Operation::Flush, "volume"), Err(libc::ESTALE));
    assert_eq!(rig.simple(Operation::Close, "volume"), Err(libc::ESTALE));
    assert_eq!(
        rig.simple(Operation::Close, "volume"),
        Err(libc::EINVAL),
        "closed all the same"
    );
}

#[test]
fn a_lease_is_granted_only_while_the_lock_was_seen_lately() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    assert!(Stranger::new(&rig).release("volume", true));
    rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    rig.pass(LeaseTerm::DEFAULT.ns() / 2 + 1);
    assert_eq!(
        rig.map(Operation::MapRead, "volume", 0, 1).unwrap_err(),
        libc::ESTALE
    );
}

/// A shorter lease is looked after more often: a broken lock shows after half of it.
#[test]
fn a_shorter_lease_shows_a_broken_lock_earlier() {
    let mut rig = Rig::new();
    rig.kill_mapper();
    rig.lease_term = LeaseTerm::from_secs(2);
    rig.start_mapper();
    rig.create("volume", BLOCK).unwrap();
    rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    assert!(Stranger::new(&rig).release("volume", true));
    rig.pass(900_000_000);
    rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    rig.pass(100_000_001);
    assert_eq!(
        rig.map(Operation::MapRead, "volume", 0, 1).unwrap_err(),
        libc::ESTALE
    );
}

/// A flush for which the sender held a lease is no flush of a volume that was never open.
#[test]
fn a_flush_under_a_lease_needs_the_lock() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    let flush = Request {
        lease: 7,
        ..Request::new(Operation::Flush, name("volume"))
    };
    assert_eq!(rig.call_as_peer(flush).unwrap_err(), libc::ESTALE);
    rig.simple(Operation::Flush, "volume").unwrap();
    assert!(!rig.is_locked("volume"));
}

#[test]
fn a_stop_closes_everything() {
    let mut rig = Rig::new();
    for volume in ["volume-1", "volume-2"] {
        rig.create(volume, BLOCK).unwrap();
        rig.write(volume, 0, b"x").unwrap();
    }
    rig.mapper.as_mut().unwrap().stop();
    rig.settle();
    assert!(rig.mapper.as_ref().unwrap().is_stopped());
    rig.maps.lose_power(&|| 1);
    rig.blocks.lose_power(&|| 1);
    for volume in ["volume-1", "volume-2"] {
        assert!(!rig.is_locked(volume));
        assert_eq!(rig.entries(volume), [(3, object(volume, 1, 0))], "flushed");
        assert_eq!(rig.block(object(volume, 1, 0).as_bytes()).unwrap(), b"x");
    }
}

/// After a failed sync nobody knows what storage dropped: no later flush may say that all is well,
/// until the volume is closed and opened. Reads go on.
#[test]
fn a_failed_sync_fails_every_later_flush() {
    let mut rig = Rig::new();
    let on = Rc::new(Cell::new(false));
    let failing = on.clone();
    let fail = move |op: &Op| (failing.get() && matches!(op, Op::Sync { .. })).then_some(Errno::IO);
    rig.weather.maps = Some(Faults {
        choose: Rc::new(|| 0),
        delay: 0,
        fail: Rc::new(fail),
    });
    rig.kill_storage();
    rig.start_storage();
    rig.create("volume", BLOCK).unwrap();
    rig.write("volume", 0, b"x").unwrap();
    on.set(true);
    assert_eq!(rig.simple(Operation::Flush, "volume"), Err(libc::EIO));
    on.set(false);
    assert_eq!(rig.simple(Operation::Flush, "volume"), Err(libc::EIO));
    assert_eq!(rig.snapshot("volume", "snapshot"), Err(libc::EIO));
    rig.pass(LeaseTerm::DEFAULT.ns());
    assert_eq!(rig.read("volume", 0, 1).unwrap(), b"x");
    assert_eq!(rig.simple(Operation::Close, "volume"), Err(libc::EIO));
    assert!(!rig.is_locked("volume"), "it is closed all the same");
    rig.simple(Operation::Open, "volume").unwrap();
    rig.simple(Operation::Flush, "volume").unwrap();
}

/// A lock that the dead blocker took is given back by its successor.
#[test]
fn a_snapshot_is_closed_after_its_blocker_died() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    rig.map(Operation::MapRead, "snapshot", 0, 1).unwrap();
    rig.kill_storage();
    rig.start_storage();
    rig.simple(Operation::Close, "snapshot").unwrap();
    assert!(!rig.is_locked("snapshot"));
}

/// The renamed volume is in use elsewhere before the dead mapperd's answer is made up for.
#[test]
fn a_rename_that_was_done_is_answered_though_another_node_has_it() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    let (request, data) = naming_request(Operation::Rename, "volume", "newname");
    let id = rig.client.ask(MAPPERD, request, &data, 0);
    // Until all is done but the answer.
    while rig.stored("newname").is_none() || rig.is_noted() || rig.maps_locked("newname") {
        rig.mapper.as_mut().unwrap().turn();
        rig.storage.as_mut().unwrap().turn();
    }
    rig.kill_mapper();
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.acquire("newname"));
    rig.start_mapper();
    rig.settle();
    rig.client.take(id).unwrap().unwrap();
    assert!(stranger.release("newname", false), "it still is theirs");
    assert!(!rig.is_locked("volume"));
}
