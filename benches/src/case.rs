//! A question, and those who answer it.
//!
//! What always holds: between two turns a contender does nothing that costs processor time, so
//! that the turns of others are not disturbed by it.

use crate::goal::Goal;
use crate::histogram::Histogram;
use std::time::{Duration, Instant};

/// Why a contender can't compete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Something that it needs is not on this machine.
    #[error("{0}")]
    Missing(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

impl Trouble {
    /// A failure, as "WHAT: WHY".
    pub fn failed<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Trouble {
        move |why| Trouble::Failed(format!("{what}: {why}"))
    }
}

/// What one turn brought.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// Operations done.
    pub ops: u64,
    /// How long that took.
    pub elapsed: Duration,
    /// Latencies of the operations in ns; empty where only `value` counts.
    pub latencies: Histogram,
    /// p50, p99 and p99.9 in us, from a program that tells no more; `latencies` is empty then.
    pub quantiles_us: Option<[f64; 3]>,
    /// What was measured, for [`Metric::Value`].
    pub value: f64,
}

impl Turn {
    /// A turn of operations that were all timed.
    pub fn timed(elapsed: Duration, latencies: Histogram) -> Turn {
        let ops = latencies.count();
        Turn {
            ops,
            elapsed,
            latencies,
            ..Turn::default()
        }
    }

    /// A turn that brought one number.
    pub fn of_value(value: f64) -> Turn {
        Turn {
            value,
            ..Turn::default()
        }
    }
}

/// Does something for `budget`, once at least; only what it says it took counts.
pub fn repeat(
    budget: Duration,
    mut once: impl FnMut() -> Result<Duration, Trouble>,
) -> Result<Turn, Trouble> {
    let (mut latencies, mut spent) = (Histogram::default(), Duration::ZERO);
    let start = Instant::now();
    loop {
        let elapsed = once()?;
        latencies.record(elapsed.as_nanos() as u64);
        spent += elapsed;
        if start.elapsed() >= budget {
            return Ok(Turn::timed(spent, latencies));
        }
    }
}

/// Which number of a turn a case compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// Operations in a second.
    Rate,
    /// Bytes in a second, in MB (10^6), for operations of this many bytes.
    Megabytes(u64),
    /// The median latency in us.
    MedianMicros,
    /// The median latency in ms.
    MedianMillis,
    /// The turn's own value, in this unit.
    Value(&'static str),
}

impl Metric {
    /// The unit of the number.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Rate => "op/s",
            Metric::Megabytes(_) => "MB/s",
            Metric::MedianMicros => "us",
            Metric::MedianMillis => "ms",
            Metric::Value(unit) => unit,
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Metric::Rate | Metric::Megabytes(_))
    }

    /// The number of a turn.
    pub fn of(self, turn: &Turn) -> f64 {
        let rate = turn.ops as f64 / turn.elapsed.as_secs_f64().max(1e-9);
        match self {
            Metric::Rate => rate,
            Metric::Megabytes(size) => rate * size as f64 / 1e6,
            Metric::MedianMicros => turn.latencies.quantile(0.5) / 1e3,
            Metric::MedianMillis => turn.latencies.quantile(0.5) / 1e6,
            Metric::Value(_) => turn.value,
        }
    }
}

/// Somebody who answers a case's question.
pub trait Contender {
    /// What the table calls it; goals refer to it by this name.
    fn name(&self) -> String;

    /// The processes that work for it besides this one, once it is set up; `None` when they do not
    /// outlive a turn, so that nobody can say what they cost.
    fn helpers(&self) -> Option<Vec<u32>> {
        None
    }

    /// Gets ready. Called once, before the first turn of anybody.
    fn setup(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    /// One turn of about `budget`.
    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble>;

    /// Puts everything away. Called once, also after a failure; must not fail.
    fn teardown(&mut self) {}
}

/// A question put to several contenders.
pub struct Case {
    /// `suite/case`, for `--only` and for file names.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Hops, copies, system calls and expected times, before any number is known.
    pub sketch: &'static str,
    /// Which number is compared.
    pub metric: Metric,
    /// What we want.
    pub goals: Vec<Goal>,
    /// Rounds that differ from the run's, without warm-up, for cases that take their own time.
    pub rounds: Option<usize>,
    /// In the order of the table.
    pub contenders: Vec<Box<dyn Contender>>,
}

impl Case {
    /// A case without goals and contenders.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        sketch: &'static str,
        metric: Metric,
    ) -> Case {
        Case {
            name: name.into(),
            title: title.into(),
            sketch,
            metric,
            goals: Vec::new(),
            rounds: None,
            contenders: Vec::new(),
        }
    }

    /// The same with one more contender.
    pub fn with(mut self, contender: impl Contender + 'static) -> Case {
        self.contenders.push(Box::new(contender));
        self
    }

    /// The same with one more goal.
    pub fn wants(mut self, goal: Goal) -> Case {
        self.goals.push(goal);
        self
    }
}
