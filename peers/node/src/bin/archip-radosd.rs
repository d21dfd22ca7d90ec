//! One role as a process of its own, with the command line of the original (spec/cli.md section 4).

use std::process::ExitCode;

fn main() -> ExitCode {
    node::command::run_role(config::args::Executable::Radosd)
}
