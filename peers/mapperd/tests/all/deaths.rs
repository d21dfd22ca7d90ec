//! mapperd, or everything, dies at every step of every operation.
//!
//! Process death: the request is done again by a successor and succeeds, once. Host death: nobody
//! asks again; what was flushed is there, and the next user of the names finds them in order.

use crate::audit;
use crate::old;
use crate::rig::*;
use std::cell::Cell;
use xseg::Request;
use xseg::protocol::{Operation, flags};

/// More steps than any operation here takes.
const STEPS_MAX: usize = 2000;

struct Story {
    name: &'static str,
    prepare: fn(&mut Rig),
    request: fn() -> (Request, Vec<u8>),
    verify: fn(&mut Rig),
}

/// The blocks of these stories are small, because there are thousands of them.
const BLOCK: u64 = 4096;

/// Three blocks, two of them written; a snapshot that shares them; a name that was used before.
fn furnish(rig: &mut Rig) {
    furnish_as(rig, "volume");
}

fn furnish_as(rig: &mut Rig, volume: &str) {
    let (request, data) = create_request(volume, 3 * BLOCK, BLOCK as u32, 0, &[(ZERO_NAME, 0); 3]);
    rig.call(request, &data, 0).unwrap();
    rig.write(volume, 0, b"first").unwrap();
    rig.write(volume, 2 * BLOCK - 2, b"kept").unwrap();
    rig.snapshot(volume, "snapshot").unwrap();
    rig.write(volume, 2 * BLOCK - 2, b"KE").unwrap();
    rig.simple(Operation::Close, volume).unwrap();
    rig.create("oldname", 2 * BLOCK).unwrap();
    rig.write("oldname", 0, b"other").unwrap();
    rig.simple(Operation::Delete, "oldname").unwrap();
}

/// The same under a new name: its objects have the old one's.
fn furnish_renamed(rig: &mut Rig) {
    furnish_as(rig, "earlier");
    rig.rename("earlier", "volume").unwrap();
}

/// A snapshot that can be hashed: its blocks have the usual size.
fn furnish_large(rig: &mut Rig) {
    rig.create("volume", 2 * crate::rig::BLOCK).unwrap();
    rig.write("volume", 0, b"hash me").unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    rig.simple(Operation::Close, "volume").unwrap();
}

fn furnish_open(rig: &mut Rig) {
    furnish(rig);
    rig.write("volume", 2 * BLOCK, b"pt").unwrap();
}

fn no_data(op: Operation, volume: &str) -> (Request, Vec<u8>) {
    (Request::new(op, name(volume)), Vec::new())
}

fn is_furnished(rig: &mut Rig, volume: &str) {
    assert_eq!(rig.read(volume, 0, 5).unwrap(), b"first");
    assert_eq!(rig.read(volume, 2 * BLOCK - 2, 4).unwrap(), b"KEpt");
    rig.simple(Operation::Close, volume).unwrap();
}

fn nothing_is_locked(rig: &mut Rig) {
    for volume in [
        "volume",
        "snapshot",
        "oldname",
        "newname",
        "legacy1",
        "archip_legacy1",
    ] {
        assert!(!rig.is_locked(volume), "{volume} is locked");
    }
}

