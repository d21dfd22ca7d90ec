//! `archip-fuse`: presents a volume as a loop device. Started by `vlmc map`.

use archip_fuse::{Arguments, device};
use clap::Parser;
use endpoint::daemon;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Arguments::parse().options;
    daemon::run(options, device::revive, device::serve)
}
