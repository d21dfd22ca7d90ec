//! `vlmc`: make, look at and present the volumes of this node.

use std::process::ExitCode;

fn main() -> ExitCode {
    vlmc::volumes::main(std::env::args_os())
}
