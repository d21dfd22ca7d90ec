//! Writes that wait for another node's lock: what wakes them, what ends them, and whom they leave
//! alone.

use crate::rig::*;
use std::time::Duration;
use xseg::Request;
use xseg::protocol::{Operation, flags};
use xseg::seat::RequestId;

const SECOND: u64 = 1_000_000_000;

/// Storage hears of a lock's end, or does not.
fn rig(hears: bool) -> Rig {
    let mut rig = Rig::new();
    rig.weather.deaf = !hears;
    rig.kill_storage();
    rig.start_storage();
    rig.create("volume", BLOCK).unwrap();
    rig
}

/// A rig whose volume a stranger has.
fn held(hears: bool) -> (Rig, Stranger) {
    let rig = rig(hears);
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.acquire("volume"));
    (rig, stranger)
}

fn write_request() -> Request {
    map_request(Operation::MapWrite, "volume", 0, 1, 0)
}

/// A client's MAPW, which waits as long as it takes.
fn client_waits(rig: &mut Rig) -> RequestId {
    let id = rig.client.ask(MAPPERD, write_request(), &[], 4096);
    rig.settle();
    assert!(!rig.client.is_done(id), "it waits");
    id
}

/// vlmcd's, which waits once.
fn peer_waits(rig: &mut Rig) -> RequestId {
    let id = rig.peer.ask(MAPPERD, write_request(), &[], 4096);
    rig.settle();
    assert!(!rig.peer.is_done(id), "it waits");
    id
}

/// What is told in a second of the node's own time, in which nothing is due.
fn answered_client(rig: &mut Rig, id: RequestId) -> Result<(), i32> {
    let answer = rig.client.take(id).expect("an answer");
    answer.map(drop)
}

#[test]
fn a_release_wakes_who_waits_and_no_clock_does() {
    let (mut rig, mut stranger) = held(true);
    let id = client_waits(&mut rig);
    assert!(stranger.release("volume", false));
    // No time passes but that of some turns.
    let before = rig.clock_ns();
    rig.settle();
    assert_eq!(answered_client(&mut rig, id), Ok(()));
    let took = Duration::from_nanos(rig.clock_ns() - before);
    assert!(took < Duration::from_millis(1), "{took:?}");
    assert!(rig.is_locked("volume"));
}

/// Files say nothing: a look every 100 ms, and no lock file made for it.
#[test]
fn who_hears_nothing_looks() {
    let (mut rig, mut stranger) = held(false);
    let id = client_waits(&mut rig);
    for _ in 0..30 {
        rig.pass(SECOND / 10);
        assert!(!rig.client.is_done(id));
    }
    assert!(stranger.release("volume", false));
    rig.settle();
    assert!(!rig.client.is_done(id), "nobody has said it");
    rig.pass(SECOND / 10);
    assert_eq!(answered_client(&mut rig, id), Ok(()));
}

/// Whatever step the waiting is at when the lock is given back, it is heard without a clock, or
/// seen at the next look.
#[test]
fn a_release_at_any_step_is_not_missed() {
    for (hears, steps) in (0..60).flat_map(|steps| [(true, steps), (false, steps)]) {
        let (mut rig, mut stranger) = held(hears);
        let id = rig.client.ask(MAPPERD, write_request(), &[], 4096);
        for step in 0..steps {
            let host = match step % 2 {
                0 => &mut rig.mapper,
                _ => &mut rig.storage,
            };
            host.as_mut().unwrap().turn();
        }
        assert!(stranger.release("volume", false));
        rig.settle();
        if !hears {
            rig.pass(SECOND / 10);
        }
        let answer = answered_client(&mut rig, id);
        assert_eq!(answer, Ok(()), "hears: {hears}, after {steps} steps");
    }
}

/// vlmcd asks again, so that what depends on its request waits for a second at most.
#[test]
fn vlmcd_is_told_to_ask_again() {
    let (mut rig, mut stranger) = held(true);
    let id = peer_waits(&mut rig);
    rig.pass(SECOND);
    assert_eq!(rig.peer.take(id).unwrap().unwrap_err(), libc::EBUSY);
    let id = peer_waits(&mut rig);
    assert!(stranger.release("volume", false));
    rig.settle();
    assert_eq!(rig.peer.take(id).unwrap().unwrap_err(), libc::EBUSY);
    let (answer, _) = rig.call_as_peer(write_request()).unwrap();
    assert!(answer.lease > 0);
}

/// Reads go on while as many writes wait as mapperd works on at once, and a stop ends them.
#[test]
fn who_waits_holds_up_nobody() {
    let mut rig = rig(true);
    rig.nr_ops = 1;
    rig.kill_mapper();
    rig.start_mapper();
    rig.create("another", BLOCK).unwrap();
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.acquire("volume"));
    let ids = [client_waits(&mut rig), client_waits(&mut rig)];
    for _ in 0..3 {
        rig.pass(SECOND);
        assert!(ids.iter().all(|id| !rig.client.is_done(*id)));
        assert_eq!(rig.read("volume", 0, 1).unwrap(), [0]);
        rig.write("another", 0, b"x").unwrap();
    }
    rig.mapper.as_mut().unwrap().stop();
    rig.settle();
    for id in ids {
        assert_eq!(answered_client(&mut rig, id), Err(libc::EBUSY));
    }
    assert!(rig.mapper.as_ref().unwrap().is_stopped());
}

