//! `archipelago`: start, stop and look at this node.

use std::process::ExitCode;

fn main() -> ExitCode {
    vlmc::node_tool::main(std::env::args_os())
}
