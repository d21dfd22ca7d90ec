//! The command line of `archip-nbd`, from which its help, man page and completions are made.

use endpoint::Options;

/// Present a volume to NBD clients such as QEMU, and print the address.
///
/// The process stays behind as a daemon until the volume is unmapped with `vlmc unmap`.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Arguments {
    /// What every endpoint process takes.
    #[command(flatten)]
    pub options: Options,
}
