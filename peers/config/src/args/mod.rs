//! The peers' own command lines (`spec/cli.md` section 4).
//!
//! [`parse`] reads what `archip-filed` and the others are called with, into the same [`Role`]
//! that a file gives; [`command_line`] writes it for whoever starts them. What is written is
//! read back as the same role, but for `process`, which means nothing to a peer alone. Options
//! that the original's peers did not know are at their defaults unless they differ.

mod options;
mod rewrite;
mod to_role;
mod write;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser;

pub use rewrite::rewrite_single_dash;
pub use write::command_line;

use crate::node::NodeConfig;
use crate::ports::PortNo;
use crate::role::{Role, RoleKind};
use crate::segment::SegmentSpec;

/// The five executables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executable {
    /// `archip-filed`
    Filed,
    /// `archip-radosd`
    Radosd,
    /// `archip-mapperd`
    Mapperd,
    /// `archip-vlmcd`
    Vlmcd,
    /// `archip-poold`
    Poold,
}

impl Executable {
    /// All of them.
    pub const ALL: [Executable; 5] = [
        Executable::Filed,
        Executable::Radosd,
        Executable::Mapperd,
        Executable::Vlmcd,
        Executable::Poold,
    ];

    /// The file name.
    pub fn name(self) -> &'static str {
        match self {
            Executable::Filed => "archip-filed",
            Executable::Radosd => "archip-radosd",
            Executable::Mapperd => "archip-mapperd",
            Executable::Vlmcd => "archip-vlmcd",
            Executable::Poold => "archip-poold",
        }
    }

    /// The executable that plays a role of this kind.
    pub fn of(kind: &RoleKind) -> Executable {
        match kind {
            RoleKind::FileBlocker(_) => Executable::Filed,
            RoleKind::RadosBlocker(_) => Executable::Radosd,
            RoleKind::Mapperd(_) => Executable::Mapperd,
            RoleKind::Vlmcd(_) => Executable::Vlmcd,
            RoleKind::Poold(_) => Executable::Poold,
        }
    }

    /// The executable that `argv[0]` names, by its last part.
    pub fn from_argv0(argv0: &OsStr) -> Option<Executable> {
        let name = Path::new(argv0).file_name()?;
        Executable::ALL
            .into_iter()
            .find(|executable| name == executable.name())
    }

    /// The role's name when no `-r` tells it.
    pub(crate) fn role_name(self) -> &'static str {
        self.name().trim_start_matches("archip-")
    }
}

/// What a peer's command line says besides the role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generic {
    /// `-d`: go to the background once the peer is up.
    pub daemonize: bool,
    /// `-g`: the segment; always there, except that poold needs none.
    pub segment: Option<SegmentSpec>,
    /// `-uid`: who to become.
    pub uid: Option<u32>,
    /// `-gid`: the group to join; without it the user's own.
    pub gid: Option<u32>,
    /// `--cpus`: the processors of the peer's threads, one each; empty leaves the choice to the
    /// kernel.
    pub cpus: Vec<usize>,
    /// `-dp`: the port that requests go on to which would block.
    pub blocking_port: Option<PortNo>,
    /// `--sandbox`: confine the process before it serves.
    pub sandbox: bool,
}

impl Generic {
    /// What a peer of this node is started with.
    pub fn of(config: &NodeConfig, daemonize: bool) -> Generic {
        Generic {
            daemonize,
            segment: Some(config.xseg.segment.clone()),
            uid: Some(config.archipelago.user.uid),
            gid: Some(config.archipelago.group.gid),
            sandbox: config.archipelago.sandbox,
            ..Generic::default()
        }
    }
}

/// A peer's command line, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCommand {
    /// What to be.
    pub role: Role,
    /// How to run.
    pub generic: Generic,
}

/// Reads the command line of `executable`; `args` begins with `argv[0]`.
///
/// An error may also be the help that was asked for: `clap::Error::exit` does right by both.
/// Relative paths are resolved against the current directory.
pub fn parse(
    executable: Executable,
    args: impl IntoIterator<Item = OsString>,
) -> Result<PeerCommand, clap::Error> {
    match executable {
        Executable::Filed => read::<options::Filed>(args),
        Executable::Radosd => read::<options::Radosd>(args),
        Executable::Mapperd => read::<options::Mapperd>(args),
        Executable::Vlmcd => read::<options::Vlmcd>(args),
        Executable::Poold => read::<options::Poold>(args),
    }
}

/// The command line of `executable`, for man pages and completions.
pub fn command(executable: Executable) -> clap::Command {
    use clap::CommandFactory;
    match executable {
        Executable::Filed => options::Filed::command(),
        Executable::Radosd => options::Radosd::command(),
        Executable::Mapperd => options::Mapperd::command(),
        Executable::Vlmcd => options::Vlmcd::command(),
        Executable::Poold => options::Poold::command(),
    }
}

fn read<T>(args: impl IntoIterator<Item = OsString>) -> Result<PeerCommand, clap::Error>
where
    T: Parser + TryInto<PeerCommand, Error = String>,
{
    let args = rewrite_single_dash(args, options::SINGLE_DASH);
    let mut command = T::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let parsed = T::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    parsed
        .try_into()
        .map_err(|message| command.error(clap::error::ErrorKind::ValueValidation, message))
}

#[cfg(test)]
mod tests;
