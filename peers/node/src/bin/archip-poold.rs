//! The lender of static ports, with the command line of the original (spec/cli.md section 4).

use std::process::ExitCode;

fn main() -> ExitCode {
    node::command::run_poold()
}
