//! Outcomes as text.

use crate::facts::Facts;
use crate::goal::number;
use crate::runner::{Figures, Outcome};

/// The machine, a line for each fact.
pub fn facts_table(facts: &Facts) -> String {
    let mut lines = vec![
        format!("kernel      {}", facts.kernel),
        format!(
            "processor   {} x {}, {} MiB",
            facts.cpus, facts.processor, facts.memory_mib
        ),
        format!("load before {}", facts.load_before),
        format!("revision    {}", facts.revision),
        format!("clock       {:.0} ns for a reading", facts.clock_ns),
        format!("seed        {}", facts.seed),
    ];
    let named = |(name, value): (&String, &String)| format!("{name:<11} {value}");
    lines.extend(facts.filesystems.iter().map(named));
    lines.extend(facts.programs.iter().map(named));
    lines.join("\n") + "\n"
}

/// One case: title, sketch, a row for each contender, a line for each goal.
pub fn case_table(outcome: &Outcome) -> String {
    let width = outcome
        .figures
        .iter()
        .map(|f| f.name.chars().count())
        .max()
        .unwrap_or(0);
    let better = if outcome.more_is_better {
        "more"
    } else {
        "less"
    };
    let mut text = format!(
        "== {}: {} [{}, {better} is better]\n",
        outcome.name, outcome.title, outcome.unit
    );
    for line in outcome.sketch.lines() {
        text += &format!("   sketch: {}\n", line.trim());
    }
    text += &format!(
        "   {:<width$} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9}\n",
        "",
        "min",
        "p25",
        "median",
        "p75",
        "max",
        "op/s",
        "cpu us/op",
        "p50 us",
        "p99 us",
        "p99.9 us"
    );
    for figures in &outcome.figures {
        text += &row(figures, width);
    }
    for verdict in &outcome.verdicts {
        text += &format!("   {}\n", verdict.line());
    }
    text
}

fn row(figures: &Figures, width: usize) -> String {
    let mut line = format!("   {:<width$}", figures.name);
    if let Some(s) = figures.spread {
        for n in [s.min, s.p25, s.median, s.p75, s.max] {
            line += &format!(" {:>10}", number(n));
        }
        line += &format!(" {:>10}", figures.rate.map(number).unwrap_or_default());
        line += &format!(" {:>9}", figures.cpu_us.map(number).unwrap_or_default());
        for us in figures.latency_us.into_iter().flatten() {
            line += &format!(" {:>9}", number(us));
        }
    }
    if let Some(trouble) = &figures.trouble {
        line += &format!(" skipped: {trouble}");
    }
    line + "\n"
}
