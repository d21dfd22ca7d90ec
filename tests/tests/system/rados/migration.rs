//! Live migration between two nodes on one pool, step by step, under load.
//!
//! 1. The source's guests write; the source has the lock.
//! 2. The target looks: INFO, which takes no lock, and reads that no cache answers.
//! 3. The target's first write waits; what else the target does goes on.
//! 4. The source closes, with writes still under way before it.
//! 5. The target's write proceeds, and every byte is right.

use super::{name, node_on, shared};
use client::{Client, Hint, Volume};
use config::SampleParams;
use rados_lab::Lab;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};
use system_tests::golden::node::both;
use system_tests::real::RealNode;
use xseg::Request;
use xseg::protocol::Operation;

const VOLUME: &str = "migrating";
const OTHER: &str = "staying-there";
const BLOCK: usize = 4096;
/// Blocks of the guests' own; 64 KiB apart, so that they are in many objects.
const BLOCKS: u64 = 512;
const APART: u64 = 64 << 10;
const GUESTS: u64 = 4;
/// Where only the target's first write goes.
const FIRST_WRITE: u64 = BLOCKS * APART;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the guests have asked for and what was acknowledged, for each block.
struct Facts {
    asked: Vec<AtomicU64>,
    done: Vec<AtomicU64>,
    writes: AtomicU64,
    stop: AtomicBool,
}

impl Facts {
    fn new() -> Facts {
        let zeros = || (0..BLOCKS).map(|_| AtomicU64::new(0)).collect();
        Facts {
            asked: zeros(),
            done: zeros(),
            writes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// Until the guests have done `more` writes.
    fn await_writes(&self, more: u64) {
        let goal = self.writes.load(SeqCst) + more;
        let patience = Instant::now() + PATIENCE;
        while self.writes.load(SeqCst) < goal {
            assert!(Instant::now() < patience, "the guests are stuck");
            std::thread::yield_now();
        }
    }

    /// Reads a block, which shows a stamp between the last acknowledged and the last asked for.
    fn check(&self, volume: &Volume, block: u64) {
        let at = block as usize;
        let least = self.done[at].load(SeqCst);
        let mut bytes = vec![0xee; BLOCK];
        volume.read_at(&mut bytes, block * APART).unwrap();
        let most = self.asked[at].load(SeqCst);
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert!(words.iter().all(|word| *word == words[0]), "a torn block");
        assert!(
            (least..=most).contains(&words[0]),
            "block {block} shows {} and not {least}..={most}",
            words[0]
        );
    }
}

fn stamped(stamp: u64) -> Vec<u8> {
    stamp.to_le_bytes().repeat(BLOCK / 8)
}

fn open(client: &Client, volume: &str) -> Volume {
    Volume::open(client, name(volume), Hint::default()).unwrap()
}

/// Writes its own blocks until told to stop.
fn guest(node: &RealNode, facts: &Facts, number: u64, round: u64) {
    let client = node.client();
    let volume = open(&client, VOLUME);
    let mut dice = ChaCha8Rng::seed_from_u64(round * GUESTS + number);
    while !facts.stop.load(SeqCst) {
        let block = dice.random_range(0..BLOCKS / GUESTS) * GUESTS + number;
        let stamp = facts.asked[block as usize].fetch_add(1, SeqCst) + 1;
        volume.write_at(&stamped(stamp), block * APART).unwrap();
        facts.done[block as usize].store(stamp, SeqCst);
        facts.writes.fetch_add(1, SeqCst);
    }
}

/// The client that holds the volume's lock, as the `rados` tool sees it.
fn holder(lab: &Lab) -> String {
    let object = format!("{VOLUME}_lock");
    let info = ["-p", "maps", "lock", "info", &object, "RadosLock"];
    let lock: serde_json::Value = serde_json::from_str(&lab.rados(&info).unwrap().out).unwrap();
    let lockers = lock["lockers"].as_array().unwrap();
    assert_eq!(lockers.len(), 1, "{lock}");
    lockers[0]["name"].as_str().unwrap().to_owned()
}

/// The target's first write, in a thread of its own, which nobody waits for: it ends with the node
/// if with nothing else. When it was answered.
fn first_write(target: &RealNode, stamp: u64) -> Receiver<Instant> {
    let (said, heard) = channel();
    let (socket, ports) = (target.socket(), target.ports());
    std::thread::spawn(move || {
        let client = Client::connect(&socket, ports, "first write").unwrap();
        let volume = open(&client, VOLUME);
        volume.write_at(&stamped(stamp), FIRST_WRITE).unwrap();
        // Nobody listens any more where the test has failed.
        let _ = said.send(Instant::now());
    });
    heard
}

/// CLOSE with two writes right before it, all under way together.
fn close(source: &RealNode, facts: &Facts) {
    let client = source.client();
    let vlmcd = client.ports().vlmcd;
    let write = |block: u64| {
        let stamp = facts.asked[block as usize].fetch_add(1, SeqCst) + 1;
        let request = Request {
            offset: block * APART,
            size: BLOCK as u64,
            ..Request::new(Operation::Write, name(VOLUME))
        };
        let client = &client;
        async move {
            let bytes = stamped(stamp);
            client.call(vlmcd, request, &bytes, 0).await.unwrap();
            facts.done[block as usize].store(stamp, SeqCst);
        }
    };
    let last = async {
        let request = Request::new(Operation::Close, name(VOLUME));
        client.call(vlmcd, request, &[], 0).await.unwrap();
    };
    client.block_on(both(both(write(0), write(BLOCKS - 1)), last));
}

/// One migration, and what it was like: how long the close took, and how long after it the
/// target's write was answered.
fn migrate(
    lab: &Lab,
    source: &RealNode,
    target: &RealNode,
    facts: &Facts,
    round: u64,
) -> (Duration, Duration) {
    facts.stop.store(false, SeqCst);
    std::thread::scope(|scope| {
        for number in 0..GUESTS {
            scope.spawn(move || guest(source, facts, number, round));
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let before = look(lab, target, facts);
            let first = first_write(target, round);
            wait_and_serve(target, facts, &first);
            (before, first)
        }));
        facts.stop.store(true, SeqCst);
        let (before, first) = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
        let begin = Instant::now();
        close(source, facts);
        let closed = Instant::now();
        let answered = first.recv_timeout(PATIENCE).expect("it proceeds");
        assert_ne!(holder(lab), before, "the target has the lock");
        (closed - begin, answered.saturating_duration_since(closed))
    })
}

