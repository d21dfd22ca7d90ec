//! Deals out turns: every round each contender once, in random order.
//!
//! What always holds: whoever was set up is put away, also when somebody failed; a contender that
//! fails leaves the case with a line that says why, and the others go on.

use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::goal::Verdict;
use crate::histogram::Histogram;
use crate::random::Random;
use crate::spread::Spread;
use crate::usage;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How much to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Turns of each contender.
    pub rounds: usize,
    /// How long one turn is.
    pub turn: Duration,
    /// How long each runs before it counts.
    pub warm_up: Duration,
    /// Of the order of turns.
    pub seed: u64,
    /// Set from outside: end with the turn that runs now.
    pub stop: Arc<AtomicBool>,
}

impl Plan {
    /// Whether to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a contender did.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Who.
    pub name: String,
    /// Of the case's metric, over the rounds; `None` when it did not run.
    pub spread: Option<Spread>,
    /// The metric of each round, in order.
    pub rounds: Vec<f64>,
    /// Operations in a second, median of the rounds.
    pub rate: Option<f64>,
    /// p50, p99 and p99.9 of all rounds together, in us; of other programs' the median of rounds.
    pub latency_us: Option<[f64; 3]>,
    /// Processor time of all its processes, the asking one included, us for each operation: what
    /// a busy machine disturbs least.
    pub cpu_us: Option<f64>,
    /// Why it did not run, or stopped.
    pub trouble: Option<String>,
}

/// What came of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its sketch.
    pub sketch: &'static str,
    /// Of the figures.
    pub unit: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// One for each contender.
    pub figures: Vec<Figures>,
    /// One for each goal.
    pub verdicts: Vec<Verdict>,
}

struct Entry {
    contender: Box<dyn Contender>,
    turns: Vec<Turn>,
    /// Processor time of the turns.
    cpu: Option<Duration>,
    trouble: Option<Trouble>,
}

impl Entry {
    fn attempt<T>(
        &mut self,
        what: impl FnOnce(&mut dyn Contender) -> Result<T, Trouble>,
    ) -> Option<T> {
        if self.trouble.is_some() {
            return None;
        }
        match what(self.contender.as_mut()) {
            Ok(value) => Some(value),
            Err(trouble) => {
                self.trouble = Some(trouble);
                None
            }
        }
    }
}

impl Entry {
    fn turn(&mut self, budget: Duration) {
        let before = self.cpu_now();
        let turn = self.attempt(|c| c.run(budget));
        if let Some((before, after)) = before.zip(self.cpu_now()) {
            self.cpu = Some(self.cpu.unwrap_or_default() + after.saturating_sub(before));
        }
        self.turns.extend(turn);
    }

    /// Of all its processes.
    fn cpu_now(&self) -> Option<Duration> {
        let mut pids = self.contender.helpers()?;
        pids.push(std::process::id());
        Some(
            pids.into_iter()
                .filter_map(|pid| usage::processor(pid).ok())
                .sum(),
        )
    }
}

/// Runs a case.
pub fn run(case: Case, plan: &Plan) -> Outcome {
    let mut random = Random::new(plan.seed ^ fold(&case.name));
    let mut entries: Vec<Entry> = case
        .contenders
        .into_iter()
        .map(|contender| Entry {
            contender,
            turns: Vec::new(),
            cpu: None,
            trouble: None,
        })
        .collect();
    for entry in &mut entries {
        entry.attempt(|c| c.setup());
    }
    if !plan.warm_up.is_zero() && case.rounds.is_none() {
        for entry in &mut entries {
            entry.attempt(|c| c.run(plan.warm_up));
        }
    }
    for _ in 0..case.rounds.unwrap_or(plan.rounds) {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        random.shuffle(&mut order);
        for at in order {
            if plan.stopped() {
                break;
            }
            entries[at].turn(plan.turn);
        }
    }
    for entry in &mut entries {
        entry.contender.teardown();
    }
    let figures: Vec<Figures> = entries.iter().map(|e| figures(e, case.metric)).collect();
    let median = |name: &str| {
        let found = figures.iter().find(|f| f.name == name)?;
        found.spread.map(|s| s.median)
    };
    let judge = |goal: &crate::goal::Goal| goal.judge(case.metric.unit(), median);
    let verdicts = case.goals.iter().map(judge).collect();
    Outcome {
        name: case.name,
        title: case.title,
        sketch: case.sketch,
        unit: case.metric.unit(),
        more_is_better: case.metric.more_is_better(),
        figures,
        verdicts,
    }
}

/// A name as a number (FNV-1a), so that each case has its own order.
fn fold(name: &str) -> u64 {
    let prime = 0x0100_0000_01b3;
    let start = 0xcbf2_9ce4_8422_2325;
    name.bytes().fold(start, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(prime)
    })
}

