//! What the kills have shown, in figures, and what must hold for them.

use super::ROLES;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use system_tests::ending::Ending;
use system_tests::verifier::Tally;
use system_tests::windows::{Hits, Window};

/// Requests that each role has waiting or served at every kill.
pub(crate) const AT_LEAST: usize = 32;

/// An idle ring ends some 25 ms after its process.
const LONG: Duration = Duration::from_millis(100);

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) slowest: Duration,
    hits: Hits,
    /// For each window that was aimed at: how long each attempt took.
    aims: BTreeMap<Window, Vec<Duration>>,
    /// And how many were in vain.
    gave_up: BTreeMap<Window, u64>,
    /// At each kill, for each of `ROLES`.
    under_way: Vec<Vec<usize>>,
    /// Each death of a driver's process, and whether its disk was slow.
    pub(crate) endings: Vec<(bool, Ending)>,
    /// How long after each death of a driver over RADOS its successor began.
    pub(crate) successions: Vec<Duration>,
}

impl Seen {
    /// The windows that one victim died in.
    pub(crate) fn count(&mut self, windows: BTreeSet<Window>) {
        for window in windows {
            *self.hits.entry(window).or_default() += 1;
        }
    }

    /// A victim was stopped while so much was under way, in the window aimed at or after that was
    /// given up.
    pub(crate) fn stopped(
        &mut self,
        under_way: Vec<usize>,
        aim: Option<Window>,
        gave_up: bool,
        took: Duration,
    ) {
        self.under_way.push(under_way);
        let Some(window) = aim else { return };
        self.aims.entry(window).or_default().push(took);
        *self.gave_up.entry(window).or_default() += u64::from(gave_up);
    }

    /// The figures, as lines.
    pub(crate) fn report(&self, tally: &Tally) -> String {
        let mut text = String::new();
        let served = tally.served.load(Relaxed);
        let (kills, slowest) = (self.under_way.len(), self.slowest);
        let _ = writeln!(
            text,
            "{kills} kills, {served} requests, slowest round {slowest:?}\nwindows hit: {:?}",
            self.hits
        );
        for (window, took) in &self.aims {
            let (tried, gave_up) = (took.len(), self.gave_up[window]);
            let took = spread(took.clone());
            let _ = writeln!(
                text,
                "{window:?} aimed at {tried} times, {gave_up} gave up; took (least, median, most) {took:?}"
            );
        }
        for (at, role) in ROLES.iter().enumerate() {
            let counts = self.under_way.iter().map(|counts| counts[at]);
            let (least, median, most) = spread(counts.collect());
            let _ = writeln!(
                text,
                "requests of {role} under way at a kill: least {least}, median {median}, most {most}"
            );
        }
        for slow in [false, true] {
            text += &self.report_rings(slow);
        }
        if !self.successions.is_empty() {
            let (count, began) = (self.successions.len(), spread(self.successions.clone()));
            let _ = writeln!(
                text,
                "drivers killed over RADOS: {count}; successor began after (least, median, most) \
                 {began:?}"
            );
        }
        let _ = writeln!(
            text,
            "late landings: {} in {} blocks and {} buffers that were under way at a death",
            tally.late.load(Relaxed),
            tally.late_blocks_checked.load(Relaxed),
            tally.late_buffers_checked.load(Relaxed),
        );
        text
    }

    fn report_rings(&self, slow: bool) -> String {
        let of = |(s, ending): &(bool, Ending)| (*s == slow).then_some(*ending);
        let endings: Vec<Ending> = self.endings.iter().filter_map(of).collect();
        if endings.is_empty() {
            return String::new();
        }
        let outlived = endings.iter().filter(|e| e.outlived).count();
        let long = endings.iter().filter(|e| e.ended > LONG).count();
        let late = endings.iter().filter(|e| e.late).count();
        let disk = if slow { "slow" } else { "usual" };
        let ended = spread(endings.iter().map(|e| e.ended).collect());
        let began = spread(endings.iter().map(|e| e.began).collect());
        format!(
            "drivers killed on the {disk} disk: {}, {outlived} rings outlived their process, \
             {long} by more than {LONG:?}; \
             successors that began before the ring ended: {late}\n\
             \x20 ring ended after (least, median, most) {ended:?}; successor began after {began:?}\n",
            endings.len()
        )
    }

    /// Whether the run was worth its name.
    pub(crate) fn judge(&self, kills: u64) {
        let late = self.endings.iter().filter(|(_, e)| e.late).count();
        assert_eq!(late, 0, "successors that began before the ring ended");
        // 20 in a thousand; in the default's 60 a few.
        let enough = (kills / 50).max(kills.min(60) / 20);
        for window in Window::ALL {
            let count = self.hits.get(&window).copied().unwrap_or(0);
            assert!(count >= enough, "{window:?} was hit {count} times");
        }
        let slow = self.endings.iter().filter(|(slow, _)| *slow).count();
        let long = |(slow, e): &&(bool, Ending)| *slow && e.ended > LONG;
        assert!(
            kills < 1000 || self.endings.iter().filter(long).count() >= slow / 10,
            "hardly any ring outlived its process for long: the disk was not slow"
        );
    }
}

/// Least, median and most.
fn spread<T: Ord + Copy>(mut all: Vec<T>) -> (T, T, T) {
    all.sort_unstable();
    let middle = all[all.len() / 2];
    (all[0], middle, all[all.len() - 1])
}
