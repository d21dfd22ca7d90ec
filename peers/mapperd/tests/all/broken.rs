//! Locks that were broken while blockers died, or could not be asked.

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
