//! The command line of `archipelago`. The words in the comments are its help.

use crate::arguments::NodeFile;
use crate::format::Format;
use clap::{Args, Parser, Subcommand};

/// Start, stop and look at this Archipelago node
#[derive(Debug, Parser)]
#[command(name = "archipelago", version, infer_long_args = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) node: NodeFile,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the node, or one role of it
    Start(Start),
    /// Stop the node, or one role of it
    Stop(Stop),
    /// Stop and start; mapped volumes wait meanwhile
    Restart(Restart),
    /// Print what runs: exit status 0 all roles, 1 some, 3 none, 4 unknown
    Status(Status),
    /// Hold the segment and watch over the peers
    #[command(hide = true)]
    Supervise(Supervise),
}

#[derive(Debug, Default, Args)]
pub(super) struct Start {
    /// Stay in the foreground as the node's supervisor (for systemd and containers)
    #[arg(long, conflicts_with = "role")]
    pub(super) foreground: bool,
    /// Only this role, and those that share its process
    pub(super) role: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Freeze mapped volumes: their requests wait for the next start; and kill what does not end
    #[arg(short, long, visible_alias = "pause")]
    pub(super) force: bool,
    /// Unmap mapped volumes
    #[arg(long, conflicts_with = "force")]
    pub(super) unmap: bool,
    /// Only this role, and those that share its process
    pub(super) role: Option<String>,
}

impl Stop {
    /// `stop --force`.
    pub(super) fn forced() -> Stop {
        Stop {
            force: true,
            unmap: false,
            role: None,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Restart {
    /// Only this role, and those that share its process
    pub(super) role: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) output: Format,
}

#[derive(Debug, Args)]
pub(super) struct Supervise {
    /// Start only this role
    #[arg(long)]
    pub(super) only: Option<String>,
}
