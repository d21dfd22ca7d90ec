//! Many requests at once, on storage that answers late and in any order.

use crate::audit;
use crate::rig::*;
use driver::Faults;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use xseg::Request;
use xseg::protocol::{MapReply, Operation, flags, mapflags};
use xseg::seat::RequestId;

/// Storage in which every operation waits a while, and the later may come first.
fn unruly(seed: u64) -> Option<Faults> {
    let state = Cell::new(seed | 1);
    let choose = Rc::new(move || {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    });
    Some(Faults {
        choose,
        delay: 200,
        fail: Rc::new(|_| None),
    })
}

fn unruly_rig(seed: u64) -> Rig {
    let mut rig = Rig::new();
    rig.kill_storage();
    rig.weather.maps = unruly(seed);
    rig.weather.blocks = unruly(seed + 1);
    rig.start_storage();
    rig
}

/// Lets everybody go on until `id` is answered.
fn wait(rig: &mut Rig, id: RequestId) -> Result<Vec<u8>, i32> {
    for _ in 0..100_000 {
        if let Some(answer) = rig.client.take(id) {
            return answer.map(|(_, bytes)| bytes);
        }
        rig.turn();
    }
    panic!("no answer");
}

fn do_it(rig: &mut Rig, (request, data): (Request, Vec<u8>)) -> Result<Vec<u8>, i32> {
    let id = rig.client.ask(MAPPERD, request, &data, 1 << 16);
    wait(rig, id)
}

/// A volume of `count` small blocks that are all shared with a snapshot.
fn shared_volume(rig: &mut Rig, count: usize) {
    let blocks = vec![(ZERO_NAME, 0); count];
    let size = count as u64 * 4096;
    do_it(rig, create_request("volume", size, 4096, 0, &blocks)).unwrap();
    let request = map_request(Operation::MapWrite, "volume", 0, size, 0);
    do_it(rig, (request, Vec::new())).unwrap();
    do_it(
        rig,
        naming_request(Operation::Snapshot, "volume", "snapshot"),
    )
    .unwrap();
}

/// Each block is copied once, whoever asks for it, and everybody gets the same answer.
#[test]
fn writers_of_one_block_wait_for_one_copy() {
    let mut rig = unruly_rig(1);
    shared_volume(&mut rig, 40);
    let ids: Vec<_> = (0..30)
        .map(|i| {
            let (offset, size) = (i % 7 * 4096, (3 + i % 5 * 3) * 4096);
            let request = map_request(Operation::MapWrite, "volume", offset, size, 0);
            rig.client.ask(MAPPERD, request, &[], 1 << 16)
        })
        .collect();
    let mut seen = HashSet::new();
    for id in ids {
        let reply = MapReply::decode(&wait(&mut rig, id).unwrap()).unwrap();
        seen.extend(reply.segments.iter().map(|s| s.name.to_string()));
    }
    let touched = (0..30).map(|i| i % 7 + 3 + i % 5 * 3).max().unwrap();
    assert_eq!(seen.len(), touched, "one object for each block");
    assert!(
        seen.iter()
            .all(|name| name.starts_with("volume_0000000000000002_"))
    );
    let status = Request::new(Operation::Status, xseg::Name::EMPTY);
    let status = do_it(&mut rig, (status, Vec::new())).unwrap();
    let status = String::from_utf8_lossy(&status).into_owned();
    assert!(
        status.contains(&format!("\"objects_copied\":{touched}")),
        "{status}"
    );
    audit::check(&rig);
}

#[derive(Clone, Debug)]
enum Act {
    Read(u64, u64),
    Write(u64, u64),
    Flush,
    Snapshot(u8),
    Clone(u8),
    Close,
    Open,
    Delete(u8),
    Rename(u8),
    Grow(u64),
    Shrink(u64),
    Info,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..20u64, 0..20u64).prop_map(|(a, b)| Act::Read(a, b)),
        6 => (0..20u64, 0..20u64).prop_map(|(a, b)| Act::Write(a, b)),
        2 => Just(Act::Flush),
        2 => (0..4u8).prop_map(Act::Snapshot),
        1 => (0..4u8).prop_map(Act::Clone),
        1 => Just(Act::Close),
        1 => Just(Act::Open),
        1 => (0..4u8).prop_map(Act::Delete),
        1 => (0..2u8).prop_map(Act::Rename),
        1 => (1..40u64).prop_map(Act::Grow),
        1 => (1..20u64).prop_map(Act::Shrink),
        1 => Just(Act::Info),
    ]
}

