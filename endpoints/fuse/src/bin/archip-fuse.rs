//! `archip-fuse`: presents a volume as a loop device. Started by `vlmc map`.

use archip_fuse::Arguments;
use clap::Parser;
use endpoint::daemon;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Arguments::parse().options;
    daemon::run(options.foreground, |ready| {
        archip_fuse::device::serve(&options.load()?, ready)
    })
}
