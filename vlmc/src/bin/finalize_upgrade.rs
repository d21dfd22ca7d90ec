//! `finalize_upgrade_0.4`, installed under that name: upgrades what Archipelago 0.3 left.

use std::process::ExitCode;

fn main() -> ExitCode {
    vlmc::finalize::main(std::env::args_os())
}
