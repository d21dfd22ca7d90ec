//! `archip-nbd`: presents a volume at an NBD address. Started by `vlmc map`.

use std::process::ExitCode;

use archip_nbd::device;
use clap::Parser;
use endpoint::{Options, daemon};

/// Present a volume to NBD clients such as QEMU, and print the address.
///
/// The process stays behind as a daemon until the volume is unmapped with `vlmc unmap`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let options = Arguments::parse().options;
    daemon::run(options, device::revive, device::serve)
}
