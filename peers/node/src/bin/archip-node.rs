//! A process of one or more roles, as a node's configuration says.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run one process of a node: all roles whose sections name it.
#[derive(Parser)]
#[command(name = "archip-node", version)]
struct Arguments {
    /// The node's configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Which process
    #[arg(long, value_name = "NAME")]
    process: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    node::command::run_process(&arguments.config, &arguments.process)
}
