//! LIST, STATUS, LOCKINFO and HASH, and what makes no sense.

use crate::audit;
use crate::rig::*;
use proptest::prelude::*;
use serde_json::Value;
use xseg::protocol::{NameRequest, Operation, flags, mapflags};
use xseg::{Name, Request};

fn text(rig: &mut Rig, request: Request) -> String {
    let id = rig.client.ask(MAPPERD, request, &[], 1 << 12);
    rig.settle();
    let (answer, bytes) = rig.client.take(id).unwrap().unwrap();
    String::from_utf8(bytes[..answer.serviced as usize].to_vec()).unwrap()
}

fn status(rig: &mut Rig, volume: &str) -> Value {
    let request = Request::new(Operation::Status, name(volume));
    serde_json::from_str(&text(rig, request)).unwrap()
}

#[test]
fn status_counts_blocks_and_names_the_lock() {
    let mut rig = Rig::new();
    rig.create("volume", 5 * BLOCK - 1).unwrap();
    rig.write("volume", 0, &[1; 10]).unwrap();
    rig.write("volume", BLOCK, &[1; 10]).unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    rig.write("volume", 0, b"x").unwrap();
    let said = status(&mut rig, "volume");
    for (key, value) in [
        ("size", 5 * BLOCK - 1),
        ("block_size", BLOCK),
        ("blocks", 5),
        ("own_blocks", 1),
        ("shared_blocks", 1),
        ("zero_blocks", 3),
        ("version", 2),
        ("epoch", 2),
    ] {
        assert_eq!(said[key], value, "{key}");
    }
    assert_eq!(
        (&said["open_here"], &said["read_only"]),
        (&true.into(), &false.into())
    );
    assert_eq!(
        (&said["lock"]["ours"], &said["lock"]["owner"]),
        (&true.into(), &"testhost_1".into())
    );
    let said = status(&mut rig, "snapshot");
    assert_eq!(
        (&said["shared_blocks"], &said["read_only"]),
        (&2.into(), &true.into())
    );
    assert_eq!(said["lock"]["ours"], false);
    let peer = status(&mut rig, "");
    assert_eq!(peer["open_volumes"], serde_json::json!(["volume"]));
    assert_eq!(peer["objects_copied"], 1);
    let missing = Request::new(Operation::Status, name("nosuchvolume"));
    assert_eq!(rig.call(missing, &[], 8), Err(libc::ENOENT));
}

#[test]
fn lockinfo_tells_who_holds_a_lock() {
    let mut rig = Rig::new();
    let asked = Request::new(Operation::LockInfo, name("volume"));
    assert_eq!(text(&mut rig, asked), r#"{"ours":false}"#);
    let mut stranger = Stranger::new(&rig);
    assert!(stranger.acquire("volume"));
    let said: Value = serde_json::from_str(&text(&mut rig, asked)).unwrap();
    assert_eq!(
        (&said["owner"], &said["ours"]),
        (&"otherhost_9".into(), &false.into())
    );
}

#[test]
fn list_goes_through_all_maps_page_by_page() {
    let mut rig = Rig::new();
    for i in 0..300 {
        rig.create(&format!("volume{i}"), BLOCK).unwrap();
    }
    rig.snapshot("volume7", "snapshot").unwrap();
    rig.simple(Operation::Delete, "volume8").unwrap();
    crate::old::put_v1(&mut rig, "archip_legacy1");
    rig.maps_put(&"ab".repeat(32), &[7; 64]);
    rig.maps_put(&"cd".repeat(32), &[7; 5]);
    let (mut seen, mut cursor, mut pages) = (std::collections::BTreeMap::new(), 0, 0);
    loop {
        let request = Request {
            offset: cursor,
            ..Request::new(Operation::List, Name::EMPTY)
        };
        let page = text(&mut rig, request);
        let mut lines = page
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        cursor = lines.next().unwrap()["next"].as_u64().unwrap();
        for line in lines {
            let name = line["name"].as_str().unwrap().to_owned();
            assert!(seen.insert(name, line).is_none(), "listed twice");
        }
        pages += 1;
        if cursor == 0 {
            break;
        }
    }
    assert!(pages > 1);
    assert_eq!(seen.len(), 303);
    assert_eq!(seen["snapshot"]["read_only"], true);
    assert_eq!(seen["volume8"]["deleted"], true);
    assert_eq!(seen["volume9"]["size"], BLOCK);
    assert_eq!(
        (&seen["legacy1"]["version"], &seen["legacy1"]["object"]),
        (&1.into(), &"archip_legacy1".into())
    );
    assert_eq!(seen[&"ab".repeat(32)]["version"], 0);
}

/// sha256 of the parts.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(parts.concat()).into()
}

