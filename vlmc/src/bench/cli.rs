//! The command line of `archip-bench`. The words in the comments are its help.

use crate::format::Format;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;

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
    #[command(flatten)]
    pub(super) output: Format,
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
    fn sizes_have_suffixes() {
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(
            (bytes("4k"), bytes("4M"), bytes("1g")),
            (Ok(4096), Ok(4 << 20), Ok(1 << 30))
        );
        assert!(bytes("4x").is_err() && bytes("k").is_err() && bytes("99999999999g").is_err());
    }
}
