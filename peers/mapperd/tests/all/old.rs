//! v0 and v1 maps, read in place and brought to v2 when their lock is taken.

use crate::audit;
use crate::rig::*;
use xseg::Request;
use xseg::protocol::{Operation, flags};

const HASH_A: [u8; 32] = [0xaa; 32];
const HASH_B: [u8; 32] = [0xbb; 32];

/// A v1 map of two blocks: the first its own, the second shared.
pub(crate) fn put_v1(rig: &mut Rig, header: &str) {
    let mut map = vec![1, 0, 0, 0];
    map.extend_from_slice(&(2 * BLOCK - 100).to_le_bytes());
    map.push(1);
    map.extend_from_slice(&HASH_A);
    map.push(0);
    map.extend_from_slice(&HASH_B);
    rig.maps_put(header, &map);
    rig.blocks_put(&format!("archip_{}", hex(&HASH_A)), b"own block");
    rig.blocks_put(&hex(&HASH_B), b"shared block");
}

/// What became of it under its new name.
pub(crate) fn is_moved_v1(rig: &mut Rig, volume: &str) {
    assert!(
        rig.stored(&format!("archip_{volume}")).is_none(),
        "the old header goes"
    );
    assert_eq!(
        rig.header(volume),
        "414d462e0000000200000000007fff9c00400000000000000000000000000001"
    );
    let own = (3, format!("archip_{}", hex(&HASH_A)));
    assert_eq!(rig.entries(volume), [own, (0, hex(&HASH_B))]);
    assert_eq!(rig.read(volume, 0, 9).unwrap(), b"own block");
    assert_eq!(rig.read(volume, BLOCK, 6).unwrap(), b"shared");
}

#[test]
fn a_v1_map_moves_when_it_is_opened_and_not_before() {
    let mut rig = Rig::new();
    put_v1(&mut rig, "archip_legacy1");
    let before = rig.maps.names();
    assert_eq!(rig.info("legacy1"), Ok(2 * BLOCK - 100));
    assert_eq!(rig.info("archip_legacy1"), Ok(2 * BLOCK - 100));
    assert_eq!(rig.maps.names(), before, "INFO changes nothing");
    rig.simple(Operation::Open, "legacy1").unwrap();
    is_moved_v1(&mut rig, "legacy1");
    assert_eq!(rig.info("archip_legacy1"), Err(libc::ENOENT));
    rig.write("legacy1", 0, b"OWN").unwrap();
    rig.write("legacy1", BLOCK, b"S").unwrap();
    assert_eq!(rig.read("legacy1", 0, 9).unwrap(), b"OWN block");
    assert_eq!(rig.read("legacy1", BLOCK, 6).unwrap(), b"Shared");
    let own = format!("archip_{}", hex(&HASH_A));
    assert_eq!(
        rig.block(own.as_bytes()).unwrap(),
        b"OWN block",
        "written in place"
    );
    rig.simple(Operation::Delete, "legacy1").unwrap();
    assert!(rig.block(own.as_bytes()).is_none());
    audit::check(&rig);
}

/// Where both headers exist the new one counts: nobody deletes it by the old name.
#[test]
fn an_old_name_is_shadowed_by_the_new_one() {
    let mut rig = Rig::new();
    rig.create("legacy1", BLOCK).unwrap();
    put_v1(&mut rig, "archip_legacy1");
    for op in [Operation::Info, Operation::Open, Operation::Delete] {
        assert_eq!(
            rig.simple(op, "archip_legacy1"),
            Err(libc::ENOENT),
            "{op:?}"
        );
    }
    assert_eq!(rig.info("legacy1"), Ok(BLOCK));
}

#[test]
fn a_map_of_the_old_layout_that_another_node_holds_is_read_in_place() {
    let mut rig = Rig::new();
    put_v1(&mut rig, "archip_legacy1");
    let before = rig.maps.names();
    for lock in ["legacy1", "archip_legacy1"] {
        let mut stranger = Stranger::new(&rig);
        assert!(stranger.acquire(lock));
        assert_eq!(rig.read("legacy1", 0, 9).unwrap(), b"own block");
        assert_eq!(rig.simple(Operation::Open, "legacy1"), Err(libc::EBUSY));
        assert_eq!(rig.maps.names(), before);
        assert!(stranger.release(lock, false));
    }
    assert!(!rig.is_locked("legacy1"));
}

