//! The command line of `archip-fuse`, from which its help, man page and completions are made.

use endpoint::Options;

/// Present a volume as a block device (FUSE and a loop device) and print the device's path.
///
/// The process stays behind as a daemon until the device is unmapped with `vlmc unmap`.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Arguments {
    /// What every endpoint process takes.
    #[command(flatten)]
    pub options: Options,
}
