//! The command line of `vlmc`. The words in the comments are its help.

use crate::arguments::NodeFile;
use crate::format::Format;
use clap::{Args, Parser, Subcommand};
use client::Hint;
use std::ffi::OsString;
use std::path::PathBuf;

/// Make, look at and present the volumes of this Archipelago node
#[derive(Debug, Parser)]
#[command(name = "vlmc", version, infer_long_args = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) node: NodeFile,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a volume, blank or from a snapshot
    Create(Create),
    /// Freeze a read-only copy of a volume under a new name
    Snapshot(Snapshot),
    /// Make a volume from a snapshot
    Clone(Clone),
    /// Remove a volume or snapshot
    Remove(Named),
    /// Remove a volume or snapshot
    #[command(hide = true)]
    Rm(Named),
    /// Rename a volume
    Rename(Rename),
    /// Change the size of a volume
    Resize(Resize),
    /// Print the size of a volume
    Info(Shown),
    /// Print everything that is known about a volume
    Status(Shown),
    /// Print the names of all volumes and snapshots
    List(Listed),
    /// Print the names of all volumes and snapshots
    #[command(hide = true)]
    Ls(Listed),
    /// Take a volume for this node
    Open(Named),
    /// Give a volume back, after a flush
    Close(Named),
    /// Take the lock of a volume, or show who holds it
    Lock(Lock),
    /// Give the lock of a volume back, or break it
    Unlock(Unlock),
    /// Present a volume as a device, and print its path or URI
    Map(Map),
    /// Take a device away
    Unmap(Unmap),
    /// Print which volumes are presented as which devices
    Showmapped(Listed),
    /// Turn a snapshot into an object of hashes, and print its name
    Hash(Named),
    /// Make a volume from a file
    Import(Import),
    /// Write a volume into a file
    Export(Export),
    /// Look for what is wrong with volumes
    Check(Check),
    /// Move everything that older releases left to where new objects are made
    Migrate(Migrate),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What is known of a volume of the oldest format.
#[derive(Debug, Args)]
pub(super) struct Old {
    /// Take a map without a header for one of the oldest format (also -v0)
    #[arg(long = "assume_v0", alias = "assume-v0")]
    assume_v0: bool,
    /// Size of such a volume in bytes
    #[arg(
        long = "v0_size", alias = "v0-size", value_name = "BYTES", default_value_t = -1,
        allow_negative_numbers = true, hide_default_value = true
    )]
    v0_size: i64,
}

impl Old {
    /// For the requests.
    pub(super) fn hint(&self) -> Hint {
        Hint {
            assume_v0: self.assume_v0,
            v0_size: self.size(),
        }
    }

    fn size(&self) -> Option<u64> {
        u64::try_from(self.v0_size).ok()
    }
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// The volume
    pub(super) name: OsString,
    #[command(flatten)]
    pub(super) old: Old,
}

#[derive(Debug, Args)]
pub(super) struct Shown {
    /// The volume
    pub(super) name: OsString,
    #[command(flatten)]
    pub(super) old: Old,
    #[command(flatten)]
    pub(super) output: Format,
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    #[command(flatten)]
    pub(super) output: Format,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The new volume
    pub(super) name: OsString,
    /// Its size in MiB; that of the snapshot if not given
    #[arg(short, long, value_name = "MB")]
    pub(super) size: Option<u64>,
    /// The snapshot that it starts from
    #[arg(long, value_name = "SNAP")]
    pub(super) snap: Option<OsString>,
    #[command(flatten)]
    pub(super) old: Old,
}

#[derive(Debug, Args)]
pub(super) struct Snapshot {
    /// The volume
    pub(super) name: OsString,
    /// The new snapshot
    pub(super) snapshot: OsString,
    #[command(flatten)]
    pub(super) old: Old,
}

#[derive(Debug, Args)]
pub(super) struct Clone {
    /// The snapshot
    pub(super) snapshot: OsString,
    /// The new volume
    pub(super) name: OsString,
    /// Its size in MiB; that of the snapshot if not given
    #[arg(short, long, value_name = "MB")]
    pub(super) size: Option<u64>,
    #[command(flatten)]
    pub(super) old: Old,
}

#[derive(Debug, Args)]
pub(super) struct Rename {
    /// The volume
    pub(super) name: OsString,
    /// Its new name
    pub(super) new: OsString,
    #[command(flatten)]
    pub(super) old: Old,
}

#[derive(Debug, Args)]
pub(super) struct Resize {
    /// The volume
    pub(super) name: OsString,
    /// Its new size in MiB
    #[arg(short, long, value_name = "MB")]
    pub(super) size: u64,
    /// Allow the volume to lose its end
    #[arg(long)]
    pub(super) allow_shrink: bool,
    #[command(flatten)]
    pub(super) old: Old,
}

#[derive(Debug, Args)]
pub(super) struct Lock {
    /// The volume
    pub(super) name: OsString,
    /// Only show who holds it
    #[arg(long)]
    pub(super) show: bool,
    #[command(flatten)]
    pub(super) output: Format,
}

#[derive(Debug, Args)]
pub(super) struct Unlock {
    /// The volume
    pub(super) name: OsString,
    /// Break the lock, whoever holds it
    #[arg(short, long)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Map {
    /// The volume
    pub(super) name: OsString,
    /// Present it read-only (also -ro)
    #[arg(long)]
    pub(super) readonly: bool,
    #[command(flatten)]
    pub(super) old: Old,
}

#[derive(Debug, Args)]
pub(super) struct Unmap {
    /// What `map` printed, or the volume's name
    pub(super) device: String,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file, or - for standard input
    pub(super) file: PathBuf,
    /// The new volume, as large as the file
    pub(super) name: OsString,
    /// Write over the beginning of an existing volume instead of making a new one
    #[arg(long)]
    pub(super) existing: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The volume or snapshot
    pub(super) name: OsString,
    /// The file, or - for standard output; zeros become holes
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) old: Old,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The volume; all volumes if not given
    pub(super) name: Option<OsString>,
    /// Mend what can be mended without a risk
    #[arg(long)]
    pub(super) repair: bool,
    #[command(flatten)]
    pub(super) output: Format,
}

/// What lies where Pithos and Archipelago 0.3 kept it (blocks and maps by their hash, names that
/// begin with `archip_`) is moved to where new objects are made, and maps of version 1 become
/// version 2, without waiting until somebody uses them. Guests and nodes go on meanwhile; it can be
/// stopped and run again at any time. It needs pithos_migrate = True, which is for when no node of
/// an older release serves this storage any more.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Everything in this node's storage
    #[arg(long, required = true)]
    pub(super) all: bool,
    /// Only count what would be moved
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Maps of version 0 to upgrade too: lines of a map's name and its size in bytes, as Pithos
    /// knows them (columns mapfile and size of its table versions)
    #[arg(long = "v0_sizes", alias = "v0-sizes", value_name = "FILE")]
    pub(super) v0_sizes: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: Format,
}
