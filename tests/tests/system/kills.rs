//! Peers killed with SIGKILL at random points while at least 32 requests of each role are under
//! way: nobody sees an error or a wrong byte, nothing of the segment is lost, and no byte of a dead
//! driver lands after its successor began.
//!
//! `ARCHIPELAGO_KILLS=N` sets how many; the milestone's run is 1,000 for each shape. The seed is
//! printed and can be given by `ARCHIPELAGO_SEED`. Of six kills two aim at the windows that are
//! only a few nanoseconds wide, two are of a driver whose disk is slow (so that its ring outlives
//! it), and two fall where they fall. What is printed at the end is what the promise is about.
//!
//! On a real cluster it is 15 kills, because the successor of a dead blocker cuts it off there
//! instead of waiting for its ring, and no disk of ours can be slow.

mod report;
mod run;

use client::Hint;
use rados_lab::Lab;
use rand_chacha::ChaCha8Rng;
use report::Seen;
use run::Run;
use std::sync::atomic::Ordering;
use system_tests::real::{self, RealNode};
use system_tests::verifier::{self, Load, Outcome, Tally};
use system_tests::{pools, straight};
use xseg::Name;

const ROLES: [&str; 4] = ["blockerb", "blockerm", "mapperd", "vlmcd"];
/// Blocks of 4 KiB of a volume that is soon its own: 16 objects.
const OWN: u64 = 16 * 1024;
/// Blocks of a volume whose objects are still being made when the test ends: 8,192 of them.
const THIN: u64 = 8 * 1024 * 1024;
/// Objects of the load on the blocker of maps.
const OBJECTS: u64 = 4096;
/// Volumes that nobody opens: a question about one makes mapperd ask the blocker of maps.
const COLD: u64 = 16;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn volume(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn start(shape: Option<&str>, lab: Option<&Lab>) -> RealNode {
    let target = system_tests::real::program("archipelago");
    let node = RealNode::start(target.parent().unwrap(), |params| {
        params.process = shape.map(str::to_owned);
        params.nr_ops = 128;
        params.segment_size_mib = 256;
        params.rados = lab.map(real::on);
    })
    .unwrap();
    let client = node.client();
    let bytes = |blocks| blocks * verifier::BLOCK;
    client.create(volume("volume-own"), bytes(OWN)).unwrap();
    client.create(volume("volume-thin"), bytes(THIN)).unwrap();
    for name in cold() {
        client.create(volume(&name), bytes(OWN)).unwrap();
    }
    node
}

fn cold() -> impl Iterator<Item = String> {
    (0..COLD).map(|n| format!("volume-cold-{n:02}"))
}

/// What each thread does, how many requests it keeps under way, and on how many blocks.
fn loads() -> Vec<(Load, usize, u64)> {
    let asked = cold().chain(["volume-own".into()]).collect();
    vec![
        (Load::Volume("volume-own".into()), 64, OWN),
        (Load::Volume("volume-thin".into()), 64, THIN),
        (Load::Maps(asked), 96, 0),
        (Load::Objects("object".into()), 64, OBJECTS),
    ]
}

/// Over files; with a cluster, over its pools.
fn rounds(shape: Option<&str>, lab: Option<&Lab>) {
    // A death on RADOS costs a new map of the OSDs.
    let kills = number("ARCHIPELAGO_KILLS", if lab.is_some() { 15 } else { 60 });
    let seed = number("ARCHIPELAGO_SEED", 1);
    println!("ARCHIPELAGO_SEED={seed} ARCHIPELAGO_KILLS={kills} shape {shape:?}");
    let node = start(shape, lab);
    let tally = Tally::default();
    let (seen, outcomes) = kill_under_load(&node, &tally, kills, seed);
    print!("{}", seen.report(&tally));
    let wrong: Vec<&String> = outcomes.iter().filter_map(|o| o.wrong.as_ref()).collect();
    assert_eq!(wrong, Vec::<&String>::new());
    assert_eq!(tally.errors.load(Ordering::Relaxed), 0, "I/O errors");
    assert_eq!(tally.wrong.load(Ordering::Relaxed), 0, "wrong blocks");
    assert_eq!(tally.late.load(Ordering::Relaxed), 0, "late landings");
    seen.judge(kills);
    // With every client gone, no slot and no buffer is taken.
    node.await_empty_segment();
    println!("no slot and no buffer is taken");
    let known = node.client().info(volume("volume-own"), Hint::default());
    assert_eq!(known.unwrap(), OWN * verifier::BLOCK);
    straight_from_storage(node, lab, &outcomes);
}

/// Kills while the verifiers run; ends them whatever happens.
fn kill_under_load(node: &RealNode, tally: &Tally, kills: u64, seed: u64) -> (Seen, Vec<Outcome>) {
    let (socket, ports) = (&node.socket(), node.ports());
    std::thread::scope(|scope| {
        let verifiers: Vec<_> = loads()
            .into_iter()
            .zip(0..)
            .map(|((load, depth, blocks), n)| {
                scope.spawn(move || {
                    verifier::run(socket, ports, load, depth, blocks, seed ^ n, tally)
                })
            })
            .collect();
        let dice: ChaCha8Rng = rand::SeedableRng::seed_from_u64(seed);
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Run::new(node, tally, dice).kill(kills)
        }));
        // What a panic left unfinished must not keep the verifiers waiting.
        let deaths = tally.deaths.load(Ordering::Relaxed);
        tally.ended.store(deaths, Ordering::Relaxed);
        tally.stop.store(true, Ordering::Relaxed);
        let outcomes: Vec<Outcome> = verifiers
            .into_iter()
            .map(|v| v.join().expect("a verifier"))
            .collect();
        let seen = killed.unwrap_or_else(|panic| {
            let wrong = outcomes.iter().filter_map(|o| o.wrong.as_ref());
            eprintln!("verifiers: {:?}", wrong.collect::<Vec<_>>());
            std::panic::resume_unwind(panic)
        });
        (seen, outcomes)
    })
}

