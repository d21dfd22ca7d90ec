//! Whole nodes fenced: one hangs with writes under way, the other breaks its lock and writes, and
//! the first goes on. Nothing of it lands any more: neither a write, nor an object that was about to
//! be made, nor the entry of one. Looked at with Python's rados.
//!
//! ```text
//!   old  writes, makes objects ... SIGSTOP of its radosd              SIGCONT   ESTALE, closed
//!   new                                    unlock -f, writes, flushes                   closed
//!   eyes                                                                        compare
//! ```
//! The nodes take turns, and each has another shape. `ARCHIPELAGO_FENCE_ROUNDS=N` sets how often (the
//! milestone's run is 200), `ARCHIPELAGO_SEED` repeats the moments.

use super::{name, node_on, shared, vlmc};
use client::{Client, Error, ErrorKind, Hint, Volume};
use rados_lab::Lab;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::task::Poll;
use std::time::{Duration, Instant};
use system_tests::halt::halt;
use system_tests::pools;
use system_tests::real::{RealNode, state_of};
use system_tests::verifier::{BLOCK, Load, Outcome};

const VOLUME: &str = "fenced-volume";
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the volume, 262,144 objects; it is thin.
const SIZE: u64 = 1 << 40;
/// Blocks in an object.
const OBJECT: u64 = 1024;
/// Writes that the old node's guest keeps under way, each to blocks of its own.
const DEPTH: u64 = 16;
/// The objects that these go to.
const OBJECTS: u64 = 8;
/// How many objects that nobody has written yet each round may make.
const MADE_MAX: u64 = 1000;
/// How many of them beside the last one the new owner writes.
const AROUND: u64 = 4;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// A block that a guest of that number writes at its turn.
fn block_of(guest: u64, turn: u64) -> u64 {
    guest % OBJECTS * OBJECT + guest / OBJECTS * 4 + turn % 4
}

/// The first object that round makes.
fn first_made(round: u64) -> u64 {
    16 + round * MADE_MAX
}

fn stamped(stamp: u64) -> Vec<u8> {
    stamp.to_le_bytes().repeat(BLOCK as usize / 8)
}

fn open(client: &Client) -> Volume {
    Volume::open(client, name(VOLUME), Hint::default()).unwrap()
}

/// Writers of the old node, in one thread which nobody waits for: it ends with the node if with
/// nothing else.
struct Guests {
    written: Arc<AtomicU64>,
    made: Arc<AtomicU64>,
    /// What ended each of them.
    ends: Receiver<Vec<Error>>,
}

impl Guests {
    fn start(node: &RealNode, round: u64) -> Guests {
        let (socket, ports) = (node.socket(), node.ports());
        let (said, ends) = channel();
        let guests = Guests {
            written: Arc::default(),
            made: Arc::default(),
            ends,
        };
        let (written, made) = (guests.written.clone(), guests.made.clone());
        std::thread::spawn(move || {
            let client = Client::connect(&socket, ports, "guests").unwrap();
            let volume = open(&client);
            let old = stamped(2 * round + 2);
            let mut all: Vec<_> = (0..DEPTH)
                .map(|guest| Box::pin(write_on(&volume, &old, guest, &written)))
                .collect();
            let mut maker = Box::pin(make_on(&volume, &old, round, &made));
            let (mut errors, mut made) = (Vec::new(), false);
            client.block_on(std::future::poll_fn(|cx| {
                all.retain_mut(|one| match one.as_mut().poll(cx) {
                    Poll::Ready(error) => {
                        errors.push(error);
                        false
                    }
                    Poll::Pending => true,
                });
                if !made && let Poll::Ready(error) = maker.as_mut().poll(cx) {
                    errors.push(error);
                    made = true;
                }
                match made && all.is_empty() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            }));
            // Nobody listens any more where the test has failed.
            let _ = said.send(errors);
        });
        guests
    }

    fn await_writes(&self, written: u64, made: u64) {
        let patience = Instant::now() + PATIENCE;
        while self.written.load(SeqCst) < written || self.made.load(SeqCst) < made {
            assert!(Instant::now() < patience, "the guests are stuck");
            std::thread::yield_now();
        }
    }
}

async fn write_on(volume: &Volume, bytes: &[u8], guest: u64, written: &AtomicU64) -> Error {
    for turn in 0.. {
        let at = block_of(guest, turn) * BLOCK;
        if let Err(error) = volume.write(bytes, at, false).await {
            return error;
        }
        written.fetch_add(1, SeqCst);
    }
    unreachable!("it writes until it fails")
}

/// Writes to one object after the other that is not there yet; in the end to the last one.
async fn make_on(volume: &Volume, bytes: &[u8], round: u64, made: &AtomicU64) -> Error {
    loop {
        let next = made.load(SeqCst).min(MADE_MAX - 1 - AROUND);
        let at = (first_made(round) + next) * OBJECT * BLOCK;
        if let Err(error) = volume.write(bytes, at, false).await {
            return error;
        }
        made.fetch_add(1, SeqCst);
    }
}