const STORIES: &[Story] = &[
    Story {
        name: "create",
        prepare: furnish,
        request: || clone_request("", "newname", 5 * BLOCK),
        verify: |rig| {
            nothing_is_locked(rig);
            assert_eq!(rig.info("newname"), Ok(5 * BLOCK));
            assert!(
                rig.header("newname").ends_with("0000000000000001"),
                "made once"
            );
        },
    },
    Story {
        name: "create over a deleted name",
        prepare: furnish,
        request: || clone_request("", "oldname", 5 * BLOCK),
        verify: |rig| {
            nothing_is_locked(rig);
            assert!(rig.header("oldname").ends_with("000000000000000000000002"));
        },
    },
    Story {
        name: "create of objects",
        prepare: furnish,
        request: || create_request("newname", BLOCK, 0, 1, &[("someobject", 1)]),
        verify: |rig| {
            nothing_is_locked(rig);
            assert_eq!(rig.entries("newname"), [(0, "someobject".into())]);
        },
    },
    Story {
        name: "clone",
        prepare: furnish,
        request: || clone_request("snapshot", "newname", 0),
        verify: |rig| {
            nothing_is_locked(rig);
            assert_eq!(rig.read("newname", 2 * BLOCK - 2, 4).unwrap(), b"kept");
        },
    },
    Story {
        name: "snapshot",
        prepare: furnish,
        request: || naming_request(Operation::Snapshot, "volume", "newname"),
        verify: |rig| {
            nothing_is_locked(rig);
            rig.write("volume", 0, b"FIRST").unwrap();
            is_furnished(rig, "newname");
        },
    },
    Story {
        name: "snapshot of an open volume, over a deleted name",
        prepare: furnish_open,
        request: || naming_request(Operation::Snapshot, "volume", "oldname"),
        verify: |rig| {
            assert!(rig.is_locked("volume") && !rig.is_locked("oldname"));
            assert!(rig.header("oldname").ends_with("000000010000000000000002"));
            rig.write("volume", 0, b"FIRST").unwrap();
            is_furnished(rig, "oldname");
        },
    },
    Story {
        name: "snapshot of a renamed volume",
        prepare: furnish_renamed,
        request: || naming_request(Operation::Snapshot, "volume", "newname"),
        verify: |rig| {
            nothing_is_locked(rig);
            rig.write("volume", 0, b"FIRST").unwrap();
            is_furnished(rig, "newname");
        },
    },
    Story {
        name: "delete",
        prepare: furnish,
        request: || no_data(Operation::Delete, "volume"),
        verify: |rig| {
            nothing_is_locked(rig);
            assert_eq!(rig.info("volume"), Err(libc::ENOENT));
            assert!(rig.block(object("volume", 2, 1).as_bytes()).is_none());
            assert_eq!(rig.read("snapshot", 2 * BLOCK - 2, 4).unwrap(), b"kept");
        },
    },
    Story {
        name: "delete of an open volume",
        prepare: furnish_open,
        request: || no_data(Operation::Delete, "volume"),
        verify: |rig| {
            nothing_is_locked(rig);
            assert_eq!(rig.info("volume"), Err(libc::ENOENT));
        },
    },
    Story {
        name: "rename",
        prepare: furnish,
        request: || naming_request(Operation::Rename, "volume", "newname"),
        verify: |rig| {
            nothing_is_locked(rig);
            assert_eq!(rig.info("volume"), Err(libc::ENOENT));
            is_furnished(rig, "newname");
        },
    },
    Story {
        name: "rename of an open volume to a deleted name",
        prepare: furnish_open,
        request: || naming_request(Operation::Rename, "volume", "oldname"),
        verify: |rig| {
            nothing_is_locked(rig);
            is_furnished(rig, "oldname");
            rig.create("volume", BLOCK).unwrap();
            is_furnished(rig, "oldname");
        },
    },
    Story {
        name: "shrink",
        prepare: furnish_open,
        request: || {
            (
                truncate_request("volume", 2 * BLOCK - 1, flags::SHRINK),
                Vec::new(),
            )
        },
        verify: |rig| {
            rig.truncate("volume", 3 * BLOCK, 0).unwrap();
            assert_eq!(rig.read("volume", 2 * BLOCK - 2, 4).unwrap(), b"K\0\0\0");
            assert!(
                rig.block(object("volume", 2, 2).as_bytes()).is_none(),
                "no orphan"
            );
        },
    },
    Story {
        name: "grow",
        prepare: furnish,
        request: || (truncate_request("volume", 9 * BLOCK, 0), Vec::new()),
        verify: |rig| {
            nothing_is_locked(rig);
            assert_eq!(rig.info("volume"), Ok(9 * BLOCK));
            is_furnished(rig, "volume");
        },
    },
    Story {
        name: "copy-up",
        prepare: furnish,
        request: || {
            (
                map_request(Operation::MapWrite, "volume", 0, 3 * BLOCK, 0),
                Vec::new(),
            )
        },
        verify: |rig| {
            let own = |index| (3, object("volume", 2, index));
            assert_eq!(rig.entries("volume"), [own(0), own(1), own(2)]);
            is_furnished(rig, "volume");
        },
    },
    Story {
        name: "close",
        prepare: furnish_open,
        request: || no_data(Operation::Close, "volume"),
        verify: |rig| {
            nothing_is_locked(rig);
            is_furnished(rig, "volume");
        },
    },
    Story {
        name: "hash",
        prepare: furnish_large,
        request: || no_data(Operation::Hash, "snapshot"),
        verify: |rig| {
            nothing_is_locked(rig);
            rig.simple(Operation::Hash, "snapshot").unwrap();
        },
    },
    Story {
        name: "the move of an old map",
        prepare: |rig| old::put_v1(rig, "archip_legacy1"),
        request: || no_data(Operation::Open, "legacy1"),
        verify: |rig| {
            assert!(rig.is_locked("legacy1") && !rig.is_locked("archip_legacy1"));
            old::is_moved_v1(rig, "legacy1");
        },
    },
];

/// Runs `story` until `steps` turns are over. True: it was answered before.
fn begin(rig: &mut Rig, story: &Story, steps: usize) -> (xseg::seat::RequestId, bool) {
    (story.prepare)(rig);
    rig.settle();
    let (request, data) = (story.request)();
    let id = rig.client.ask(MAPPERD, request, &data, 4096);
    for _ in 0..steps {
        rig.turn();
    }
    (id, rig.client.is_done(id))
}

fn dies_at_every_step(story: &Story, also_storage: bool) {
    for steps in 0..STEPS_MAX {
        let mut rig = Rig::new();
        let (id, over) = begin(&mut rig, story, steps);
        rig.kill_mapper();
        if also_storage {
            rig.kill_storage();
            rig.start_storage();
        }
        rig.start_mapper();
        rig.settle();
        let answer = rig.client.take(id).expect("an answer");
        assert!(
            answer.is_ok(),
            "{}: {answer:?} after a death at step {steps}",
            story.name
        );
        audit::check(&rig);
        (story.verify)(&mut rig);
        audit::check(&rig);
        if over {
            assert!(steps > 3, "{}: it took no step at all", story.name);
            return;
        }
    }
    panic!("{} never ends", story.name);
}