/// With the node stopped, every block that was written is in its file or object.
fn straight_from_storage(node: RealNode, lab: Option<&Lab>, outcomes: &[Outcome]) {
    let node = node.stop_and_keep().unwrap();
    let (mut compared, mut wrong) = (0, Vec::new());
    for outcome in outcomes {
        // Named alike: the folders of a node over files, and the pools.
        let place = match outcome.load {
            Load::Objects(_) => "maps",
            Load::Volume(_) | Load::Maps(_) => "blocks",
        };
        let (these, bad) = match lab {
            Some(lab) => pools::compare(lab, place, outcome).unwrap(),
            None => straight::compare(&node.path().join(place), outcome).unwrap(),
        };
        compared += these;
        wrong.extend(bad);
    }
    println!(
        "{compared} blocks read straight from storage, {} of them wrong",
        wrong.len()
    );
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn kills_of_a_node_in_one_process() {
    rounds(Some("node"), None);
}

#[test]
fn kills_of_a_node_with_a_process_per_role() {
    rounds(None, None);
}

#[cfg(feature = "rados")]
#[test]
fn kills_of_a_node_on_rados_in_one_process() {
    on_rados("kills_of_a_node_on_rados_in_one_process", Some("node"));
}

#[cfg(feature = "rados")]
#[test]
fn kills_of_a_node_on_rados_with_a_process_per_role() {
    on_rados("kills_of_a_node_on_rados_with_a_process_per_role", None);
}

/// The same on a real cluster, where each dead blocker is cut off by its successor.
#[cfg(feature = "rados")]
fn on_rados(test: &str, shape: Option<&str>) {
    if rados_lab::skip(test) {
        return;
    }
    let options = rados_lab::Options::default();
    let lab = Lab::start(&std::env::temp_dir(), options).unwrap();
    rounds(shape, Some(&lab));
}
