//! A full cluster: what needs room fails with a sentence, what frees room works, and when there is
//! room again everything goes on. (`trouble` has the same of a full disk.)

use super::{name, node_on, start};
use client::{Client, ErrorKind, Hint, Volume};
use rados_lab::{Lab, Options};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const NONE: Hint = Hint {
    assume_v0: false,
    v0_size: None,
};
const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the OSD's disk, and how many of them it says are used.
const DISK: &str = r#"
import json, rados, sys
with rados.Rados(conffile=sys.argv[1]) as cluster:
    _, out, _ = cluster.osd_command(0, '{"prefix": "perf dump"}', b"", timeout=30)
    osd = json.loads(out)["osd"]
    print(osd["stat_bytes"], osd["stat_bytes_used"])
"#;

/// From so much more data on the OSD counts as full. It sees by itself, every few seconds, that it
/// is, and tells the monitors.
fn leave_room(lab: &Lab, bytes: u64) {
    let said = lab.python(DISK, &[], b"").unwrap();
    let numbers: Vec<u64> = said
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    let ratio = (numbers[1] + bytes) as f64 / numbers[0] as f64;
    let set = |which| format!(r#"{{"prefix":"osd set-{which}-ratio","ratio":{ratio}}}"#);
    lab.mon_commands(&["nearfull", "backfillfull", "full"].map(set))
        .unwrap();
}

fn open(client: &Client, volume: &str) -> Volume {
    Volume::open(client, name(volume), NONE).unwrap()
}

fn piece(seed: u8) -> Vec<u8> {
    vec![seed; MIB as usize]
}

/// Writes MiB after MiB until one is refused for want of room; how many were written.
fn fill(volume: &Volume) -> u64 {
    let end = Instant::now() + PATIENCE;
    for at in 0..volume.size() / MIB {
        if let Err(why) = volume.write_at(&piece(9), at * MIB) {
            assert_eq!(why.kind(), ErrorKind::Full, "{why}");
            return at;
        }
        assert!(Instant::now() < end, "it is never full");
    }
    panic!("it has room for all");
}

/// What needs room, of volumes that have their lock already.
fn needs_room(client: &Client) -> [(&'static str, Result<(), client::Error>); 4] {
    [
        ("creation", client.create(name("volume-3"), MIB)),
        (
            "snapshot",
            client.snapshot(name("volume-1"), name("snapshot-2"), NONE),
        ),
        (
            "clone",
            client.clone_volume(name("snapshot-1"), name("volume-3"), 0, NONE),
        ),
        // Its block is the snapshot's still: a copy has to be made.
        ("copy-up", open(client, "volume-1").write_at(b"new", 0)),
    ]
}

fn is_whole(volume: &Volume, seed: u8, mib: std::ops::Range<u64>) {
    let mut seen = piece(0);
    for at in mib {
        volume.read_at(&mut seen, at * MIB).unwrap();
        assert!(seen == piece(seed), "MiB {at}");
    }
}

#[test]
fn a_full_cluster_fails_what_needs_room_and_nothing_else() {
    let test = "a_full_cluster_fails_what_needs_room_and_nothing_else";
    if rados_lab::skip(test) {
        return;
    }
    let lab = start(Options::default());
    let node = node_on(&lab, |params| params.process = None);
    prepare(&node.client());
    leave_room(&lab, 24 * MIB);
    // In a thread that nobody waits for: where a request would wait for room it ends with the node.
    let (said, heard) = channel();
    let (socket, ports) = (node.socket(), node.ports());
    std::thread::spawn(move || {
        let client = Client::connect(&socket, ports, "guest").unwrap();
        // Nobody listens any more where it took too long.
        let _ = said.send(full_and_not_full(&client));
    });
    let written = heard
        .recv_timeout(3 * PATIENCE)
        .expect("everything is answered");
    println!("full after {written} MiB");
    assert!(node.stop().unwrap().success());
}

/// Three volumes; the first has 8 MiB, and a snapshot.
fn prepare(client: &Client) {
    for volume in ["volume-1", "volume-2", "removed"] {
        client.create(name(volume), 4 << 30).unwrap();
    }
    let first = open(client, "volume-1");
    (0..8).for_each(|at| first.write_at(&piece(7), at * MIB).unwrap());
    open(client, "removed").write_at(&piece(3), 0).unwrap();
    client
        .snapshot(name("volume-1"), name("snapshot-1"), NONE)
        .unwrap();
}

/// Fills the cluster by the second volume, and makes room again; how many MiB it took.
fn full_and_not_full(client: &Client) -> u64 {
    let (first, second) = (open(client, "volume-1"), open(client, "volume-2"));
    let written = fill(&second);
    for (what, outcome) in needs_room(client) {
        let refused = outcome.expect_err(what);
        assert_eq!(refused.kind(), ErrorKind::Full, "{what}: {refused}");
    }
    for free in ["volume-3", "snapshot-2"] {
        let missing = client.info(name(free), NONE).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{free}: {missing}");
    }
    is_whole(&first, 7, 0..8);
    is_whole(&second, 9, 0..written);
    // Over what is there no room is needed.
    second.write_at(&piece(5), 0).unwrap();
    second.flush().unwrap();

    client.remove(name("removed"), NONE).unwrap();
    second.discard(0, second.size()).unwrap();
    let end = Instant::now() + PATIENCE;
    while let Err(why) = first.write_at(b"new", 0) {
        assert_eq!(why.kind(), ErrorKind::Full, "{why}");
        assert!(Instant::now() < end, "there is room, and nobody sees it");
    }
    second.write_at(&piece(6), 0).unwrap();
    is_whole(&second, 6, 0..1);
    first.flush().unwrap();
    second.flush().unwrap();
    written
}
