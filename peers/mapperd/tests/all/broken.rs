//! Locks that were broken while blockers died, or could not be asked.

use crate::old::{is_moved_v1, put_v1};
use crate::rig::*;
use driver::{Errno, Faults, Op};
use std::cell::Cell;
use std::rc::Rc;
use xseg::Request;
use xseg::protocol::Operation;

/// What blockerb had not done when it was killed (`vlmc unlock -f` kills one that hangs) was done by
/// its successor, after the new owner had begun to write: a copy-up of the old owner emptied the new
/// one's object.
#[test]
fn what_a_killed_blocker_leaves_is_not_done_once_the_lock_is_broken() {
    for broken in [true, false] {
        let mut rig = Rig::new();
        rig.create("volume", 2 * BLOCK).unwrap();
        rig.write("volume", 0, b"x").unwrap();
        let request = map_request(Operation::MapWrite, "volume", BLOCK, 1, 0);
        let id = rig.peer.ask(MAPPERD, request, &[], 4096);
        // mapperd has asked blockerb to make the object, which has not heard of it.
        rig.mapper.as_mut().unwrap().turn();
        rig.kill_storage();
        let made = object("volume", 1, 1);
        if broken {
            let mut stranger = Stranger::new(&rig);
            assert!(stranger.release("volume", true) && stranger.acquire("volume"));
            put_from_elsewhere(&rig, &made, b"theirs");
            std::mem::forget(stranger);
        }
        rig.clock.advance(1000);
        rig.start_storage();
        rig.settle();
        let answer = rig.peer.take(id).unwrap().map(drop);
        match broken {
            true => {
                assert_eq!(answer, Err(libc::ESTALE));
                assert_eq!(rig.block(made.as_bytes()).unwrap(), b"theirs");
            }
            false => {
                assert_eq!(answer, Ok(()), "its lock is still ours");
                assert_eq!(rig.entries("volume")[1], (3, made));
            }
        }
    }
}

fn put_from_elsewhere(rig: &Rig, object: &str, bytes: &[u8]) {
    use driver::{Buf, Driver, MemoryDriver, OpId, Tag};
    let mut driver = MemoryDriver::new(&rig.blocks, "otherhost_9");
    let op = Op::Write {
        name: driver::Name::try_from(object).unwrap(),
        offset: 0,
        buf: Buf::from_bytes(bytes),
        tag: Tag::NONE,
        fresh: false,
        durable: true,
    };
    driver.submit(OpId(1), op);
    driver.poll(&mut Vec::new());
}

/// A blocker was killed, another node broke the lock, and mapperd had looked at it a moment ago: it
/// gave the same mapping out again, and under that vlmcd wrote into the other's volume.
#[test]
fn who_was_refused_gets_a_lease_only_after_a_look() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.write("volume", 0, b"x").unwrap();
    let (granted, _) = rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.release("volume", true) && stranger.acquire("volume"));
    rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    let again = Request {
        lease: granted.lease,
        ..map_request(Operation::MapRead, "volume", 0, 1, 0)
    };
    let looked = rig.call_as_peer(again).map(drop);
    assert_eq!(looked, Err(libc::ESTALE));
    let other = rig.map(Operation::MapRead, "volume", 0, 1).map(drop);
    assert_eq!(other, Err(libc::ESTALE), "and so is everybody else");
}

/// A blocker that cannot find out whose a lock is was taken for one that found it broken.
#[test]
fn a_lock_that_cannot_be_looked_at_is_not_lost() {
    let mut rig = Rig::new();
    rig.create("volume", 2 * BLOCK).unwrap();
    rig.write("volume", 0, b"x").unwrap();
    let on = Rc::new(Cell::new(true));
    let failing = on.clone();
    let acquires = |op: &Op| matches!(op, Op::Acquire { .. });
    let fail = move |op: &Op| (failing.get() && acquires(op)).then_some(Errno::TIMEDOUT);
    rig.weather.maps = Some(Faults {
        choose: Rc::new(|| 0),
        delay: 0,
        fail: Rc::new(fail),
    });
    rig.kill_storage();
    rig.start_storage();
    assert_eq!(rig.write("volume", BLOCK, b"y"), Err(libc::ETIMEDOUT));
    on.set(false);
    rig.write("volume", BLOCK, b"y").unwrap();
}

