//! Goals, and how the figures stand to them. A goal that is missed is printed, never asserted.

use serde::Serialize;

/// What a figure is held against.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// A number of the case's unit.
    Number(f64),
    /// So many times the median of another contender.
    Times(f64, String),
}

/// What we want of one contender.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Of whom.
    pub of: String,
    /// True: at least the bound; false: at most.
    pub at_least: bool,
    /// The bound.
    pub bound: Bound,
    /// Where the bound comes from, for people; may be empty.
    pub note: String,
}

impl Goal {
    /// `of` shall be `number` or more.
    pub fn at_least(of: &str, number: f64, note: &str) -> Goal {
        Goal::new(of, true, Bound::Number(number), note)
    }

    /// `of` shall be `number` or less.
    pub fn at_most(of: &str, number: f64, note: &str) -> Goal {
        Goal::new(of, false, Bound::Number(number), note)
    }

    /// `of` shall be `times` what `other` is, or more.
    pub fn at_least_times(of: &str, times: f64, other: &str) -> Goal {
        Goal::new(of, true, Bound::Times(times, other.into()), "")
    }

    /// `of` shall be `times` what `other` is, or less.
    pub fn at_most_times(of: &str, times: f64, other: &str) -> Goal {
        Goal::new(of, false, Bound::Times(times, other.into()), "")
    }

    fn new(of: &str, at_least: bool, bound: Bound, note: &str) -> Goal {
        Goal {
            of: of.into(),
            at_least,
            bound,
            note: note.into(),
        }
    }

    /// How the medians stand to the goal; `median` knows them by the contenders' names.
    pub fn judge(&self, unit: &str, median: impl Fn(&str) -> Option<f64>) -> Verdict {
        let side = if self.at_least { "at least" } else { "at most" };
        let note = match self.note.as_str() {
            "" => String::new(),
            note => format!(" ({note})"),
        };
        let (want, bound, other) = match &self.bound {
            Bound::Number(n) => (format!("{side} {} {unit}{note}", number(*n)), Some(*n), 1.0),
            Bound::Times(times, of) => {
                let base = median(of);
                let want = format!("{side} {} of {of}{note}", number(*times));
                (want, base.map(|b| b * times), base.unwrap_or(1.0))
            }
        };
        let figure = median(&self.of).map(|m| m / other);
        let met = median(&self.of)
            .zip(bound)
            .map(|(m, b)| if self.at_least { m >= b } else { m <= b });
        Verdict {
            of: self.of.clone(),
            want,
            figure: figure.filter(|_| bound.is_some()),
            met,
        }
    }
}

/// How a figure stands to its goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Of whom.
    pub of: String,
    /// What was wanted.
    pub want: String,
    /// The median, or the quotient of two, that was held against the bound.
    pub figure: Option<f64>,
    /// `None`: somebody did not run.
    pub met: Option<bool>,
}

impl Verdict {
    /// The verdict as a line.
    pub fn line(&self) -> String {
        let figure = self.figure.map_or("?".into(), number);
        let word = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        format!("{word}: {}: {figure}, goal {}", self.of, self.want)
    }
}

/// A number with three significant digits, and thousands apart.
pub fn number(n: f64) -> String {
    match n.abs() {
        a if a >= 1000.0 => apart(n.round() as i64),
        a if a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    }
}

fn apart(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::from(if n < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medians(name: &str) -> Option<f64> {
        match name {
            "ours" => Some(80.0),
            "raw" => Some(100.0),
            _ => None,
        }
    }

    #[test]
    fn a_goal_compares_with_a_number_or_with_another_contender() {
        let met = |goal: Goal| goal.judge("op/s", medians).met;
        assert_eq!(met(Goal::at_least("ours", 80.0, "")), Some(true));
        assert_eq!(met(Goal::at_most("ours", 79.0, "")), Some(false));
        assert_eq!(met(Goal::at_least_times("ours", 0.8, "raw")), Some(true));
        assert_eq!(met(Goal::at_most_times("ours", 0.7, "raw")), Some(false));
    }

    #[test]
    fn who_did_not_run_is_not_judged() {
        let verdict = Goal::at_least_times("ours", 0.8, "absent").judge("op/s", medians);
        assert_eq!((verdict.met, verdict.figure), (None, None));
        assert_eq!(
            Goal::at_least("absent", 1.0, "").judge("op/s", medians).met,
            None
        );
    }

    #[test]
    fn a_verdict_reads_as_a_line() {
        let verdict = Goal::at_least_times("ours", 0.9, "raw").judge("op/s", medians);
        assert_eq!(
            verdict.line(),
            "MISSED: ours: 0.80, goal at least 0.90 of raw"
        );
    }

    #[test]
    fn numbers_keep_three_digits() {
        let table = [
            (0.8, "0.80"),
            (12.34, "12.3"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1234567.0, "1,234,567"),
        ];
        for (n, text) in table {
            assert_eq!(number(n), text);
        }
    }
}