fn figures(entry: &Entry, metric: Metric) -> Figures {
    let rounds: Vec<f64> = entry.turns.iter().map(|turn| metric.of(turn)).collect();
    let rates: Vec<f64> = entry
        .turns
        .iter()
        .filter(|turn| turn.ops > 0)
        .map(|turn| Metric::Rate.of(turn))
        .collect();
    let mut all = Histogram::default();
    entry
        .turns
        .iter()
        .for_each(|turn| all.merge(&turn.latencies));
    let us = |q| all.quantile(q) / 1e3;
    let told: Vec<[f64; 3]> = entry
        .turns
        .iter()
        .filter_map(|turn| turn.quantiles_us)
        .collect();
    let told_median = |at: usize| {
        let column: Vec<f64> = told.iter().map(|us| us[at]).collect();
        Spread::of(&column).map_or(0.0, |s| s.median)
    };
    let latency_us = match all.count() {
        0 => (!told.is_empty()).then(|| [0, 1, 2].map(told_median)),
        _ => Some([us(0.5), us(0.99), us(0.999)]),
    };
    let ops: u64 = entry.turns.iter().map(|turn| turn.ops).sum();
    Figures {
        name: entry.contender.name(),
        spread: Spread::of(&rounds),
        rounds,
        rate: Spread::of(&rates).map(|s| s.median),
        latency_us,
        cpu_us: entry
            .cpu
            .filter(|_| ops > 0)
            .map(|cpu| cpu.as_secs_f64() * 1e6 / ops as f64),
        trouble: entry.trouble.as_ref().map(Trouble::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::Goal;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Log = Rc<RefCell<Vec<String>>>;

    struct Fake {
        name: &'static str,
        rate: u64,
        fails_at: Option<usize>,
        log: Log,
        turns: usize,
    }

    impl Fake {
        fn new(name: &'static str, rate: u64, log: &Log) -> Fake {
            let log = log.clone();
            Fake {
                name,
                rate,
                fails_at: None,
                log,
                turns: 0,
            }
        }
    }

    impl Contender for Fake {
        fn name(&self) -> String {
            self.name.into()
        }

        fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
            self.turns += 1;
            if self.fails_at == Some(self.turns) {
                return Err(Trouble::Failed("no more".into()));
            }
            self.log.borrow_mut().push(self.name.into());
            let ops = self.rate * budget.as_secs();
            let mut latencies = Histogram::default();
            latencies.record(1_000_000_000 / self.rate);
            Ok(Turn {
                ops,
                elapsed: budget,
                latencies,
                ..Turn::default()
            })
        }

        fn teardown(&mut self) {
            self.log.borrow_mut().push(format!("{} away", self.name));
        }
    }

    fn plan() -> Plan {
        let (turn, stop) = (Duration::from_secs(2), Arc::default());
        Plan {
            rounds: 6,
            turn,
            warm_up: Duration::ZERO,
            seed: 3,
            stop,
        }
    }

    fn case() -> Case {
        Case::new("a/b", "A", "", Metric::Rate)
    }

    #[test]
    fn every_round_has_one_turn_of_each_and_the_order_varies() {
        let log = Log::default();
        let outcome = run(
            case()
                .with(Fake::new("a", 10, &log))
                .with(Fake::new("b", 20, &log)),
            &plan(),
        );
        assert_eq!(outcome.figures[1].spread.unwrap().median, 20.0);
        assert_eq!(outcome.figures[0].rounds.len(), 6);
        let log = log.borrow();
        let rounds: Vec<String> = log[..12].chunks(2).map(|round| round.concat()).collect();
        assert!(rounds.iter().all(|round| round == "ab" || round == "ba"));
        assert!(rounds.contains(&"ab".into()) && rounds.contains(&"ba".into()));
        assert_eq!(log[12..], ["a away", "b away"]);
    }

    #[test]
    fn a_stopped_run_has_no_more_turns() {
        let log = Log::default();
        let plan = plan();
        plan.stop.store(true, Ordering::Relaxed);
        let outcome = run(case().with(Fake::new("a", 10, &log)), &plan);
        assert_eq!(outcome.figures[0].spread, None);
        assert_eq!(*log.borrow(), ["a away"]);
    }

    #[test]
    fn who_fails_leaves_with_a_line_and_is_put_away() {
        let log = Log::default();
        let mut failing = Fake::new("a", 10, &log);
        failing.fails_at = Some(3);
        let goal = Goal::at_least_times("b", 1.5, "a");
        let outcome = run(
            case()
                .with(failing)
                .with(Fake::new("b", 20, &log))
                .wants(goal),
            &plan(),
        );
        assert_eq!(outcome.figures[0].trouble.as_deref(), Some("no more"));
        assert_eq!(outcome.figures[0].rounds.len(), 2);
        assert_eq!(outcome.figures[1].rounds.len(), 6);
        assert!(log.borrow().contains(&"a away".into()));
        assert_eq!(outcome.verdicts[0].met, Some(true));
    }
}
