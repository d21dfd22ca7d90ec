//! Daemons of the cluster killed while a node is busy, and too few OSDs left: requests wait, none
//! fails, and afterwards every write that was acknowledged is in the pool.
//!
//! That a single driver's writes wait, and what a timeout makes of them, is shown by radosd's own
//! tests.

use super::{name, node_on, shared, start};
use rados_lab::{Lab, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use system_tests::pools;
use system_tests::real::RealNode;
use system_tests::verifier::{self, Load, Outcome, Tally};

const VOLUME: &str = "volume-1";
/// Blocks of the volume: 64 objects, which are still being made for a while.
const BLOCKS: u64 = 64 * 1024;
const OBJECTS: u64 = 256;
const DEPTH: usize = 32;
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs verifiers on a volume and on objects while `trouble` goes on.
fn under_load(node: &RealNode, tally: &Tally, trouble: impl FnOnce()) -> Vec<Outcome> {
    let (socket, ports) = (&node.socket(), node.ports());
    let loads = [
        (Load::Volume(VOLUME.into()), BLOCKS),
        (Load::Objects("object".into()), OBJECTS),
    ];
    std::thread::scope(|scope| {
        let verifiers: Vec<_> = loads
            .into_iter()
            .zip(1..)
            .map(|((load, blocks), seed)| {
                scope.spawn(move || verifier::run(socket, ports, load, DEPTH, blocks, seed, tally))
            })
            .collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(trouble));
        tally.stop.store(true, Relaxed);
        let verifiers = verifiers.into_iter().map(|v| v.join().expect("a verifier"));
        let outcomes = verifiers.collect();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcomes
    })
}

/// Until so many further requests were served; how long that took.
fn await_served(tally: &Tally, more: u64) -> Duration {
    let (begin, goal) = (Instant::now(), tally.served.load(Relaxed) + more);
    while tally.served.load(Relaxed) < goal {
        assert!(begin.elapsed() < PATIENCE, "the load is stuck");
        std::thread::sleep(Duration::from_millis(1));
    }
    begin.elapsed()
}

/// Nobody saw an error or a wrong byte, and the pools have what was acknowledged.
fn judge(lab: &Lab, tally: &Tally, outcomes: &[Outcome]) {
    let wrong: Vec<_> = outcomes.iter().filter_map(|o| o.wrong.as_ref()).collect();
    assert_eq!(wrong, Vec::<&String>::new());
    let (errors, bad) = (tally.errors.load(Relaxed), tally.wrong.load(Relaxed));
    assert_eq!((errors, bad), (0, 0), "I/O errors, wrong blocks");
    let mut compared = 0;
    for outcome in outcomes {
        let pool = match outcome.load {
            Load::Objects(_) => "maps",
            Load::Volume(_) | Load::Maps(_) => "blocks",
        };
        let (these, wrong) = pools::compare(lab, pool, outcome).unwrap();
        assert_eq!(wrong, Vec::<String>::new());
        compared += these;
    }
    assert!(compared > 0);
    println!(
        "{} requests, 0 errors; {compared} blocks read straight from the pools, 0 of them wrong",
        tally.served.load(Relaxed)
    );
}

/// `ARCHIPELAGO_DEATHS=N`: how often the whole cluster is killed.
#[test]
fn what_was_acknowledged_survives_a_kill_of_monitor_and_osds() {
    if rados_lab::skip("what_was_acknowledged_survives_a_kill_of_monitor_and_osds") {
        return;
    }
    let asked = std::env::var("ARCHIPELAGO_DEATHS").ok();
    let rounds = asked.map_or(4, |text| text.parse().expect("a number"));
    let mut lab = start(Options::with_osds(2));
    let node = node_on(&lab, |params| params.process = None);
    node.client()
        .create(name(VOLUME), BLOCKS * verifier::BLOCK)
        .unwrap();
    let tally = Tally::default();
    let mut slowest = Duration::ZERO;
    let outcomes = under_load(&node, &tally, || {
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..rounds {
            await_served(&tally, dice.random_range(500..3000));
            lab.kill_mon();
            (0..2).for_each(|osd| lab.kill_osd(osd));
            lab.start_mon().unwrap();
            (0..2).for_each(|osd| lab.start_osd(osd).unwrap());
            slowest = slowest.max(await_served(&tally, 200));
        }
    });
    println!("{rounds} kills of the monitor and both OSDs; on again after at most {slowest:?}");
    judge(&lab, &tally, &outcomes);
    assert!(node.stop().unwrap().success());
}

/// Whether the monitor knows that this OSD is down.
pub(super) fn is_down(lab: &Lab, osd: usize) -> bool {
    let dump = r#"{"prefix":"osd dump","format":"json"}"#;
    let said = lab.mon_commands(&[dump.into()]).unwrap();
    let map: serde_json::Value = serde_json::from_str(&said[0]).unwrap();
    map["osds"][osd]["up"] == 0
}

#[test]
fn below_min_size_writes_wait() {
    if rados_lab::skip("below_min_size_writes_wait") {
        return;
    }
    let mut lab = start(Options {
        min_size: Some(2),
        ..Options::with_osds(2)
    });
    let node = node_on(&lab, |_| ());
    node.client()
        .create(name(VOLUME), BLOCKS * verifier::BLOCK)
        .unwrap();
    let tally = Tally::default();
    let outcomes = under_load(&node, &tally, || {
        await_served(&tally, 2000);
        lab.kill_osd(1);
        let patience = Instant::now() + PATIENCE;
        while !is_down(&lab, 1) {
            assert!(Instant::now() < patience, "the dead OSD is not noticed");
        }
        // What was let through before both knew of it ends; then nothing moves.
        let mut quiet = Instant::now();
        let mut served = tally.served.load(Relaxed);
        while quiet.elapsed() < Duration::from_secs(2) {
            let now = tally.served.load(Relaxed);
            if now != served {
                (served, quiet) = (now, Instant::now());
            }
            assert!(Instant::now() < patience, "writes do not wait");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(tally.errors.load(Relaxed), 0, "waiting is no error");
        lab.start_osd(1).unwrap();
        let again = await_served(&tally, 2000);
        println!("2000 requests served {again:?} after the OSD was started again");
    });
    judge(&lab, &tally, &outcomes);
    assert!(node.stop().unwrap().success());
}

/// The comparison that the others rest on sees a wrong block, and one that is missing.
#[test]
fn a_wrong_block_in_a_pool_is_seen() {
    let Some(lab) = shared("a_wrong_block_in_a_pool_is_seen") else {
        return;
    };
    let file = lab.dir().join("block");
    std::fs::write(&file, 7u64.to_le_bytes().repeat(512)).unwrap();
    let file = file.to_str().unwrap();
    lab.rados(&["-p", "maps", "put", "looked-at-000000", file])
        .unwrap();
    let mut outcome = Outcome {
        load: Load::Objects("looked-at".into()),
        wrong: None,
        stamps: [(0, 7)].into(),
    };
    let nothing = (1, Vec::<String>::new());
    assert_eq!(pools::compare(lab, "maps", &outcome).unwrap(), nothing);
    outcome.stamps = [(0, 8), (1, 7)].into();
    let (compared, wrong) = pools::compare(lab, "maps", &outcome).unwrap();
    assert_eq!((compared, wrong.len()), (2, 2), "{wrong:?}");
    lab.rados(&["-p", "maps", "rm", "looked-at-000000"])
        .unwrap();
}
