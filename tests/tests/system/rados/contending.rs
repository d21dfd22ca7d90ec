//! Three nodes and one volume: two break the holder's lock at the same moment, and both write.
//!
//! `ARCHIPELAGO_RACES=N` sets how often.

use super::{name, node_on, shared};
use client::{Client, Error, ErrorKind, Hint, Volume};
use rados_lab::Lab;
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use system_tests::pools;
use system_tests::real::RealNode;
use system_tests::verifier::{BLOCK, Load, Outcome};

const VOLUME: &str = "contended";
const PATIENCE: Duration = Duration::from_secs(60);

fn rounds() -> u64 {
    let asked = std::env::var("ARCHIPELAGO_RACES").ok();
    asked.map_or(3, |text| text.parse().expect("a number"))
}

type Written = Result<(), Error>;

/// Writes a stamp, in a thread which nobody waits for: it ends with the node if with nothing else.
fn write(node: &RealNode, stamp: u64) -> Receiver<Written> {
    let (socket, ports) = (node.socket(), node.ports());
    let (said, heard) = channel();
    std::thread::spawn(move || {
        let client = Client::connect(&socket, ports, "writer").unwrap();
        let volume = Volume::open(&client, name(VOLUME), Hint::default()).unwrap();
        let bytes = stamp.to_le_bytes().repeat(BLOCK as usize / 8);
        // Nobody listens any more where the test has failed.
        let _ = said.send(volume.write_at(&bytes, 0));
    });
    heard
}

/// Both break the lock at once, then both write; what came of the writes, of those that have ended.
fn break_and_write(nodes: [&RealNode; 2], stamps: [u64; 2]) -> [Receiver<Written>; 2] {
    std::thread::scope(|scope| {
        let both = [0, 1].map(|at| {
            scope.spawn(move || {
                // Who comes second may find that nobody holds it.
                let unlocked = nodes[at].run("vlmc", &["unlock", "-f", VOLUME]).unwrap();
                let said = String::from_utf8_lossy(&unlocked.stderr).into_owned();
                let nobody = said.contains("there is no such volume, object or lock");
                assert!(unlocked.status.success() || nobody, "{said}");
                write(nodes[at], stamps[at])
            })
        });
        both.map(|one| one.join().unwrap())
    })
}

/// Whether this very node holds the lock.
fn holds(node: &RealNode) -> bool {
    let report = node.client().lock_info(name(VOLUME)).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    report["ours"] == true
}

fn shows(lab: &Lab, stamp: u64) {
    let outcome = Outcome {
        load: Load::Volume(VOLUME.into()),
        wrong: None,
        stamps: HashMap::from([(0, stamp)]),
    };
    let (_, wrong) = pools::compare(lab, "blocks", &outcome).unwrap();
    assert_eq!(wrong, Vec::<String>::new());
}

/// Gives the volume back, whether the node holds it, has lost it, or never had it.
fn close(node: &RealNode) {
    if let Err(error) = node.client().close(name(VOLUME), Hint::default()) {
        let kinds = [ErrorKind::LostLock, ErrorKind::Invalid];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}

/// The pool has what the last holder wrote, and whoever waits is served when it closes.
fn settle(
    lab: &Lab,
    nodes: [&RealNode; 2],
    stamps: [u64; 2],
    mut writes: [Option<Receiver<Written>>; 2],
) {
    let patience = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < patience, "somebody waits for ever");
        for write in &mut writes {
            let Some(heard) = write else { continue };
            match heard.recv_timeout(Duration::from_millis(200)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Ok(())) => *write = None,
                // Its lock was broken by the other.
                Ok(Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::LostLock, "{error}");
                    *write = None;
                }
                Err(gone) => panic!("{gone}"),
            }
        }
        let holder = [0, 1].into_iter().find(|at| holds(nodes[*at]));
        if let Some(at) = holder.filter(|at| writes[*at].is_none()) {
            shows(lab, stamps[at]);
            close(nodes[at]);
        }
        if writes.iter().all(Option::is_none) && holder.is_none() {
            return;
        }
    }
}

#[test]
fn two_nodes_break_a_lock_at_once() {
    let Some(lab) = shared("two_nodes_break_a_lock_at_once") else {
        return;
    };
    let shapes = [None, Some("node"), Some("node")];
    let nodes = shapes.map(|shape: Option<&str>| {
        let process = shape.map(str::to_owned);
        node_on(lab, move |params| params.process = process)
    });
    nodes[0].client().create(name(VOLUME), 1 << 20).unwrap();
    for round in 0..rounds() {
        let at = |more: u64| &nodes[((round + more) % 3) as usize];
        let (old, new) = (at(0), [at(1), at(2)]);
        let first = write(old, 10 * round + 1);
        first.recv_timeout(PATIENCE).unwrap().unwrap();
        let stamps = [10 * round + 2, 10 * round + 3];
        let writes = break_and_write(new, stamps).map(Some);
        settle(lab, new, stamps, writes);
        nodes.iter().for_each(close);
    }
    nodes
        .into_iter()
        .for_each(|node| assert!(node.stop().unwrap().success()));
}