/// The target looks at what the source writes; who has the lock.
fn look(lab: &Lab, target: &RealNode, facts: &Facts) -> String {
    facts.await_writes(100);
    let before = holder(lab);
    let client = target.client();
    let volume = open(&client, VOLUME);
    for block in (0..BLOCKS).step_by(5) {
        facts.check(&volume, block);
    }
    facts.await_writes(100);
    // The same blocks again show what was written meanwhile.
    for block in (0..BLOCKS).step_by(5) {
        facts.check(&volume, block);
    }
    assert_eq!(holder(lab), before, "a look takes no lock");
    before
}

/// While the target's first write waits, the source's guests and the target's other volumes go on.
fn wait_and_serve(target: &RealNode, facts: &Facts, first: &Receiver<Instant>) {
    let client = target.client();
    let other = open(&client, OTHER);
    for at in 0..100 {
        facts.await_writes(4);
        other.write_at(&stamped(at), at * 4096).unwrap();
        assert_eq!(first.try_recv(), Err(TryRecvError::Empty), "it waits");
    }
}

fn check_all(node: &RealNode, facts: &Facts, first: u64) {
    let client = node.client();
    let volume = open(&client, VOLUME);
    (0..BLOCKS).for_each(|block| facts.check(&volume, block));
    let mut bytes = vec![0; BLOCK];
    volume.read_at(&mut bytes, FIRST_WRITE).unwrap();
    assert!(bytes == stamped(first), "the target's first write");
}

fn prepare(node: &RealNode) {
    let client = node.client();
    client.create(name(VOLUME), FIRST_WRITE + APART).unwrap();
    client.create(name(OTHER), 1 << 20).unwrap();
}

#[test]
fn a_volume_moves_between_two_nodes_under_load() {
    let Some(lab) = shared("a_volume_moves_between_two_nodes_under_load") else {
        return;
    };
    let shape = |process: Option<&str>| {
        let process = process.map(str::to_owned);
        move |params: &mut SampleParams| params.process = process
    };
    let (one, other) = (node_on(lab, shape(None)), node_on(lab, shape(Some("node"))));
    prepare(&one);
    let facts = Facts::new();
    for round in 1..=4 {
        let (source, target) = if round % 2 == 1 {
            (&one, &other)
        } else {
            (&other, &one)
        };
        let (close, answer) = migrate(lab, source, target, &facts, round);
        check_all(target, &facts, round);
        // The source looks too, as it may at any time, and sees the same.
        check_all(source, &facts, round);
        println!(
            "migration {round}: closed in {close:?}, the waiting write answered {answer:?} later; \
             {} writes of guests so far",
            facts.writes.load(SeqCst)
        );
        // Only the one that moves: the target's other volume goes back too.
        target.client().close(name(OTHER), Hint::default()).unwrap();
    }
    assert!(one.stop().unwrap().success());
    assert!(other.stop().unwrap().success());
}
