//! `archip-nbd`: presents a volume at an NBD address. Started by `vlmc map`.

use std::process::ExitCode;

use archip_nbd::{Arguments, device};
use clap::Parser;
use endpoint::daemon;

fn main() -> ExitCode {
    let options = Arguments::parse().options;
    daemon::run(options, device::revive, device::serve)
}
