//! One kill after the other: whom, where in its work, and what is seen of it.

use super::ROLES;
use super::report::{AT_LEAST, Seen};
use config::{Role, RoleKind};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use system_tests::ending::{DrainLocks, Ending, Victim};
use system_tests::real::{RealNode, state_of};
use system_tests::slow::SlowGroup;
use system_tests::stopper::{self, Stopped};
use system_tests::verifier::Tally;
use system_tests::windows::{self, Window};
use xseg::SeatNo;
use xseg::join::{Observed, observe};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a narrow window is tried for.
const AIM: Duration = Duration::from_secs(10);
/// Reads, and writes, that a slow disk does in a second.
const SLOW: u32 = 150;
/// After this the slow disk is slow no more: a sync of the whole filesystem, whoever wrote to it,
/// would take minutes.
const LONG_ENOUGH: Duration = Duration::from_secs(1);
/// Reads and writes, at least, until all that is under way waits for the slow disk.
const PILING_UP: u64 = 100;

/// Waits for `what`, looking every now and then; it is an event of another process.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < patience,
            "{what} did not come about in {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a kill is to be.
struct Plan {
    role: &'static str,
    aim: Option<Window>,
    slow: bool,
}

/// Everything that the kills share.
pub(crate) struct Run<'a> {
    node: &'a RealNode,
    tally: &'a Tally,
    dice: ChaCha8Rng,
    observed: Observed,
    /// The seats of `ROLES`, in their order.
    seats: Vec<SeatNo>,
    /// Those of the blockers over files; over RADOS nothing of a dead process is left in the kernel.
    locks: Option<DrainLocks>,
    /// Whether this machine can slow a disk.
    slows: bool,
    seen: Seen,
}

