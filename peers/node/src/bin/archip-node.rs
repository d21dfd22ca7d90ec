//! A process of one or more roles, as a node's configuration says.

use clap::Parser;
use node::command::{ProcessArguments, run_process};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = ProcessArguments::parse();
    run_process(&arguments.config, &arguments.process)
}
