//! The command line that endpoint processes share, and what it and the configuration come to.

use crate::backend::{Joiner, Volume};
use crate::error::{Error, ErrorKind};
use client::{Hint, Ports};
use config::NodeConfig;
use std::ffi::OsString;
use std::path::PathBuf;
use xseg::Name;
use xseg::join::Kind;

/// Options of every endpoint process.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The node's configuration file.
    #[arg(long, short, value_name = "FILE", default_value = config::paths::CONFIG_FILE)]
    pub config: PathBuf,
    /// The volume to present.
    #[arg(long, value_name = "NAME")]
    pub volume: String,
    /// Refuse writes.
    #[arg(long)]
    pub readonly: bool,
    /// Take a map without a header for one of version 0.
    #[arg(long)]
    pub assume_v0: bool,
    /// Bytes of such a volume.
    #[arg(long, value_name = "N", requires = "assume_v0")]
    pub v0_size: Option<u64>,
    /// Stay in the foreground and log to the standard error.
    #[arg(long)]
    pub foreground: bool,
    /// Which process of the endpoint this is; the first if not said.
    #[arg(long, hide = true)]
    pub part: Option<Part>,
}

/// The further processes of an endpoint (see [`crate::keeper`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Part {
    /// Holds what must not end with a worker.
    Keeper,
    /// Follows a worker that died.
    Successor,
}

/// What a process needs to know.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The volume.
    pub volume: Volume,
    /// Refuse writes.
    pub readonly: bool,
    /// Where registries, sockets and pid files are.
    pub run_dir: PathBuf,
    /// Where logs are.
    pub log_dir: PathBuf,
    /// Where the segment's holder listens.
    pub socket: PathBuf,
    /// Whose node it is.
    pub uid: u32,
    /// The group that may steer it.
    pub gid: u32,
}

impl Options {
    /// The command line of another process of this endpoint.
    pub fn arguments(&self, part: Part) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["--config".into(), self.config.clone().into()];
        line.extend(["--volume".into(), OsString::from(&self.volume)]);
        let flags = [
            ("--readonly", self.readonly),
            ("--assume-v0", self.assume_v0),
            ("--foreground", self.foreground),
        ];
        line.extend(
            flags
                .iter()
                .filter(|(_, set)| *set)
                .map(|(flag, _)| flag.into()),
        );
        if let Some(size) = self.v0_size {
            line.extend(["--v0-size".into(), size.to_string().into()]);
        }
        let part = match part {
            Part::Keeper => "keeper",
            Part::Successor => "successor",
        };
        line.extend(["--part".into(), part.into()]);
        line
    }

    /// The same with paths that hold whatever the working directory is.
    pub fn absolute(self) -> Options {
        let config = std::path::absolute(&self.config).unwrap_or(self.config);
        Options { config, ..self }
    }

    /// Reads the configuration.
    pub fn load(&self) -> Result<Setting, Error> {
        let wrong = |why: String| Error::new(ErrorKind::Config, why);
        let config = NodeConfig::load(&self.config).map_err(|why| wrong(why.to_string()))?;
        let name = Name::new(self.volume.as_bytes())
            .filter(|name| !name.is_empty())
            .ok_or_else(|| wrong("Invalid volume name".into()))?;
        let ports = ports(&config).ok_or_else(|| {
            wrong(format!(
                "{}: a role of the node is missing",
                config.file.display()
            ))
        })?;
        let hint = Hint {
            assume_v0: self.assume_v0,
            v0_size: self.v0_size,
        };
        let node = &config.archipelago;
        Ok(Setting {
            volume: Volume { name, hint, ports },
            readonly: self.readonly,
            socket: config.segment_socket(),
            run_dir: node.run_dir.clone(),
            log_dir: node.log_dir.clone(),
            uid: node.user.uid,
            gid: node.group.gid,
        })
    }
}

impl Setting {
    /// Takes seats under `name` (for display).
    pub fn joiner(&self, name: &'static str) -> Joiner {
        let socket = self.socket.clone();
        Box::new(move || {
            let joined = xseg::join::connect(&socket, Kind::Client { name })?;
            Ok((joined.seat, Some(joined.connection)))
        })
    }

    /// The volume's name as text.
    pub fn volume_name(&self) -> String {
        String::from_utf8_lossy(self.volume.name.as_bytes()).into_owned()
    }
}

/// Where the tools and endpoints find the peers: by the names of their roles, as in the original
/// (spec/cli.md section 3).
pub fn ports(config: &NodeConfig) -> Option<Ports> {
    let port = |name| config.role(name).map(|role| role.ports.start().0);
    Some(Ports {
        vlmcd: port("vlmcd")?,
        mapperd: port("mapperd")?,
        blockerm: port("blockerm")?,
        blockerb: port("blockerb")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn another_part_is_told_the_same() {
        let line = "p --config /a.conf --volume v --readonly --assume-v0 --v0-size 7 --foreground";
        let options = Line::parse_from(line.split(' ')).options;
        let arguments = options.arguments(Part::Successor);
        let again = Line::parse_from(["p".into()].into_iter().chain(arguments)).options;
        assert_eq!(again.part, Some(Part::Successor));
        let told = Options {
            part: None,
            ..again
        };
        assert_eq!(format!("{told:?}"), format!("{options:?}"));
    }
}