impl<'a> Run<'a> {
    pub(crate) fn new(node: &'a RealNode, tally: &'a Tally, dice: ChaCha8Rng) -> Run<'a> {
        let observed = observe(&node.socket()).expect("the supervisor lives");
        let has_files = |role: &Role| matches!(role.kind, RoleKind::FileBlocker(_));
        let over_files = node.config.roles.iter().any(has_files);
        let run_dir = &node.config.archipelago.run_dir;
        Run {
            seats: ROLES.map(|role| seat_of(&observed, role)).to_vec(),
            locks: over_files.then(|| DrainLocks::new(run_dir, &ROLES[..2])),
            slows: over_files && can_slow(node),
            seen: Seen::default(),
            node,
            tally,
            dice,
            observed,
        }
    }

    /// Kills so many times.
    pub(crate) fn kill(mut self, kills: u64) -> Seen {
        for round in 0..kills {
            let plan = self.plan(round);
            let begin = Instant::now();
            until("a death", || self.kill_one(&plan).is_some());
            self.let_it_serve();
            self.seen.slowest = self.seen.slowest.max(begin.elapsed());
        }
        self.seen
    }

    /// Only who asks others has slots in the narrow windows: vlmcd and mapperd. Only a driver has
    /// a disk.
    fn plan(&mut self, round: u64) -> Plan {
        let (aim, slow, roles) = match round % 6 {
            1 => (Some(Window::Claimed), false, &ROLES[2..]),
            4 => (Some(Window::NotYetFreed), false, &ROLES[2..]),
            2 | 5 => (None, self.slows, &ROLES[..2]),
            _ => (None, false, &ROLES[..]),
        };
        let role = roles[self.dice.random_range(0..roles.len())];
        Plan { role, aim, slow }
    }

    /// `None`: the pid file still named a process that was dead already.
    fn kill_one(&mut self, plan: &Plan) -> Option<()> {
        let (pid, seats) = self.find(plan.role);
        let new = || SlowGroup::new(self.node.dir(), SLOW).expect("a group like the first");
        let slow = plan.slow.then(new);
        if let Some(group) = &slow {
            group.add(pid).ok()?;
            self.let_it_pile_up();
        }
        let stopped = self.stop(pid, &seats, plan.aim)?;
        self.seen.count(windows::seen(&self.observed, &seats));
        let mut drivers = seats;
        drivers.retain(|seat| self.seats[..2].contains(seat));
        if drivers.is_empty() {
            return stopped.kill().ok();
        }
        // Before the kill, so that whatever its ring has is known to the verifiers as unanswered.
        let deaths = self.tally.deaths.fetch_add(1, Relaxed) + 1;
        match &self.locks {
            Some(locks) => {
                let victim = Victim::new(&self.observed, locks, pid, drivers);
                let ending = watch_ring(victim, stopped, slow);
                self.seen.endings.push((plan.slow, ending));
            }
            None => {
                let began = watch_successor(&self.observed, &drivers, stopped);
                self.seen.successions.push(began);
            }
        }
        self.tally.ended.store(deaths, Relaxed);
        Some(())
    }

    /// The living process of a role, and all seats that it has.
    fn find(&self, role: &str) -> (i32, Vec<SeatNo>) {
        let mut found = None;
        until("a process with a seat", || {
            let pid = self.node.pid_of(role);
            let alive = pid.filter(|pid| !matches!(state_of(*pid), None | Some('Z' | 'X')));
            found = alive.map(|pid| (pid, windows::seats_of(&self.observed, pid)));
            found.as_ref().is_some_and(|(_, seats)| !seats.is_empty())
        });
        found.expect("found above")
    }

    /// Stops it while every role has enough to do, and in the window that is aimed at unless that
    /// takes too long.
    fn stop(&mut self, pid: i32, seats: &[SeatNo], aim: Option<Window>) -> Option<Stopped> {
        let mut stopped = stopper::stop(pid)?;
        let begin = Instant::now();
        loop {
            let still = aim.filter(|_| begin.elapsed() < AIM);
            if still.is_none_or(|window| windows::is_in(&self.observed, seats, window)) {
                let under_way = windows::under_way(&self.observed, &self.seats);
                if under_way.iter().all(|count| *count >= AT_LEAST) {
                    self.seen
                        .stopped(under_way, aim, still.is_none(), begin.elapsed());
                    return Some(stopped);
                }
                assert!(begin.elapsed() < PATIENCE, "{under_way:?} under way");
            }
            // Longer and longer: on a busy machine its turn may not come in a moment, and who waits
            // for it has nothing under way until it does.
            let most = match still {
                Some(_) => 100,
                None => 2000 + begin.elapsed().as_micros() as u64 / 100,
            };
            stopped.go_on(Duration::from_micros(self.dice.random_range(0..most)))?;
        }
    }

    /// Until the node has served a random number of further requests.
    fn let_it_serve(&mut self) {
        let served = &self.tally.served;
        let goal = served.load(Relaxed) + self.dice.random_range(1..600);
        until("progress after a kill", || served.load(Relaxed) >= goal);
    }

    /// Until the slow disk has done some reads and writes, or had time enough for them: it may be
    /// amid that sync.
    fn let_it_pile_up(&mut self) {
        let moved = &self.tally.moved;
        let goal = moved.load(Relaxed) + self.dice.random_range(PILING_UP..2 * PILING_UP);
        let begin = Instant::now();
        until("a pile on the slow disk", || {
            moved.load(Relaxed) >= goal || begin.elapsed() > LONG_ENOUGH
        });
    }
}

/// Kills a driver over files, and watches its ring and its successor.
fn watch_ring(victim: Victim, stopped: Stopped, slow: Option<SlowGroup>) -> Ending {
    assert!(
        victim.holds_its_lock(),
        "the victim has its drain lock in its ring"
    );
    stopped.kill().expect("a stopped process can be killed");
    let hurry = |since| match &slow {
        Some(group) if since > LONG_ENOUGH => group.hurry(),
        _ => Ok(()),
    };
    victim.watch(hurry).expect("a successor")
}

/// Kills a driver over RADOS, and waits until its successor takes up requests; how long that took.
/// By then the cluster lets nothing of the dead in any more.
fn watch_successor(observed: &Observed, drivers: &[SeatNo], stopped: Stopped) -> Duration {
    let served = windows::serving(observed, drivers);
    let killed = Instant::now();
    stopped.kill().expect("a stopped process can be killed");
    until("a successor", || {
        windows::serving(observed, drivers) != served
    });
    killed.elapsed()
}

/// Whether this machine can slow the node's disk; says so if not.
fn can_slow(node: &RealNode) -> bool {
    let slow = SlowGroup::new(node.dir(), SLOW);
    if let Err(why) = &slow {
        println!("SKIP slow disk: {why}");
    }
    slow.is_ok()
}

fn seat_of(observed: &Observed, role: &str) -> SeatNo {
    let mut members = observed.public.members().iter().zip(0..);
    let found = members.find(|(member, _)| member.display_name() == role);
    found.map(|(_, no)| SeatNo(no)).expect("a role has a seat")
}
