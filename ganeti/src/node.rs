//! The node of this host: its configuration, its registry of mapped volumes, and a place at it
//! for whoever needs to ask.

use crate::environment::Environment;
use crate::failure::Failure;
use crate::names::{DiskNames, existing};
use crate::notes::Notes;
use client::{Client, ErrorKind, Hint};
use config::NodeConfig;
use config::paths::{CONFIG_FILE, CONFIG_FILE_VARIABLE};
use endpoint::options::ports;
use endpoint::steering::{self, Presented};
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::path::Path;

/// What the process is called at the segment.
const NAME: &str = "ganeti";

/// A node, as its configuration describes it.
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    client: OnceCell<Client>,
}

impl Node {
    /// Reads the configuration, and sets this process's umask as it says.
    pub(crate) fn load(environment: &Environment) -> Result<Node, Failure> {
        let file = environment.raw(CONFIG_FILE_VARIABLE);
        let file = Path::new(file.unwrap_or(OsStr::new(CONFIG_FILE)));
        // What is odd in the file is told at each start of the node.
        let config = NodeConfig::load(file).map_err(Failure::archipelago)?;
        let umask = nix::sys::stat::Mode::from_bits_truncate(config.archipelago.umask);
        nix::sys::stat::umask(umask);
        Ok(Node {
            config,
            client: OnceCell::new(),
        })
    }

    /// Where runtime files are.
    pub(crate) fn run_dir(&self) -> &Path {
        &self.config.archipelago.run_dir
    }

    /// What it remembers of names.
    pub(crate) fn notes(&self) -> Notes {
        Notes::of(self.run_dir())
    }

    /// A place at the running node, taken when it is first needed.
    pub(crate) fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let ports = ports(&self.config).ok_or_else(|| {
            let why = "the roles blockerb, blockerm, mapperd and vlmcd are needed";
            Failure::archipelago(format_args!("{}: {why}", self.config.file.display()))
        })?;
        let client = Client::connect(&self.config.segment_socket(), ports, NAME);
        let client = client.map_err(Failure::archipelago)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Where a volume is mapped here.
    pub(crate) fn mapped(&self, volume: &str) -> Result<Option<Presented>, Failure> {
        Ok(steering::of_volume(self.run_dir(), volume)?)
    }

    /// Whether there is such a volume. One that is mapped here is there.
    pub(crate) fn exists(&self, volume: &str) -> Result<bool, Failure> {
        if self.mapped(volume)?.is_some() {
            return Ok(true);
        }
        match self.client()?.info(existing(volume)?, Hint::default()) {
            Ok(_) => Ok(true),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(false),
            Err(why) => Err(Failure::archipelago(why)),
        }
    }

    /// The name of the volume of a disk; `fresh`: it is about to be made.
    pub(crate) fn volume<'d>(&self, disk: &'d DiskNames, fresh: bool) -> Result<&'d str, Failure> {
        let naming = self.config.ganeti.volume_name;
        disk.volume(naming, fresh, |name| self.exists(name))
    }
}

/// The disk that a script is called for.
pub(crate) fn disk(environment: &Environment) -> Result<DiskNames, Failure> {
    Ok(DiskNames {
        id: environment.need("VOL_NAME")?.to_owned(),
        cname: environment.get("VOL_CNAME")?.map(str::to_owned),
    })
}