#[test]
fn mapperd_dies_at_every_step() {
    STORIES
        .iter()
        .for_each(|story| dies_at_every_step(story, false));
}

#[test]
fn all_peers_die_at_every_step() {
    STORIES
        .iter()
        .for_each(|story| dies_at_every_step(story, true));
}

/// A small generator, so that a seed is all there is to remember.
fn dice(seed: u64) -> impl Fn() -> u64 {
    let state = Cell::new(seed);
    move || {
        let mut x = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(x);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// Several deaths over one request.
#[test]
fn several_deaths_are_survived_like_one() {
    for seed in 0..300 {
        let dice = dice(seed);
        let story = &STORIES[seed as usize % STORIES.len()];
        let mut rig = Rig::new();
        let (id, _) = begin(&mut rig, story, dice() as usize % 60);
        for _ in 0..3 {
            rig.kill_mapper();
            if dice().is_multiple_of(2) {
                rig.kill_storage();
                rig.start_storage();
            }
            rig.start_mapper();
            for _ in 0..dice() % 60 {
                rig.turn();
            }
        }
        rig.settle();
        let answer = rig.client.take(id).expect("an answer");
        assert!(
            answer.is_ok(),
            "{}: {answer:?} with seed {seed}",
            story.name
        );
        (story.verify)(&mut rig);
        audit::check(&rig);
    }
}

/// The host loses power: nobody asks again, and each sector that was not durable may be there or
/// not.
#[test]
fn a_host_dies_at_every_step() {
    for story in STORIES {
        for steps in 0..STEPS_MAX {
            let dice = dice(steps as u64);
            let mut rig = Rig::new();
            let (_, over) = begin(&mut rig, story, steps);
            rig.kill_mapper();
            rig.kill_storage();
            rig.maps.lose_power(&dice);
            rig.blocks.lose_power(&dice);
            let (maps, blocks) = (rig.maps.clone(), rig.blocks.clone());
            drop(rig);
            let mut rig = Rig::over(maps, blocks);
            is_in_order(&mut rig, story, steps);
            if over {
                break;
            }
        }
    }
}

/// Every name can be used, and what was durable before is where it belongs.
fn is_in_order(rig: &mut Rig, story: &Story, steps: usize) {
    let what = format!("{}, power lost at step {steps}", story.name);
    let mut names = ["volume", "newname", "oldname", "snapshot", "legacy1"];
    if steps.is_multiple_of(2) {
        names.reverse();
    }
    if steps.is_multiple_of(3) {
        // Names that nobody has are used before anybody looks at the others.
        for volume in ["newname", "oldname"] {
            let _ = rig.create(volume, BLOCK);
        }
    }
    let mut alive = Vec::new();
    for volume in names {
        match rig.simple(Operation::Open, volume) {
            Ok(()) | Err(libc::EROFS) => alive.push(volume),
            Err(libc::ENOENT) => {}
            Err(errno) => panic!("{what}: {volume} can't be opened ({errno})"),
        }
    }
    audit::check_maps(rig);
    if alive.contains(&"legacy1") {
        return old::is_moved_v1(rig, "legacy1");
    }
    if story.name == "hash" {
        return assert_eq!(rig.read("snapshot", 0, 7).unwrap(), b"hash me", "{what}");
    }
    assert_eq!(rig.read("snapshot", 0, 5).unwrap(), b"first", "{what}");
    assert_eq!(
        rig.read("snapshot", 2 * BLOCK - 2, 4).unwrap(),
        b"kept",
        "{what}"
    );
    let deletes = story.name.starts_with("delete");
    let moved = story.name.starts_with("rename");
    let mut homes: Vec<_> = alive
        .iter()
        .filter(|v| **v == "volume" || moved && **v != "snapshot")
        .collect();
    homes
        .retain(|v| rig.info(v) == Ok(3 * BLOCK) || story.name == "grow" || story.name == "shrink");
    assert!(
        homes.len() == 1 || deletes && homes.is_empty(),
        "{what}: {alive:?}"
    );
    for volume in homes {
        assert_eq!(rig.read(volume, 0, 5).unwrap(), b"first", "{what}");
        assert_eq!(rig.read(volume, 2 * BLOCK - 2, 1).unwrap(), b"K", "{what}");
    }
    for volume in names.into_iter().filter(|volume| !alive.contains(volume)) {
        rig.create(volume, BLOCK).unwrap();
        assert_eq!(rig.read(volume, 0, 5).unwrap(), [0; 5], "{what}: {volume}");
    }
    assert_eq!(rig.read("snapshot", 0, 5).unwrap(), b"first", "{what}");
    if deletes && !alive.contains(&"volume") {
        let left = rig.block(object("volume", 2, 1).as_bytes());
        assert!(
            left.is_none(),
            "{what}: creation removes what a deletion left"
        );
    }
    audit::check(rig);
}