/// A node died while it moved a volume to the new layout; another took the volume over and finished
/// that, but for the old name's lock, which the first one's blocker still held: for ever.
#[test]
fn the_old_names_lock_is_given_back_when_the_volume_is_anothers() {
    let mut rig = Rig::new();
    put_v1(&mut rig, "archip_legacy1");
    let acquire = Request {
        flags: flags::NOSYNC,
        ..Request::new(Operation::Acquire, name("archip_legacy1"))
    };
    rig.storage_call(BLOCKERM, acquire, &[]).unwrap();
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.acquire("legacy1"));
    assert!(rig.is_locked("archip_legacy1"));
    assert_eq!(rig.read("legacy1", 0, 9).unwrap(), b"own block");
    assert!(!rig.is_locked("archip_legacy1"));
    // That of a living node stays.
    assert!(stranger.acquire("archip_legacy1"));
    assert_eq!(rig.simple(Operation::Open, "legacy1"), Err(libc::EBUSY));
    assert!(
        stranger.release("archip_legacy1", false),
        "it still is theirs"
    );
}

fn v0(op: Operation, volume: &str, v0_size: u64) -> Request {
    Request {
        flags: flags::ASSUME_V0,
        v0_size,
        ..Request::new(op, name(volume))
    }
}

#[test]
fn a_v0_map_is_read_when_the_request_says_so() {
    let mut rig = Rig::new();
    let map = hex(&[0x41; 32]);
    rig.maps_put(&map, &[HASH_A, HASH_B].concat());
    rig.blocks_put(&hex(&HASH_A), b"first");
    assert_eq!(
        rig.info(&map),
        Err(libc::EINVAL),
        "without the flag it is no map"
    );
    let size = 2 * BLOCK - 7;
    let info = |rig: &mut Rig, v0_size| {
        rig.call(v0(Operation::Info, &map, v0_size), &[], 8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
    };
    assert_eq!(info(&mut rig, u64::MAX), Ok(2 * BLOCK));
    assert_eq!(info(&mut rig, size), Ok(size));
    assert_eq!(
        info(&mut rig, 3 * BLOCK),
        Err(libc::EINVAL),
        "the count does not fit"
    );
    let (request, data) = clone_request(&map, "fromv0", 0);
    rig.call(
        Request {
            flags: flags::ASSUME_V0,
            v0_size: size,
            ..request
        },
        &data,
        0,
    )
    .unwrap();
    assert_eq!(rig.info("fromv0"), Ok(size));
    assert_eq!(
        rig.entries("fromv0"),
        [(0, hex(&HASH_A)), (0, hex(&HASH_B))]
    );
    assert_eq!(
        rig.stored(&map).unwrap().len(),
        64,
        "a clone does not upgrade its parent"
    );
}

#[test]
fn taking_its_lock_upgrades_a_v0_map_in_place() {
    for op in [Operation::Open, Operation::MapRead, Operation::Update] {
        let mut rig = Rig::new();
        let map = hex(&[0x41; 32]);
        rig.maps_put(&map, &[HASH_A, HASH_B].concat());
        let size = 2 * BLOCK - 7;
        let answer = rig.call(v0(op, &map, size), &[], 4096);
        let expected = if op == Operation::Open {
            Err(libc::EROFS)
        } else {
            Ok(())
        };
        assert_eq!(answer.map(|_| ()), expected, "{op:?}");
        let stored = rig.stored(&map).unwrap();
        assert_eq!(
            hex(&stored[..32]),
            "414d462e0000000200000000007ffff900400000000000010000000000000000"
        );
        assert_eq!(stored[32..], HASH_B, "the old hashes stay from byte 32 on");
        assert_eq!(rig.entries(&map), [(0, hex(&HASH_A)), (0, hex(&HASH_B))]);
        assert_eq!(rig.is_locked(&map), op == Operation::MapRead);
        assert_eq!(rig.info(&map), Ok(size), "it is v2 now");
        if op == Operation::MapRead {
            rig.simple(Operation::Close, &map).unwrap();
        }
    }
}

/// A v0 map that another node has locked is served from where it is.
#[test]
fn a_locked_v0_map_is_read_without_upgrade() {
    let mut rig = Rig::new();
    let map = hex(&[0x41; 32]);
    rig.maps_put(&map, &[HASH_A, HASH_B].concat());
    assert!(Stranger::new(&rig).acquire(&map));
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.acquire(&map), "the first one is dead");
    let request = Request {
        size: 10,
        ..v0(Operation::MapRead, &map, 2 * BLOCK)
    };
    let reply = rig.call(request, &[], 4096).unwrap();
    let reply = xseg::protocol::MapReply::decode(&reply).unwrap();
    assert_eq!(reply.segments[0].name.as_bytes(), hex(&HASH_A).as_bytes());
    assert_eq!(rig.stored(&map).unwrap().len(), 64);
}

