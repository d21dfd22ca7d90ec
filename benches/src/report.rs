//! What a run leaves: a table for people, JSON for programs, a plot for each case.

mod plot;
mod table;

pub use plot::draw;
pub use table::{case_table, facts_table};

use crate::facts::Facts;
use crate::runner::Outcome;
use serde::Serialize;
use std::io;
use std::path::Path;

/// Everything about a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub facts: Facts,
    /// What was asked for on the command line.
    pub arguments: Vec<String>,
    /// One for each case.
    pub cases: Vec<Outcome>,
    /// Suites that did not run, and why.
    pub skipped: Vec<String>,
}

impl Report {
    /// Writes `report.json`, `report.txt` and one SVG for each case into `dir`.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        std::fs::write(dir.join("report.json"), json)?;
        std::fs::write(dir.join("report.txt"), self.text())?;
        for case in &self.cases {
            let file = dir.join(format!("{}.svg", case.name.replace('/', "-")));
            std::fs::write(file, draw(case).map_err(io::Error::other)?)?;
        }
        Ok(())
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let mut text = facts_table(&self.facts);
        for case in &self.cases {
            text += "\n";
            text += &case_table(case);
        }
        for line in &self.skipped {
            text += &format!("\nskipped: {line}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::Goal;
    use crate::runner::Figures;
    use crate::spread::Spread;

    fn outcome() -> Outcome {
        let figures = |name: &str, rounds: &[f64]| Figures {
            name: name.into(),
            spread: Spread::of(rounds),
            rounds: rounds.to_vec(),
            rate: None,
            cpu_us: None,
            latency_us: (!rounds.is_empty()).then_some([1.0, 2.0, 3.0]),
            trouble: rounds.is_empty().then(|| "fio: no such program".into()),
        };
        let median = |name: &str| (name == "ours").then_some(2.0);
        Outcome {
            name: "suite/case".into(),
            title: "A question".into(),
            sketch: "one hop",
            unit: "op/s",
            more_is_better: true,
            figures: vec![figures("ours", &[1.0, 2.0, 3.0]), figures("<theirs>", &[])],
            verdicts: vec![Goal::at_least("ours", 5.0, "why").judge("op/s", median)],
        }
    }

    #[test]
    fn a_report_is_written_in_three_forms() {
        let dir = tempfile::tempdir().unwrap();
        let report = Report {
            facts: Facts::gather(9, &[]),
            arguments: vec!["--quick".into()],
            cases: vec![outcome()],
            skipped: vec!["nbd: no server".into()],
        };
        report.write(dir.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
        assert_eq!(json["cases"][0]["figures"][0]["spread"]["median"], 2.0);
        assert_eq!(json["facts"]["seed"], 9);
        let text = read("report.txt");
        let wanted = [
            "A question",
            "one hop",
            "MISSED: ours",
            "no such program",
            "nbd: no server",
        ];
        assert!(wanted.iter().all(|part| text.contains(part)), "{text}");
        let svg = read("suite-case.svg");
        assert!(
            svg.contains("ours") && svg.contains("A question") && svg.contains("&lt;theirs&gt;")
        );
    }
}