/// More volumes wait than blockerm is asked about at once: the others look each second.
#[test]
fn any_number_of_volumes_may_wait() {
    let mut rig = rig(true);
    let mut stranger = Stranger::new(&rig);
    let volumes: Vec<String> = (0..80).map(|i| format!("volume-{i}")).collect();
    let mut ids = Vec::new();
    for volume in &volumes {
        rig.create(volume, BLOCK).unwrap();
        assert!(stranger.acquire(volume));
        let request = map_request(Operation::MapWrite, volume, 0, 1, 0);
        ids.push(rig.client.ask(MAPPERD, request, &[], 4096));
        rig.settle();
    }
    rig.pass(SECOND);
    assert!(ids.iter().all(|id| !rig.client.is_done(*id)));
    for volume in &volumes {
        assert!(stranger.release(volume, false));
    }
    rig.settle();
    let heard = ids.iter().filter(|id| rig.client.is_done(**id)).count();
    assert!((64..80).contains(&heard), "{heard}");
    rig.pass(SECOND);
    for id in ids {
        assert_eq!(answered_client(&mut rig, id), Ok(()));
    }
}

#[test]
fn a_close_ends_the_wait_and_nosync_does_not_begin_one() {
    let (mut rig, mut stranger) = held(true);
    let ids = [client_waits(&mut rig), client_waits(&mut rig)];
    assert_eq!(rig.simple(Operation::Close, "volume"), Err(libc::EINVAL));
    for id in ids {
        assert_eq!(answered_client(&mut rig, id), Err(libc::EBUSY));
    }
    let request = Request {
        flags: flags::NOSYNC,
        ..write_request()
    };
    assert_eq!(rig.call(request, &[], 4096), Err(libc::EBUSY));
    assert!(stranger.release("volume", false), "it still is theirs");
    rig.call(request, &[], 4096).unwrap();
}

/// mapperd looked again each second; with its blocker gone that look was never answered, and a
/// mapperd of which something is outstanding does not end: SIGTERM had no effect.
#[test]
fn a_stop_needs_no_blocker() {
    for hears in [true, false] {
        let (mut rig, _stranger) = held(hears);
        let id = client_waits(&mut rig);
        rig.kill_storage();
        for _ in 0..30 {
            rig.pass(SECOND / 10);
        }
        rig.mapper.as_mut().unwrap().stop();
        rig.settle();
        assert!(rig.mapper.as_ref().unwrap().is_stopped(), "hears: {hears}");
        assert_eq!(answered_client(&mut rig, id), Err(libc::EBUSY));
    }
}

/// The question is asked again of blockerm's successor, and heard by it.
#[test]
fn a_wait_survives_blockerm() {
    let (mut rig, mut stranger) = held(true);
    let id = client_waits(&mut rig);
    for _ in 0..3 {
        rig.kill_storage();
        rig.pass(3 * SECOND);
        rig.start_storage();
        rig.pass(SECOND / 2);
        assert!(!rig.client.is_done(id));
    }
    assert!(stranger.release("volume", false));
    rig.settle();
    assert_eq!(answered_client(&mut rig, id), Ok(()));
}

/// A dead mapperd's question takes no lock for nobody, and its successor asks anew.
#[test]
fn a_wait_survives_mapperd_and_leaves_no_lock() {
    let (mut rig, mut stranger) = held(true);
    let id = client_waits(&mut rig);
    rig.kill_mapper();
    rig.pass(SECOND / 2);
    assert!(stranger.release("volume", false));
    rig.pass(SECOND / 4);
    assert!(!rig.maps_locked("volume"), "nobody has it");
    assert!(stranger.acquire("volume"));
    rig.start_mapper();
    rig.pass(SECOND);
    assert!(!rig.client.is_done(id));
    assert!(stranger.release("volume", false));
    rig.settle();
    assert_eq!(answered_client(&mut rig, id), Ok(()));
}

/// What waited for the lock of a volume that is gone meanwhile says so, and takes no lock (B25).
#[test]
fn who_waits_for_a_volume_that_goes_hears_that() {
    let (mut rig, mut stranger) = held(true);
    let id = client_waits(&mut rig);
    let deleted = {
        let mut header = rig.stored("volume").unwrap();
        header[23] |= 2;
        header
    };
    rig.maps_put("volume", &deleted);
    assert!(stranger.release("volume", false));
    rig.settle();
    assert_eq!(answered_client(&mut rig, id), Err(libc::ENOENT));
    assert!(!rig.is_locked("volume"));
}
