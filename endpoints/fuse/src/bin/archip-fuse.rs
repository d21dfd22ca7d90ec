//! `archip-fuse`: presents a volume as a loop device. Started by `vlmc map`.

use archip_fuse::device;
use clap::Parser;
use endpoint::{Options, daemon};
use std::process::ExitCode;

/// Present a volume as a block device (FUSE and a loop device) and print the device's path.
///
/// The process stays behind as a daemon until the device is unmapped with `vlmc unmap`.
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
