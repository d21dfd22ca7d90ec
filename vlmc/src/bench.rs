//! `archip-bench`: how fast a port or a volume answers, and whether it answers right.
//!
//! - `cli`: the command line, in the original's spelling
//! - `plan`: which requests, in which order
//! - `content`: what blocks hold, so that a later run can tell
//! - `run`: keeping so many requests under way
//! - `stats`: rates and percentiles

mod cli;
mod content;
mod plan;
mod run;
mod stats;

use crate::arguments::parse;
use crate::failure::{self, Failure, say, say_json};
use clap::CommandFactory;
use cli::{Cli, YesNo};
use config::{NodeConfig, SegmentSpec};
use plan::Plan;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use xseg::protocol::PortNo;

/// The original's options with one dash and more than one letter.
const SINGLE_DASH: &[(&str, &str)] = &[
    ("-op", "--operation"),
    ("-tp", "--target-port"),
    ("-to", "--objects"),
    ("-ts", "--total"),
    ("-os", "--object-size"),
    ("-bs", "--block-size"),
    ("-rc", "--requests"),
];

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the tool with these arguments, the first of which is its own name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    failure::exit(bench(&parse(args, SINGLE_DASH)))
}

/// Where the segment is handed out, and the port to ask.
struct Target {
    socket: PathBuf,
    port: PortNo,
}

fn bench(cli: &Cli) -> Result<(), Failure> {
    let target = target(cli)?;
    let mut bench = run::Bench::join(&target, cli)?;
    if cli.ping == YesNo::Yes {
        bench.ping()?;
    }
    let whole = cli.volume.as_ref().map(|_| bench.size()).transpose()?;
    let plan = Plan::new(cli, whole).map_err(Failure::new)?;
    let report = bench.run(&plan)?;
    match cli.output.is_json() {
        true => say_json(&report)?,
        false => say(&report)?,
    }
    match report.failed + report.wrong {
        0 => Ok(()),
        count => Err(Failure::new(format!(
            "{count} of {} requests went wrong",
            plan.count()
        ))),
    }
}

fn target(cli: &Cli) -> Result<Target, Failure> {
    let missing = "which port? Give -tp PORT, or --volume NAME with --config FILE";
    if let Some(file) = &cli.config {
        let config = NodeConfig::load(file).map_err(Failure::new)?;
        let vlmcd = config.role("vlmcd").filter(|_| cli.volume.is_some());
        let port = cli.target_port.or(vlmcd.map(|role| role.ports.start().0));
        return Ok(Target {
            socket: node::supervisor::segment_socket(&config),
            port: port.ok_or_else(|| Failure::new(missing))?,
        });
    }
    let spec: SegmentSpec = cli.segment.parse().map_err(Failure::new)?;
    let socket = config::paths::default_run_dir().join(format!("{}.sock", spec.name));
    let port = cli.target_port.ok_or_else(|| Failure::new(missing))?;
    Ok(Target { socket, port })
}