/// What a node does to the maps that lie in `rig`, by upgrading `volume` there: in its order, the
/// objects that it writes (with their bytes) and removes.
fn upgrade_of(rig: &mut Rig, volume: &str) -> Vec<(String, Option<Vec<u8>>)> {
    let before = rig.maps.names();
    let request = v0(Operation::Update, volume, u64::MAX);
    rig.call(request, &[], 0).unwrap();
    let chunk = format!("{volume}_0000000000000000");
    let mut steps: Vec<_> = [chunk.as_str(), volume]
        .map(|object| (object.to_owned(), rig.stored(object)))
        .into();
    let gone = before.iter().map(|name| name.to_string());
    steps.extend(gone.filter_map(|old| rig.stored(&old).is_none().then_some((old, None))));
    steps
}

/// Another node upgraded a map between our look at its header and our reading of its entries: its
/// new header was taken for the first entry, which a clone or a hash then kept for ever; or a volume
/// was not found, for it had moved from the one name to the other between two looks.
#[test]
fn a_map_that_another_node_upgrades_meanwhile_is_read_right() {
    let bare = hex(&[0x41; 32]);
    for volume in [&bare, "legacy1"] {
        let put = |rig: &mut Rig| match volume {
            "legacy1" => put_v1(rig, "archip_legacy1"),
            _ => rig.maps_put(volume, &[HASH_A, HASH_B].concat()),
        };
        let mut other = Rig::new();
        put(&mut other);
        let steps = upgrade_of(&mut other, volume);
        let expected: Vec<String> = other.entries(volume).into_iter().map(|e| e.1).collect();
        assert_eq!(expected[1], hex(&HASH_B));
        for turns in 0..60 {
            let mut rig = Rig::new();
            put(&mut rig);
            let mut stranger = Stranger::new(&rig);
            assert!(stranger.acquire(volume));
            let request = Request {
                size: 2 * BLOCK - 100,
                ..v0(Operation::MapRead, volume, u64::MAX)
            };
            let mut asked = vec![rig.client.ask(MAPPERD, request, &[], 4096)];
            if volume == bare {
                let (request, data) = clone_request(volume, "cloned", 0);
                let flags = flags::ASSUME_V0;
                let request = Request { flags, ..request };
                asked.push(rig.client.ask(MAPPERD, request, &data, 0));
            }
            for _ in 0..turns {
                rig.turn();
            }
            for (object, bytes) in &steps {
                stranger.change(object, bytes.as_deref());
                rig.turn();
            }
            rig.settle();
            let answers: Vec<_> = asked
                .iter()
                .map(|id| rig.client.take(*id).unwrap())
                .collect();
            let (_, reply) = answers[0].as_ref().unwrap();
            let reply = xseg::protocol::MapReply::decode(reply).unwrap();
            let names: Vec<_> = reply.segments.iter().map(|s| s.name.to_string()).collect();
            assert_eq!(names, expected, "{volume} after {turns} turns");
            if volume == bare {
                answers[1].as_ref().unwrap();
                let cloned: Vec<_> = rig.entries("cloned").into_iter().map(|e| e.1).collect();
                assert_eq!(cloned, expected, "a clone after {turns} turns");
            }
        }
    }
}