fn request_of(act: &Act) -> (Request, Vec<u8>) {
    let plain = |op| (Request::new(op, name("volume")), Vec::new());
    match *act {
        Act::Read(a, b) => (
            map_request(Operation::MapRead, "volume", a * 4096, b * 4096, 0),
            Vec::new(),
        ),
        Act::Write(a, b) => (
            map_request(Operation::MapWrite, "volume", a * 4096, b * 4096, 0),
            Vec::new(),
        ),
        Act::Flush => plain(Operation::Flush),
        Act::Snapshot(n) => naming_request(Operation::Snapshot, "volume", &format!("snapshot{n}")),
        Act::Clone(n) => clone_request(&format!("snapshot{n}"), &format!("clone-{n}"), 0),
        Act::Close => plain(Operation::Close),
        Act::Open => plain(Operation::Open),
        Act::Delete(n) => (
            Request::new(Operation::Delete, name(&format!("snapshot{n}"))),
            Vec::new(),
        ),
        Act::Rename(0) => naming_request(Operation::Rename, "volume", "renamed"),
        Act::Rename(_) => naming_request(Operation::Rename, "renamed", "volume"),
        Act::Grow(blocks) => (truncate_request("volume", blocks * 4096, 0), Vec::new()),
        Act::Shrink(blocks) => (
            truncate_request("volume", blocks * 4096 - 7, flags::SHRINK),
            Vec::new(),
        ),
        Act::Info => plain(Operation::Info),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Everything at once: every request is answered, and the maps agree with each other, also
    /// when mapperd dies in the middle.
    #[test]
    fn whatever_happens_at_once_the_maps_agree(
        acts in proptest::collection::vec(act(), 1..40),
        seed in 1u64..1 << 40,
        death in proptest::option::of(0usize..400),
    ) {
        let mut rig = unruly_rig(seed);
        shared_volume(&mut rig, 20);
        let ids: Vec<_> = acts
            .iter()
            .map(|act| {
                let (request, data) = request_of(act);
                rig.client.ask(MAPPERD, request, &data, 1 << 14)
            })
            .collect();
        if let Some(steps) = death {
            for _ in 0..steps {
                rig.turn();
            }
            rig.kill_mapper();
            rig.start_mapper();
        }
        for id in ids {
            if let Err(errno) = wait(&mut rig, id) {
                let expected = [libc::ENOENT, libc::EEXIST, libc::EINVAL, libc::EROFS];
                prop_assert!(expected.contains(&errno), "errno {}", errno);
            }
        }
        audit::check(&rig);
        rig.mapper.as_mut().unwrap().stop();
        for _ in 0..100_000 {
            if rig.mapper.as_ref().unwrap().is_stopped() {
                break;
            }
            rig.turn();
        }
        prop_assert!(rig.mapper.as_ref().unwrap().is_stopped());
        audit::check(&rig);
    }
}

/// A stream of reads does not keep a snapshot out, and every entry in an answer is one that a
/// write made or found.
#[test]
fn a_snapshot_among_readers_and_writers() {
    let mut rig = unruly_rig(7);
    shared_volume(&mut rig, 8);
    let mut ids = Vec::new();
    for i in 0..60u64 {
        let op = if i % 3 == 0 {
            Operation::MapWrite
        } else {
            Operation::MapRead
        };
        let request = map_request(op, "volume", i % 8 * 4096, 4096, 0);
        ids.push(rig.client.ask(MAPPERD, request, &[], 4096));
        if i == 30 {
            let (request, data) = naming_request(Operation::Snapshot, "volume", "another");
            ids.push(rig.client.ask(MAPPERD, request, &data, 0));
        }
    }
    for id in ids {
        let bytes = wait(&mut rig, id).unwrap();
        let Ok(reply) = MapReply::decode(&bytes) else {
            continue;
        };
        assert!(reply.segments.iter().all(|s| s.flags & mapflags::ZERO == 0));
    }
    audit::check(&rig);
}

/// Whether a snapshot had opened its volume was told by a counter of all volumes (B16): under load
/// an idle volume stayed locked after its snapshot, because somebody else had opened another.
#[test]
fn b16_snapshots_at_once_leave_idle_volumes_closed() {
    let volumes = ["volume-a", "volume-b", "volume-c"];
    for seed in 1..=20 {
        let mut rig = unruly_rig(seed);
        for volume in volumes {
            do_it(&mut rig, clone_request("", volume, BLOCK)).unwrap();
        }
        let ids = volumes.map(|volume| {
            let snapshot = format!("snapshot-of-{volume}");
            let (request, data) = naming_request(Operation::Snapshot, volume, &snapshot);
            rig.client.ask(MAPPERD, request, &data, 1 << 16)
        });
        for id in ids {
            wait(&mut rig, id).unwrap();
        }
        for volume in volumes {
            assert!(!rig.maps_locked(volume), "seed {seed}: {volume}");
        }
    }
}

/// While a snapshot was cloned its map sat in the original's cache without a lock, and whoever
/// wanted to open or delete it then was told that it is busy (B24).
#[test]
fn b24_a_snapshot_being_cloned_is_opened_and_deleted() {
    let snapshot = naming_request(Operation::Snapshot, "volume", "snapshot");
    for (op, wanted) in [
        (Operation::Open, Err(libc::EROFS)),
        (Operation::Delete, Ok(())),
    ] {
        for turns in (0..60).step_by(3) {
            let mut rig = unruly_rig(turns + 1);
            do_it(&mut rig, clone_request("", "volume", 3 * BLOCK)).unwrap();
            do_it(&mut rig, snapshot.clone()).unwrap();
            let (request, data) = clone_request("snapshot", "machine", 0);
            let clone = rig.client.ask(MAPPERD, request, &data, 1 << 16);
            for _ in 0..turns {
                rig.turn();
            }
            let request = Request::new(op, name("snapshot"));
            let answer = do_it(&mut rig, (request, Vec::new()));
            assert_eq!(answer.map(drop), wanted, "{op:?} after {turns} turns");
            match wait(&mut rig, clone) {
                Ok(_) => {}
                Err(errno) => assert_eq!(
                    (errno, op),
                    (libc::ENOENT, Operation::Delete),
                    "after {turns} turns"
                ),
            }
        }
    }
}

/// A deletion did not keep others out, because its mark in an entry was taken for another (B6): an
/// object that was made meanwhile stayed for ever.
#[test]
fn b06_nothing_is_made_in_a_volume_that_is_being_deleted() {
    let size = 64 * 4096;
    for turns in 0..60 {
        let mut rig = unruly_rig(turns + 1);
        let blocks = vec![(ZERO_NAME, 0); 64];
        do_it(&mut rig, create_request("volume", size, 4096, 0, &blocks)).unwrap();
        let some = map_request(Operation::MapWrite, "volume", 0, size / 2, 0);
        do_it(&mut rig, (some, Vec::new())).unwrap();
        let delete = Request::new(Operation::Delete, name("volume"));
        let delete = rig.client.ask(MAPPERD, delete, &[], 0);
        for _ in 0..turns {
            rig.turn();
        }
        let all = map_request(Operation::MapWrite, "volume", 0, size, 0);
        let made = do_it(&mut rig, (all, Vec::new()));
        assert_eq!(made.map(drop), Err(libc::ENOENT), "after {turns} turns");
        wait(&mut rig, delete).unwrap();
        assert!(rig.blocks.names().is_empty(), "after {turns} turns");
    }
}