/// Two nodes met one old map, and the blocker of the first died while it moved it: the second took the
/// lock over. The first had taken it a moment before, to read, and told the reader ESTALE, who had
/// never opened the volume; who meets a lock that is another's is told that, or reads without it.
#[test]
fn a_lock_that_is_broken_while_it_is_taken_was_never_ours() {
    let reads = map_request(Operation::MapRead, "legacy1", 0, 1, 0);
    let opens = Request::new(Operation::Open, name("legacy1"));
    let updates = Request::new(Operation::Update, name("legacy1"));
    for (request, expected) in [
        (reads, Ok(())),
        (opens, Err(libc::EBUSY)),
        (updates, Err(libc::EBUSY)),
    ] {
        let mut rig = Rig::new();
        put_v1(&mut rig, "archip_legacy1");
        let id = rig.peer.ask(MAPPERD, request, &[], 4096);
        while rig.stored("legacy1_0000000000000000").is_none() {
            assert!(rig.turn() && !rig.peer.is_done(id));
        }
        let mut stranger = Stranger::new(&rig);
        assert!(stranger.release("legacy1", true) && stranger.acquire("legacy1"));
        rig.settle();
        let answer = rig.peer.take(id).unwrap().map(drop);
        assert_eq!(answer, expected, "{:?}", request.operation());
        assert!(stranger.release("legacy1", false));
        rig.simple(Operation::Open, "legacy1").unwrap();
        is_moved_v1(&mut rig, "legacy1");
    }
}

/// A CLOSE of what was not open here, as Pithos sends it after each map that it reads, looked at the
/// lock by taking it: while another node of this host had its blocker started again, that broke the
/// lock of a volume which was in use there.
#[test]
fn a_look_at_the_lock_of_another_node_does_not_break_it() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.acquire("volume"));
    drop(stranger);
    assert_eq!(rig.simple(Operation::Close, "volume"), Err(libc::EINVAL));
    assert_eq!(rig.simple(Operation::Flush, "volume"), Ok(()));
    assert!(rig.is_locked("volume"), "it is not ours to take");
}

/// So did giving back what was another's by then.
#[test]
fn a_lock_that_is_not_ours_any_more_is_not_taken_to_be_given_back() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    rig.snapshot("volume", "frozen").unwrap();
    rig.map(Operation::MapRead, "frozen", 0, 1).unwrap();
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.release("frozen", true) && stranger.acquire("frozen"));
    drop(stranger);
    assert_eq!(rig.simple(Operation::Close, "frozen"), Err(libc::ESTALE));
    assert!(rig.is_locked("frozen"), "it is not ours to take");
}

/// A snapshot of a volume that was not open takes its lock for itself; when that was broken, the
/// volume was lost for everybody here, who had never opened it, until somebody closed it.
#[test]
fn what_an_operation_lost_that_it_took_for_itself_is_nobodys_loss() {
    let mut rig = Rig::new();
    rig.create("volume", BLOCK).unwrap();
    let (request, data) = naming_request(Operation::Snapshot, "volume", "frozen");
    let id = rig.peer.ask(MAPPERD, request, &data, 4096);
    while !rig.maps_locked("frozen") {
        assert!(rig.turn() && !rig.peer.is_done(id));
    }
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.release("volume", true) && stranger.acquire("volume"));
    rig.settle();
    let answer = rig.peer.take(id).unwrap().map(drop);
    assert_eq!(answer, Err(libc::ESTALE));
    rig.map(Operation::MapRead, "volume", 0, 1).unwrap();
    assert!(stranger.release("volume", false));
    rig.write("volume", 0, b"x").unwrap();
}
