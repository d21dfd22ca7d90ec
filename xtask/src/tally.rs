//! Counts tests from what `cargo test` prints.
//!
//! Each test binary ends with `test result: ok. 3 passed; 0 failed; 1 ignored; ...` on its
//! standard output. A test that cannot run here (no such program, not root) writes a line
//! `SKIP name: reason` straight to standard error, where the test harness does not catch it, and
//! returns: the harness counts it as passed, and we as skipped.

use std::fmt;
use std::ops::AddAssign;

/// How the line of a skipped test begins.
const SKIP: &str = "SKIP ";
/// How the last line of a test binary begins.
const RESULT: &str = "test result: ";

/// What was counted, as the harness counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that returned, those that skipped themselves among them.
    returned: u64,
    /// Tests that failed, and steps that failed without one.
    failed: u64,
    /// Tests that are not run unless asked for.
    ignored: u64,
    /// Tests that skipped themselves.
    skips: u64,
}

impl Tally {
    /// Takes one line of output into account.
    pub(crate) fn see(&mut self, line: &str) {
        if line.starts_with(SKIP) {
            self.skips += 1;
        } else if let Some((_, counts)) = line.strip_prefix(RESULT).and_then(|l| l.split_once(". "))
        {
            counts.split("; ").for_each(|count| self.see_count(count));
        }
    }

    fn see_count(&mut self, count: &str) {
        let Some((number, what)) = count.trim().split_once(' ') else {
            return;
        };
        let number: u64 = number.parse().unwrap_or(0);
        match what {
            "passed" => self.returned += number,
            "failed" => self.failed += number,
            "ignored" => self.ignored += number,
            _ => {}
        }
    }

    /// Counts a step that failed although no test of it did: a build, a lint.
    pub(crate) fn step_failed(&mut self) {
        self.failed = self.failed.max(1);
    }

    /// Whether anything failed.
    pub(crate) fn any_failed(&self) -> bool {
        self.failed > 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.returned += other.returned;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skips += other.skips;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.returned.saturating_sub(self.skips);
        write!(
            f,
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            self.ignored + self.skips
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.see(line));
        tally
    }

    #[test]
    fn results_add_up_and_a_skip_is_no_pass() {
        let counted = tally(&[
            "running 5 tests",
            "SKIP nbd_copy: no nbdcopy here",
            "test a ... ok",
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.04s",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1s",
            "  test result: ok. 100 passed; 0 failed",
            "test skip_it ... SKIP ",
        ]);
        assert_eq!(counted.to_string(), "5 passed, 3 failed, 2 skipped");
        assert!(counted.any_failed());
    }

    #[test]
    fn a_failed_step_counts_once() {
        let mut lint = tally(&["warning: unused"]);
        lint.step_failed();
        let mut tests = tally(&["test result: FAILED. 1 passed; 2 failed; 0 ignored"]);
        tests.step_failed();
        tests += lint;
        assert_eq!(tests.to_string(), "1 passed, 3 failed, 0 skipped");
    }
}
