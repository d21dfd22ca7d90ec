//! A volume goes from node to node: how long the next one's write waits once the last one has
//! closed, and what woke it.

use super::{name, node_on, shared, vlmc};
use client::{Client, ErrorKind, Hint, Name, Volume};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use system_tests::real::RealNode;

const VOLUME: &str = "handed-over";
const PATIENCE: Duration = Duration::from_secs(60);

/// `ARCHIPELAGO_HANDOVERS=N`: how often.
fn rounds() -> usize {
    let asked = std::env::var("ARCHIPELAGO_HANDOVERS").ok();
    asked.map_or(8, |text| text.parse().expect("a number"))
}

/// What a peer says of itself.
fn status(client: &Client, port: u32) -> serde_json::Value {
    let said = client.status(port, Name::EMPTY, Hint::default()).unwrap();
    serde_json::from_slice(&said).unwrap()
}

/// A write, in a thread of its own which nobody waits for; when it was answered.
fn write(node: &RealNode, volume: &'static str, byte: u8) -> Receiver<Instant> {
    let (said, heard) = channel();
    let (socket, ports) = (node.socket(), node.ports());
    std::thread::spawn(move || {
        let client = Client::connect(&socket, ports, "writer").unwrap();
        let volume = Volume::open(&client, name(volume), Hint::default()).unwrap();
        volume.write_at(&[byte; 4096], 0).unwrap();
        // Nobody listens any more where the test has failed.
        let _ = said.send(Instant::now());
    });
    heard
}

/// Until a write waits for another node's lock.
fn await_waiting(client: &Client) {
    let patience = Instant::now() + PATIENCE;
    while status(client, client.ports().mapperd)["waiting_for_locks"] != 1 {
        assert!(Instant::now() < patience, "no write waits");
        std::thread::yield_now();
    }
}

/// How many waits ended because blockerm heard of a release.
fn heard(client: &Client) -> u64 {
    let status = status(client, client.ports().blockerm);
    status["counters"]["waits_heard"].as_u64().unwrap_or(0)
}

/// The volume goes from one node to the other; how long after the close the write was answered, and
/// whether a notification woke it.
fn hand_over(source: &Client, target: &RealNode, byte: u8) -> (Duration, bool) {
    let client = target.client();
    let (before, answered) = (heard(&client), write(target, VOLUME, byte));
    await_waiting(&client);
    source.close(name(VOLUME), Hint::default()).unwrap();
    let closed = Instant::now();
    let answered = answered.recv_timeout(PATIENCE).expect("it goes on");
    let took = answered.saturating_duration_since(closed);
    (took, heard(&client) > before)
}

/// mapperd asked once a second whether the lock was free by now.
#[test]
fn the_next_node_hears_of_a_close() {
    let Some(lab) = shared("the_next_node_hears_of_a_close") else {
        return;
    };
    let (one, other) = (
        node_on(lab, |params| params.process = None),
        node_on(lab, |params| params.process = Some("node".into())),
    );
    let clients = (one.client(), other.client());
    clients.0.create(name(VOLUME), 1 << 20).unwrap();
    write(&one, VOLUME, 1).recv_timeout(PATIENCE).unwrap();
    let (mut took, mut polled) = (Vec::new(), Vec::new());
    for round in 0..rounds() {
        let byte = 2 + (round % 200) as u8;
        let (time, heard) = match round % 2 {
            0 => hand_over(&clients.0, &other, byte),
            _ => hand_over(&clients.1, &one, byte),
        };
        took.push(time);
        if !heard {
            polled.push(time);
        }
        let mut seen = [0; 4096];
        let volume = Volume::open(&clients.0, name(VOLUME), Hint::default()).unwrap();
        volume.read_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [byte; 4096]);
    }
    took.sort();
    println!(
        "{} handovers, {} of them heard of, from the answer of CLOSE to that of the waiting write: \
         median {:?}, slowest {:?}",
        took.len(),
        took.len() - polled.len(),
        took[took.len() / 2],
        took[took.len() - 1]
    );
    // On a very busy machine one may be closed just between two questions.
    assert!(polled.len() <= 1, "the poll woke them, after {polled:?}");
    drop(clients);
    assert!(one.stop().unwrap().success());
    assert!(other.stop().unwrap().success());
}

/// In the midst of a migration the source is lost: a third node breaks its lock, and the target, whose
/// write waits, has the volume.
#[test]
fn who_waits_has_the_volume_after_a_break() {
    let Some(lab) = shared("who_waits_has_the_volume_after_a_break") else {
        return;
    };
    const VOLUME: &str = "broken-in-migration";
    let nodes = [None, Some("node"), Some("node")].map(|shape: Option<&str>| {
        let process = shape.map(str::to_owned);
        node_on(lab, move |params| params.process = process)
    });
    let [source, target, third] = &nodes;
    source.client().create(name(VOLUME), 1 << 20).unwrap();
    write(source, VOLUME, 1).recv_timeout(PATIENCE).unwrap();
    let client = target.client();
    let answered = write(target, VOLUME, 2);
    await_waiting(&client);
    vlmc(third, &["unlock", "-f", VOLUME]);
    answered.recv_timeout(PATIENCE).expect("it goes on");
    let theirs = Volume::open(&source.client(), name(VOLUME), Hint::default()).unwrap();
    let refused = theirs.write_at(&[3; 4096], 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LostLock, "{refused}");
    let mut seen = [0; 4096];
    let volume = Volume::open(&client, name(VOLUME), Hint::default()).unwrap();
    volume.read_at(&mut seen, 0).unwrap();
    assert_eq!(seen, [2; 4096]);
    drop((theirs, volume, client));
    for node in nodes {
        assert!(node.stop().unwrap().success());
    }
}
