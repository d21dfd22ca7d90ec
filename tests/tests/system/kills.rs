//! Peers killed with SIGKILL at random points while at least 32 requests of each role are under
//! way: nobody sees an error or a wrong byte, and nothing of the segment is lost.
//!
//! `ARCHIPELAGO_KILLS=N` sets how many; the milestone's run is 1,000 for each shape. The seed is
//! printed and can be given by `ARCHIPELAGO_SEED`.

use client::Hint;
use config::SampleRados;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use system_tests::real::RealNode;
use system_tests::stepper;
use system_tests::verifier::{self, Load, Tally};
use system_tests::windows::{self, Hits, Window};
use xseg::Name;
use xseg::join::observe;
use xseg::report::Report;
use xseg::seat::{PRIVATE, PUBLIC};

const ROLES: [&str; 4] = ["blockerb", "blockerm", "mapperd", "vlmcd"];
const PATIENCE: Duration = Duration::from_secs(60);
/// Blocks of each load, 4 KiB each.
const BLOCKS: u64 = 16 * 1024;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn state_of(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Waits for `what`, looking every now and then; it is an event of another process.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < patience,
            "{what} did not come about in {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Slots that a narrow window is looked for in.
const SLOTS: usize = 512;
/// Instructions to step before a narrow window is given up.
const STEPS: u32 = 60_000;

/// Stops the role's process, notes what it is amid of, and kills it. With `aim` it is stepped
/// until it is in that window; else it dies wherever it happens to be. False: the pid file still
/// named a process that was dead already.
fn kill_role(node: &RealNode, role: &str, aim: Option<Window>, hits: &mut Hits) -> bool {
    let mut pid = 0;
    until("a pid file", || {
        node.pid_of(role)
            .inspect(|p| pid = *p)
            .is_some_and(|p| state_of(p).is_some())
    });
    let observed = observe(&node.socket()).expect("the supervisor lives");
    let seats: Vec<_> = observed
        .public
        .members()
        .iter()
        .zip(0..)
        .filter(|(member, _)| member.pid.load(xseg::sync::Ordering::Relaxed) == pid as u32)
        .map(|(_, no)| xseg::SeatNo(no))
        .collect();
    if let Some(window) = aim {
        let holds = || windows::is_in(&observed, &seats, window, SLOTS);
        let Some(stopped) = stepper::step_until(pid, STEPS, holds) else {
            return false;
        };
        windows::count(&observed, &seats, hits);
        return stopped.kill().is_ok();
    }
    let victim = Pid::from_raw(pid);
    if kill(victim, Signal::SIGSTOP).is_err() {
        return false;
    }
    let mut state = None;
    until("the victim's stop", || {
        state = state_of(pid);
        matches!(state, Some('T' | 'Z') | None)
    });
    if state != Some('T') {
        return false;
    }
    windows::count(&observed, &seats, hits);
    kill(victim, Signal::SIGKILL).is_ok()
}

/// Every third kill aims at one of the windows that are only a few nanoseconds wide. Those that
/// ask others have them: vlmcd and mapperd.
fn aim(round: u64) -> Option<Window> {
    match round % 6 {
        2 => Some(Window::Claimed),
        5 => Some(Window::NotYetFreed),
        _ => None,
    }
}

/// Until the node has served a random number of further requests.
fn let_it_serve(tally: &Tally, dice: &mut ChaCha8Rng) {
    let goal = tally.served.load(Ordering::Relaxed) + dice.random_range(1..600);
    until("progress after a kill", || {
        tally.served.load(Ordering::Relaxed) >= goal
    });
}

fn rounds(shape: Option<&str>, rados: Option<SampleRados>) {
    // A death on RADOS costs a new map of the OSDs.
    let kills = number("ARCHIPELAGO_KILLS", if rados.is_some() { 15 } else { 60 });
    let seed = number("ARCHIPELAGO_SEED", 1);
    println!("ARCHIPELAGO_SEED={seed} ARCHIPELAGO_KILLS={kills} shape {shape:?}");
    let target = system_tests::real::program("archipelago");
    let node = RealNode::start(target.parent().unwrap(), |params| {
        params.process = shape.map(str::to_owned);
        params.nr_ops = 128;
        params.segment_size_mib = 256;
        params.rados = rados;
    })
    .unwrap();
    let volume = |text: &str| Name::try_from(text).unwrap();
    for name in ["volume-a", "volume-b"] {
        node.client()
            .create(volume(name), BLOCKS * verifier::BLOCK)
            .unwrap();
    }
    let loads = [
        (Load::Volume("volume-a".into()), 64),
        (Load::Volume("volume-b".into()), 64),
        (Load::Maps("volume-a".into()), 40),
        (Load::Objects("object".into()), 40),
    ];
    let tally = Tally::default();
    let mut hits = Hits::new();
    let mut slowest = Duration::ZERO;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let (socket, ports, tally) = (node.socket(), node.ports(), &tally);
        let threads: Vec<_> = loads
            .into_iter()
            .zip(0..)
            .map(|((load, depth), n)| {
                let socket = socket.clone();
                let blocks = if matches!(load, Load::Objects(_)) {
                    64
                } else {
                    BLOCKS
                };
                scope.spawn(move || {
                    verifier::run(&socket, ports, load, depth, blocks, seed ^ n, tally)
                })
            })
            .collect();
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..kills {
                let aim = aim(round);
                let roles = if aim.is_some() {
                    &ROLES[2..]
                } else {
                    &ROLES[..]
                };
                let role = roles[dice.random_range(0..roles.len())];
                let begin = Instant::now();
                until("a death", || kill_role(&node, role, aim, &mut hits));
                let_it_serve(tally, &mut dice);
                slowest = slowest.max(begin.elapsed());
            }
        }));
        tally.stop.store(true, Ordering::Relaxed);
        let wrong = threads
            .into_iter()
            .filter_map(|t| t.join().expect("a verifier"))
            .collect();
        if let Err(panic) = outcome {
            eprintln!("verifiers: {wrong:?}");
            std::panic::resume_unwind(panic);
        }
        wrong
    });
    let served = tally.served.load(Ordering::Relaxed);
    println!("{kills} kills, {served} requests, slowest round {slowest:?}; windows hit: {hits:?}");
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(tally.errors.load(Ordering::Relaxed), 0, "I/O errors");
    assert_eq!(tally.wrong.load(Ordering::Relaxed), 0, "wrong blocks");
    let enough = kills / 50;
    for window in [
        Window::Claimed,
        Window::Queued,
        Window::Serving,
        Window::InKernel,
        Window::Answered,
        Window::NotYetFreed,
    ] {
        let count = hits.get(&window).copied().unwrap_or(0);
        assert!(
            kills < 1000 || count >= enough,
            "{window:?} was hit {count} times"
        );
    }
    nothing_is_lost(&node);
    node.client()
        .info(volume("volume-a"), Hint::default())
        .unwrap();
    assert!(node.stop().unwrap().success());
}

/// With every client gone, no slot and no buffer is taken.
fn nothing_is_lost(node: &RealNode) {
    let used = || {
        let observed = observe(&node.socket()).expect("the supervisor lives");
        let alive = |seat| observed.alive.contains(seat);
        let report = Report::new(&observed.public, observed.private.as_ref(), &alive);
        [PUBLIC, PRIVATE].map(|r| (report.slots_in_use(r), report.buffers_in_use(r)))
    };
    let what = format!("an empty segment (slots and buffers, now {:?})", used());
    until(&what, || used() == [(0, 0); 2]);
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
    let lab = rados_lab::Lab::start(&std::env::temp_dir(), options).unwrap();
    rounds(shape, Some(system_tests::real::on(&lab)));
}
