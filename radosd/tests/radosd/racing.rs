//! A lock that is broken at the very moment at which its holder's node changes: a further client
//! comes, or its blocker dies and another takes its place. `ARCHIPELAGO_RACES=N` sets how often, with
//! moments drawn from `ARCHIPELAGO_SEED`.

use crate::rig::{Pool, config, lab, name, run_dir, write};
use crate::victim::Victim;
use driver::{Detail, Driver, Errno, LockHolder, Op, OpId};
use rados_lab::Options;
use radosd::Config;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// Further than that apart the two do not meet, in microseconds.
const APART_US: u64 = 60_000;

fn variable(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// Where the moments come from.
fn dice() -> ChaCha8Rng {
    let seed = variable("ARCHIPELAGO_SEED").unwrap_or_else(rand::random);
    eprintln!("ARCHIPELAGO_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Two of them, at which the two sides begin: neither waits for the other.
fn moments(dice: &mut ChaCha8Rng) -> [Duration; 2] {
    [(); 2].map(|()| Duration::from_micros(dice.random_range(0..APART_US)))
}

fn rounds() -> u64 {
    variable("ARCHIPELAGO_RACES").unwrap_or(6)
}

fn holder(pool: &mut Pool) -> Option<LockHolder> {
    let reply = pool
        .ask(Op::LockInfo {
            name: name("volume"),
        })
        .unwrap();
    match reply.detail {
        Detail::Lock(lock) => lock.holder,
        other => panic!("{other:?}"),
    }
}

fn break_lock(pool: &mut Pool) {
    let force = Op::Release {
        name: name("volume"),
        force: true,
    };
    pool.ask(force).unwrap();
}

/// A list in a client's record.
fn list(run_dir: &Path, role: &str, field: &str) -> Vec<String> {
    let text = std::fs::read_to_string(run_dir.join(format!("{role}.rados"))).unwrap_or_default();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let words = record[field].as_array().into_iter().flatten();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// What a client of the holder's node does that comes at the wrong moment.
#[derive(Default)]
struct Newcomer {
    written: AtomicU64,
    cut_off: AtomicBool,
    stop: AtomicBool,
}

impl Newcomer {
    /// Writes over and over until it is cut off, or told to stop.
    fn run(&self, config: Config) {
        let Ok(mut pool) = Pool::open(config) else {
            return self.cut_off.store(true, SeqCst);
        };
        let mut done = Vec::new();
        pool.driver.submit(OpId(0), write("object", 0, b"theirs"));
        while !self.stop.load(SeqCst) {
            pool.driver.poll(&mut done);
            if pool.driver.lost().is_some() {
                return self.cut_off.store(true, SeqCst);
            }
            for one in done.drain(..) {
                one.result.unwrap();
                self.written.fetch_add(1, SeqCst);
                pool.driver.submit(OpId(0), write("object", 0, b"theirs"));
            }
            pool.reactor.turn_or_wait(Some(1_000_000)).unwrap();
        }
    }
}

/// The lock was read, its holder named one more client in it, which began to write, and then it was
/// broken: that client had not been cut off.
#[test]
fn who_is_named_while_the_lock_is_broken_is_cut_off_too() {
    if rados_lab::skip("who_is_named_while_the_lock_is_broken_is_cut_off_too") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let mut maps = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let mut blocks = Pool::open(config(&lab, "blocks", "here", here.path())).unwrap();
    let (mut dice, mut met) = (dice(), 0);
    for round in 0..rounds() {
        let there = run_dir();
        let held = Victim::hold(&config(&lab, "maps", "there", there.path()), "volume");
        let theirs = config(&lab, "blocks", "there", there.path());
        let newcomer = Newcomer::default();
        std::thread::scope(|scope| {
            let [comes, breaks] = moments(&mut dice);
            let newcomer = &newcomer;
            scope.spawn(move || {
                std::thread::sleep(comes);
                newcomer.run(theirs);
            });
            std::thread::sleep(breaks);
            break_lock(&mut maps);
            let taken = maps.ask(Op::Acquire {
                name: name("volume"),
            });
            taken.unwrap();
            blocks.write("object", 0, b"ours!!").unwrap();
            let before = newcomer.written.load(SeqCst);
            // Whom the lock names is cut off; whom it does not name waits, and writes nothing.
            let is_named = || {
                let listed = list(there.path(), "blocker-maps", "listed");
                let all = list(there.path(), "blocker-blocks", "addresses");
                all.iter().any(|address| listed.contains(address))
            };
            let patience = Instant::now() + PATIENCE;
            while is_named() && !newcomer.cut_off.load(SeqCst) {
                let late = newcomer.written.load(SeqCst) > before + 1;
                let late = late || Instant::now() > patience;
                newcomer.stop.store(late, SeqCst);
                assert!(!late, "round {round}: the newcomer writes on");
                std::thread::sleep(Duration::from_millis(1));
            }
            met += u64::from(newcomer.cut_off.load(SeqCst));
            newcomer.stop.store(true, SeqCst);
        });
        let seen = blocks.read("object", 0, 6).unwrap();
        assert_eq!(seen, b"ours!!", "round {round}");
        held.kill();
        let release = Op::Release {
            name: name("volume"),
            force: false,
        };
        maps.ask(release).unwrap();
    }
    eprintln!(
        "{} rounds, in {met} of them the newcomer was named in time",
        rounds()
    );
}

/// The holder's blocker died, and its successor took the lock over while another node was breaking
/// it: what was to be broken was not there any more, that counted as done, and the lock was still the
/// old node's.
#[test]
fn a_lock_that_a_successor_takes_over_meanwhile_is_broken_all_the_same() {
    if rados_lab::skip("a_lock_that_a_successor_takes_over_meanwhile_is_broken_all_the_same") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let mut maps = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let (mut dice, mut met) = (dice(), 0);
    for round in 0..rounds() {
        let there = run_dir();
        let theirs = config(&lab, "maps", "there", there.path());
        let held = Victim::hold(&theirs, "volume");
        let (stop, first) = (AtomicBool::new(false), held.pid());
        std::thread::scope(|scope| {
            let [dies, breaks] = moments(&mut dice);
            let stop = &stop;
            let successor = scope.spawn(move || {
                std::thread::sleep(dies);
                held.kill();
                // It may be cut off while it opens the pool.
                let Ok(mut pool) = Pool::open(theirs) else {
                    return false;
                };
                let mut took_over = false;
                while !stop.load(SeqCst) && pool.driver.lost().is_none() {
                    pool.driver.poll(&mut Vec::new());
                    took_over |= pool.driver.lock_is_held(&name("volume"));
                    pool.reactor.turn_or_wait(Some(1_000_000)).unwrap();
                }
                took_over
            });
            std::thread::sleep(breaks);
            break_lock(&mut maps);
            let left = holder(&mut maps);
            let taken = maps.ask(Op::Acquire {
                name: name("volume"),
            });
            stop.store(true, SeqCst);
            assert_eq!(left, None, "round {round}: process {first} was its holder");
            assert_eq!(taken.map(drop), Ok::<(), Errno>(()), "round {round}");
            met += u64::from(successor.join().unwrap());
        });
        let release = Op::Release {
            name: name("volume"),
            force: false,
        };
        maps.ask(release).unwrap();
    }
    eprintln!(
        "{} rounds, in {met} of them it had been taken over",
        rounds()
    );
}

/// A successor that is killed when its predecessor has the lock no more: nobody has it, or it has it
/// itself.
fn die_taking_over(eye: &mut Pool, theirs: &Config) {
    let predecessor = holder(eye);
    let successor = Victim::come_for(theirs, "volume");
    let begin = Instant::now();
    while predecessor.is_some() && holder(eye) == predecessor {
        assert!(begin.elapsed() < PATIENCE, "nobody came");
    }
    successor.kill();
}

/// The holder's blocker died; its successor died in its turn, after it had broken the dead one's lock
/// and before it had taken it. The next one found nobody's lock, took that for a lock that somebody
/// had broken away from the node, and its guests got ESTALE.
#[test]
fn a_successor_that_dies_while_it_takes_a_lock_over_leaves_it_to_the_next() {
    if rados_lab::skip("a_successor_that_dies_while_it_takes_a_lock_over_leaves_it_to_the_next") {
        return;
    }
    let lab = lab(Options::default());
    let (here, there) = (run_dir(), run_dir());
    let mut eye = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let theirs = config(&lab, "maps", "there", there.path());
    let mut met = 0;
    for round in 0..rounds() {
        Victim::hold(&theirs, "volume").kill();
        die_taking_over(&mut eye, &theirs);
        let found = holder(&mut eye);
        met += u64::from(found.is_none());
        let mut next = Pool::open(theirs.clone()).unwrap();
        let volume = name("volume");
        let taken = next.ask(Op::Acquire { name: volume });
        let taken = taken.unwrap_or_else(|why| panic!("round {round}: {why}, found {found:?}"));
        assert!(
            matches!(taken.detail, Detail::Lock(lock) if lock.already_ours),
            "round {round}"
        );
        let release = Op::Release {
            name: volume,
            force: false,
        };
        next.ask(release).unwrap();
    }
    eprintln!("{} rounds, in {met} of them nobody had the lock", rounds());
}

/// While a dead node's lock was nobody's, in the middle of a takeover, another node took it, changed
/// the volume and gave it back: it is not inherited any more.
#[test]
fn a_lock_that_somebody_had_in_between_is_not_inherited() {
    if rados_lab::skip("a_lock_that_somebody_had_in_between_is_not_inherited") {
        return;
    }
    let lab = lab(Options::default());
    let (here, there) = (run_dir(), run_dir());
    let mut other = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let theirs = config(&lab, "maps", "there", there.path());
    let volume = name("volume");
    let (mut met, mut tries) = (0, 0);
    while met == 0 {
        tries += 1;
        assert!(tries < 100, "the moment was never met");
        Victim::hold(&theirs, "volume").kill();
        die_taking_over(&mut other, &theirs);
        let in_between = other.ask(Op::Acquire { name: volume }).is_ok();
        let release = || Op::Release {
            name: volume,
            force: false,
        };
        if in_between {
            other.ask(release()).unwrap();
        }
        let mut next = Pool::open(theirs.clone()).unwrap();
        let taken = next.ask(Op::Acquire { name: volume });
        if in_between {
            assert_eq!(taken.map(drop), Err(Errno::STALE));
            met += 1;
        }
        let _ = next.ask(release());
    }
    eprintln!("met in try {tries}");
}
