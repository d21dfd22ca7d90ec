//! `archip-bench`: how fast a port or a volume answers.

use std::process::ExitCode;

fn main() -> ExitCode {
    vlmc::bench::main(std::env::args_os())
}