#[test]
fn hash_makes_a_map_named_by_the_merkle_root() {
    let mut rig = Rig::new();
    rig.create("volume", 3 * BLOCK - 5).unwrap();
    rig.write("volume", 0, b"content\0\0").unwrap();
    rig.write("volume", 2 * BLOCK, b"more").unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    let (a, c) = (sha256(&[b"content"]), sha256(&[b"more"]));
    let zero = sha256(&[]);
    let root = sha256(&[&sha256(&[&a, &zero]), &sha256(&[&c, &[0; 32]])]);
    for _ in 0..2 {
        let request = Request::new(Operation::Hash, name("snapshot"));
        let reply = rig.call(request, &[], 260).unwrap();
        assert_eq!(NameRequest::decode(&reply).unwrap().0, name(&hex(&root)));
    }
    let map = hex(&root);
    assert_eq!(
        rig.entries(&map),
        [(0, hex(&a)), (4, hex(&zero)), (0, hex(&c))]
    );
    assert!(
        rig.header(&map)
            .ends_with("00400000000000010000000000000000")
    );
    assert_eq!(rig.read(&map, 0, 7).unwrap(), b"content");
    let again = Request::new(Operation::Hash, name(&map));
    let reply = rig.call(again, &[], 260).unwrap();
    assert_eq!(
        NameRequest::decode(&reply).unwrap().0,
        name(&map),
        "its own hash"
    );
    assert_eq!(
        rig.simple(Operation::Hash, "volume"),
        Err(libc::EINVAL),
        "it may change"
    );
    rig.maps_put(&hex(&[1; 32]), b"something");
    assert!(!rig.is_locked("snapshot"));
}

#[test]
fn ranges_are_checked_without_overflow() {
    let mut rig = Rig::new();
    rig.create("volume", 2 * BLOCK).unwrap();
    for op in [Operation::MapRead, Operation::MapWrite] {
        for (offset, size) in [
            (0, 2 * BLOCK + 1),
            (2 * BLOCK + 1, 0),
            (u64::MAX, 2),
            (2, u64::MAX),
        ] {
            assert_eq!(
                rig.map(op, "volume", offset, size).unwrap_err(),
                libc::EINVAL
            );
        }
        for (offset, size) in [(0, 0), (2 * BLOCK, 0)] {
            assert!(rig.map(op, "volume", offset, size).unwrap().1.is_empty());
        }
    }
}

#[test]
fn whole_blocks_are_not_copied() {
    let mut rig = Rig::new();
    rig.create("volume", 2 * BLOCK - 9).unwrap();
    rig.write("volume", 0, b"one").unwrap();
    rig.write("volume", BLOCK, b"two").unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    let whole = flags::WHOLE;
    rig.map_with(Operation::MapWrite, "volume", 1, BLOCK - 1, whole)
        .unwrap();
    assert_eq!(
        rig.read("volume", 0, 3).unwrap(),
        b"one",
        "not all of the block was meant"
    );
    rig.map_with(Operation::MapWrite, "volume", BLOCK, BLOCK - 9, whole)
        .unwrap();
    assert_eq!(rig.read("volume", BLOCK, 3).unwrap(), [0; 3]);
    assert_eq!(rig.read("snapshot", BLOCK, 3).unwrap(), b"two");
}

