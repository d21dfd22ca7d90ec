//! The command line of `archip-bench`. The words in the comments are its help.

use crate::format::Format;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;

/// Measure how fast a port or a volume of Archipelago answers
#[derive(Debug, Parser)]
#[command(name = "archip-bench", version, infer_long_args = true)]
pub(super) struct Cli {
    /// The node's configuration file; it names the segment
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The segment, where no configuration file names it
    #[arg(
        short = 'g',
        long,
        value_name = "SPEC",
        default_value = "posix:archipelago:"
    )]
    pub(super) segment: String,
    /// What to do (also -op)
    #[arg(long, value_enum)]
    pub(super) operation: Operation,
    /// In which order (original: required)
    #[arg(long, value_enum, default_value = "seq")]
    pub(super) pattern: Pattern,
    /// The port to ask (also -tp)
    #[arg(long, value_name = "PORT")]
    pub(super) target_port: Option<u32>,
    /// Use this volume instead of objects of a blocker
    #[arg(long, value_name = "NAME", conflicts_with_all = ["prefix", "objname", "objects"])]
    pub(super) volume: Option<String>,
    /// How many objects (also -to)
    #[arg(long, value_name = "N", conflicts_with = "total")]
    pub(super) objects: Option<u64>,
    /// How many bytes in all, with suffix k, m or g (also -ts); at most those of the volume
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(super) total: Option<u64>,
    /// Size of an object (also -os)
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "4m")]
    pub(super) object_size: u64,
    /// Size of a request (also -bs)
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "4k")]
    pub(super) block_size: u64,
    /// At most so many requests (also -rc)
    #[arg(long, value_name = "N")]
    pub(super) requests: Option<u64>,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) iodepth: usize,
    /// Tells this run's objects and contents from others': at most nine digits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1_000_000_000))]
    pub(super) seed: Option<u64>,
    /// First part of the objects' names
    #[arg(long, default_value = "bench")]
    pub(super) prefix: String,
    /// Use one object of this name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["prefix", "objects"])]
    pub(super) objname: Option<String>,
    /// Write contents that can be recognised, and check them when they are read
    #[arg(long, value_enum, default_value = "no")]
    pub(super) verify: Verify,
    /// Ask the port whether it answers at all before the run
    #[arg(long, value_enum, default_value = "no")]
    pub(super) ping: YesNo,
    /// Show how far the run is, on a terminal
    #[arg(long, value_enum, default_value = "yes")]
    pub(super) progress: YesNo,
    /// What is shown of it: requests, bytes, or both
    #[arg(long, value_enum, default_value = "both")]
    pub(super) ptype: Shown,
    /// How often: every so many requests, or every so many percent of them
    #[arg(long, value_name = "N|N%", default_value = "5%")]
    pub(super) pinterval: Interval,
    /// Accepted for old scripts, and without effect: every latency is measured in every run
    #[arg(long, value_name = "WORD", value_parser = ["sane", "eccentric", "manic", "paranoid"])]
    pub(super) insanity: Option<String>,
    #[command(flatten)]
    pub(super) output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum YesNo {
    Yes,
    No,
}

/// What a progress bar shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Shown {
    /// Requests
    Req,
    /// Bytes
    Io,
    /// Both
    Both,
}

/// How many answers lie between two looks of the progress bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Interval {
    Requests(u64),
    Percent(u64),
}

impl Interval {
    /// In requests, at least one, for a run of `count`.
    pub(super) fn of(self, count: u64) -> u64 {
        let requests = match self {
            Interval::Requests(requests) => requests,
            Interval::Percent(percent) => count / 100 * percent + count % 100 * percent / 100,
        };
        requests.max(1)
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Interval, String> {
        let wrong = || format!("`{text}` is neither a count nor 1% to 100%");
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| wrong());
        match text.strip_suffix('%') {
            None => number(text).map(Interval::Requests),
            Some(percent) => match number(percent)? {
                percent @ 1..=100 => Ok(Interval::Percent(percent)),
                _ => Err(wrong()),
            },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Operation {
    Read,
    Write,
    Info,
    Delete,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Pattern {
    /// One after the other
    Seq,
    /// Each once, in an order that the seed decides
    Rand,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Verify {
    /// Any contents
    No,
    /// The first bytes of a block say where it belongs
    Meta,
    /// Every byte of a block is checked
    Full,
}

/// A size with an optional suffix.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        suffix => return Err(format!("`{suffix}` is none of k, m and g")),
    };
    let number: u64 = digits.parse().map_err(|_| "this is no size".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "this is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_count_or_a_share() {
        let of = |text: &str, count| text.parse::<Interval>().map(|i| i.of(count));
        assert_eq!((of("7", 1000), of("5%", 1000)), (Ok(7), Ok(50)));
        assert_eq!((of("0", 10), of("1%", 10)), (Ok(1), Ok(1)));
        assert_eq!(of("100%", u64::MAX), Ok(u64::MAX));
        assert!(of("101%", 1).is_err() && of("%", 1).is_err() && of("x", 1).is_err());
    }

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(
            (bytes("4k"), bytes("4M"), bytes("1g")),
            (Ok(4096), Ok(4 << 20), Ok(1 << 30))
        );
        assert!(bytes("4x").is_err() && bytes("k").is_err() && bytes("99999999999g").is_err());
    }
}
