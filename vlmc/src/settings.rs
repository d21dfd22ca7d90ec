//! The node that a tool works on: its configuration, and a place at its table.

use crate::failure::Failure;
use client::{Client, Ports};
use config::NodeConfig;
use std::fs::File;
use std::io;
use std::path::Path;
use xseg::join::JoinError;

/// A node, as its configuration describes it.
pub(crate) struct Settings {
    /// The configuration.
    pub(crate) config: NodeConfig,
}

impl Settings {
    /// Reads the configuration, and sets this process's umask as it says.
    pub(crate) fn load(file: &Path) -> Result<Settings, Failure> {
        let config = NodeConfig::load(file).map_err(Failure::new)?;
        for warning in &config.warnings {
            eprintln!("{warning}");
        }
        let umask = nix::sys::stat::Mode::from_bits_truncate(config.archipelago.umask);
        nix::sys::stat::umask(umask);
        Ok(Settings { config })
    }

    /// Where runtime files are.
    pub(crate) fn run_dir(&self) -> &Path {
        &self.config.archipelago.run_dir
    }

    /// Opens a file of the node to append to. It belongs to the node's user and group, whoever
    /// makes it.
    pub(crate) fn shared_file(&self, path: &Path) -> io::Result<File> {
        endpoint::steering::shared_file(&self.config, path)
    }

    /// Where the four roles serve that the tools know by name.
    pub(crate) fn ports(&self) -> Result<Ports, Failure> {
        node::embedded::ports(&self.config.roles).ok_or_else(|| {
            Failure::new("the tools need the roles blockerb, blockerm, mapperd and vlmcd")
        })
    }

    /// A place at the running node.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.connect()?.map_err(Failure::new)
    }

    /// The same, but lets the caller look into why there is none.
    pub(crate) fn connect(&self) -> Result<Result<Client, JoinError>, Failure> {
        let socket = self.config.segment_socket();
        Ok(Client::connect(&socket, self.ports()?, "vlmc"))
    }

    /// `Blktap module is disabled.`, unless this node presents volumes as devices.
    pub(crate) fn needs_devices(&self) -> Result<(), Failure> {
        match self.config.archipelago.blktap_enabled {
            true => Ok(()),
            false => Err(Failure::new("Blktap module is disabled.")),
        }
    }
}