/// Everything that the old node may still be about to write.
fn contested(round: u64, made: u64) -> BTreeSet<u64> {
    let guests = (0..DEPTH).flat_map(|guest| (0..4).map(move |turn| block_of(guest, turn)));
    let last = made.min(MADE_MAX - 1 - AROUND);
    let objects = last.saturating_sub(AROUND)..=last + AROUND;
    let made = objects.map(|object| (first_made(round) + object) * OBJECT);
    guests.chain(made).collect()
}

/// The new owner writes all of that, and makes it durable.
fn write_all(client: &Client, blocks: &BTreeSet<u64>, stamp: u64) {
    let (volume, bytes) = (open(client), stamped(stamp));
    for block in blocks {
        volume.write_at(&bytes, block * BLOCK).unwrap();
    }
    volume.flush().unwrap();
}

/// The processes of a node that write to the pools.
fn writers(node: &RealNode) -> BTreeSet<i32> {
    let pids = ["blockerb", "blockerm"].map(|role| node.pid_of(role).expect("it runs"));
    pids.into_iter().collect()
}

fn await_end(pid: i32) {
    let patience = Instant::now() + PATIENCE;
    while !matches!(state_of(pid), None | Some('Z')) {
        assert!(Instant::now() < patience, "process {pid} goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the pool shows besides what the new owner has written.
fn late(lab: &Lab, blocks: &BTreeSet<u64>, stamp: u64) -> Vec<String> {
    let outcome = Outcome {
        load: Load::Volume(VOLUME.into()),
        wrong: None,
        stamps: blocks.iter().map(|block| (*block, stamp)).collect(),
    };
    let (count, wrong) = pools::compare(lab, "blocks", &outcome).unwrap();
    assert_eq!(count, blocks.len() as u64);
    wrong
}

/// One round; how long the break took, and what landed late.
fn fence(lab: &Lab, old: &RealNode, new: &RealNode, round: u64, dice: &mut ChaCha8Rng) -> Round {
    let guests = Guests::start(old, round);
    guests.await_writes(dice.random_range(50..400), dice.random_range(1..20));
    let hung: Vec<_> = writers(old)
        .into_iter()
        .map(|pid| (pid, halt(pid)))
        .collect();

    let begin = Instant::now();
    vlmc(new, &["unlock", "-f", VOLUME]);
    let broken = begin.elapsed();
    let client = new.client();
    let (blocks, stamp) = (contested(round, guests.made.load(SeqCst)), 2 * round + 3);
    write_all(&client, &blocks, stamp);

    let pids: Vec<_> = hung.iter().map(|(pid, _)| *pid).collect();
    drop(hung);
    let errors = guests.ends.recv_timeout(PATIENCE).expect("guests that end");
    for error in &errors {
        assert_eq!(error.kind(), ErrorKind::LostLock, "round {round}: {error}");
    }
    let soon = late(lab, &blocks, stamp);
    if !soon.is_empty() {
        return Round { broken, late: soon };
    }
    // Whoever hung is cut off and ends, and with it what librados still had.
    pids.into_iter().for_each(await_end);
    let late = late(lab, &blocks, stamp);
    through_the_node(&open(&client), &blocks, stamp, round);
    let closed = old.client().close(name(VOLUME), Hint::default());
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::LostLock);
    client.close(name(VOLUME), Hint::default()).unwrap();
    Round { broken, late }
}

struct Round {
    broken: Duration,
    late: Vec<String>,
}

/// The new owner's map leads to what it has written.
fn through_the_node(volume: &Volume, blocks: &BTreeSet<u64>, stamp: u64, round: u64) {
    let mut seen = vec![0; BLOCK as usize];
    for block in blocks {
        volume.read_at(&mut seen, block * BLOCK).unwrap();
        let right = seen == stamped(stamp);
        assert!(
            right,
            "round {round}: block {block} reads as {:?}",
            &seen[..8]
        );
    }
}

#[test]
fn a_node_that_hung_lets_nothing_land_late() {
    let Some(lab) = shared("a_node_that_hung_lets_nothing_land_late") else {
        return;
    };
    let rounds = variable("ARCHIPELAGO_FENCE_ROUNDS").unwrap_or(6);
    let seed = variable("ARCHIPELAGO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 32));
    println!("ARCHIPELAGO_SEED={seed}");
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let nodes = [None, Some("node")].map(|shape: Option<&str>| {
        let process = shape.map(str::to_owned);
        node_on(lab, move |params| params.process = process)
    });
    nodes[0].client().create(name(VOLUME), SIZE).unwrap();
    let (mut broken, mut late) = (Vec::new(), HashMap::new());
    for round in 0..rounds {
        let (old, new) = match round % 2 {
            0 => (&nodes[0], &nodes[1]),
            _ => (&nodes[1], &nodes[0]),
        };
        let outcome = fence(lab, old, new, round, &mut dice);
        broken.push(outcome.broken);
        if !outcome.late.is_empty() {
            late.insert(round, outcome.late);
            break;
        }
    }
    broken.sort();
    println!(
        "{} rounds, {} with late writes; the lock was broken in {:?} (median), {:?} (slowest)",
        broken.len(),
        late.len(),
        broken[broken.len() / 2],
        broken[broken.len() - 1]
    );
    assert!(late.is_empty(), "ARCHIPELAGO_SEED={seed}: {late:#?}");
    nodes
        .into_iter()
        .for_each(|node| assert!(node.stop().unwrap().success()));
}