#[test]
fn creation_checks_what_it_is_told() {
    let mut rig = Rig::new();
    assert_eq!(
        rig.create("volume", 0),
        Err(libc::EINVAL),
        "a blank volume has a size"
    );
    rig.create("volume", 2 * BLOCK).unwrap();
    rig.snapshot("volume", "snapshot").unwrap();
    assert_eq!(rig.create("volume", BLOCK), Err(libc::EEXIST));
    assert_eq!(
        rig.create("monster", (1 << 50) + 1),
        Err(libc::EFBIG),
        "a map of 32 GiB at most"
    );
    assert_eq!(rig.truncate("volume", 1 << 62, 0), Err(libc::EFBIG));
    assert_eq!(rig.create("monster", 1 << 63), Err(libc::EINVAL));
    assert!(!rig.is_locked("volume") && !rig.is_locked("monster"));
    assert_eq!(rig.snapshot("volume", "snapshot"), Err(libc::EEXIST));
    assert_eq!(rig.snapshot("volume", "volume"), Err(libc::EEXIST));
    assert_eq!(
        rig.clone_of("snapshot", "newname", BLOCK),
        Err(libc::EINVAL),
        "smaller"
    );
    assert_eq!(
        rig.clone_of("volume", "newname", 0),
        Err(libc::EINVAL),
        "no snapshot"
    );
    assert_eq!(rig.clone_of("snapshot", "snapshot", 0), Err(libc::EEXIST));
    for bad in ["short", "../../../abcdefg", "ends_lock", "archip_volume"] {
        assert_eq!(rig.create(bad, BLOCK), Err(libc::EINVAL), "{bad}");
        assert_eq!(rig.snapshot("volume", bad), Err(libc::EINVAL), "{bad}");
    }
    assert_eq!(rig.create(&"n".repeat(83), BLOCK), Err(libc::ENAMETOOLONG));
    rig.create(&"n".repeat(82), BLOCK).unwrap();
    let one = [("someobject", mapflags::READONLY)];
    for (size, block_size) in [
        (2 * BLOCK, 0),
        (0, 0),
        (BLOCK, 1000),
        (BLOCK, 128),
        (256, 64),
    ] {
        let (request, data) = create_request("newname", size, block_size, 0, &one);
        assert_eq!(
            rig.call(request, &data, 0),
            Err(libc::EINVAL),
            "{size} {block_size}"
        );
    }
    let (request, data) = create_request("newname", BLOCK, 0, 0, &[("a/b", 0)]);
    assert_eq!(rig.call(request, &data, 0), Err(libc::EINVAL));
    let long = "o".repeat(124);
    let (request, data) = create_request("newname", BLOCK, 0, 0, &[(&long, 0)]);
    assert_eq!(rig.call(request, &data, 0), Err(libc::ENAMETOOLONG));
    assert!(rig.stored("newname").is_none() && !rig.is_locked("newname"));
    audit::check(&rig);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Any record and any data get an answer, and the maps stay in order.
    #[test]
    fn anything_is_answered(
        records in proptest::collection::vec(
            (0u32..80, any::<u32>(), any::<u64>(), any::<u64>(), 0usize..4,
             proptest::collection::vec(any::<u8>(), 0..600)),
            1..12,
        ),
    ) {
        let mut rig = Rig::new();
        rig.create("volume", BLOCK).unwrap();
        let targets = ["volume", "", "x", "some/where"];
        for (op, flags, offset, size, target, data) in records {
            let flags = flags & !flags::FRESH;
            let request = Request {
                op, flags, offset, size,
                ..Request::new(Operation::Ping, name(targets[target]))
            };
            let _ = rig.call(request, &data, 0);
        }
        audit::check(&rig);
    }
}
