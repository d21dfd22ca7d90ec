//! The whole configuration of a node, typed.
//!
//! A [`NodeConfig`] comes out of [`NodeConfig::load`] only after every check of `spec/cli.md`
//! section 3 and of ours has passed; what is merely odd is in [`NodeConfig::warnings`].

use std::path::{Path, PathBuf};

use crate::account::{Caller, GroupAccount, UserAccount};
use crate::error::{ConfigError, ErrorKind, Place, Warning};
use crate::ganeti::Ganeti;
use crate::ini::Ini;
use crate::paths::Places;
use crate::ports::PortRange;
use crate::role::Role;
use crate::segment::SegmentSpec;
use crate::{check, read};

/// A configuration file, read and checked.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The file, absolute; relative paths in it start from its directory.
    pub file: PathBuf,
    /// `[ARCHIPELAGO]`.
    pub archipelago: Archipelago,
    /// `[XSEG]`.
    pub xseg: Xseg,
    /// `[GANETI]`.
    pub ganeti: Ganeti,
    /// The roles, in the order of `[PEERS] ROLES`, which is the order of their start.
    pub roles: Vec<Role>,
    /// What is not wrong, but surely not meant.
    pub warnings: Vec<Warning>,
}

/// `[ARCHIPELAGO]`: the node as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archipelago {
    /// `USER`: who the peers run as. Without root it may be absent, or name the caller.
    pub user: UserAccount,
    /// `GROUP`: the group of what they make. Without root it may be absent, or one of the
    /// caller's groups.
    pub group: GroupAccount,
    /// `BLKTAP_ENABLED`: this node presents volumes as devices. The name is the original's.
    pub blktap_enabled: bool,
    /// `UMASK`: the umask of the tools; 007 by default.
    pub umask: u32,
    /// `ENDPOINT`: how a mapped volume is presented.
    pub endpoint: Endpoint,
    /// `RUN_DIR`: pid files, sockets and locks.
    pub run_dir: PathBuf,
    /// `STATE_DIR`: what the node must still know after a reboot.
    pub state_dir: PathBuf,
    /// `LOG_DIR`: logs of peers that name no `logfile`.
    pub log_dir: PathBuf,
    /// `SANDBOX`: after its start a peer opens only its own directories and makes only listed
    /// system calls.
    pub sandbox: bool,
    /// `fence_command`: cuts off another node, by its name, before its volumes are taken over.
    pub fence_command: Option<String>,
}

impl Archipelago {
    /// The directories that the node keeps for itself.
    pub fn places(&self) -> Places {
        Places {
            run_dir: self.run_dir.clone(),
            state_dir: self.state_dir.clone(),
        }
    }
}

/// How a mapped volume is presented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// The best that works here: ublk, the kernel's NBD, FUSE, or an NBD address.
    #[default]
    Auto,
    /// A ublk block device.
    Ublk,
    /// An NBD block device of the kernel.
    NbdKernel,
    /// A file of a FUSE filesystem, with a loop device before it where root allows.
    Fuse,
    /// An address that NBD clients such as QEMU connect to.
    Nbd,
    /// A vhost-user-blk socket for a virtual machine.
    VhostUser,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Endpoint; 6] = [
        Endpoint::Auto,
        Endpoint::Ublk,
        Endpoint::NbdKernel,
        Endpoint::Fuse,
        Endpoint::Nbd,
        Endpoint::VhostUser,
    ];

    /// The word that stands for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Endpoint::Auto => "auto",
            Endpoint::Ublk => "ublk",
            Endpoint::NbdKernel => "nbd-kernel",
            Endpoint::Fuse => "fuse",
            Endpoint::Nbd => "nbd",
            Endpoint::VhostUser => "vhost-user",
        }
    }
}

/// `[XSEG]`: the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xseg {
    /// `SEGMENT_TYPE` (posix), `SEGMENT_NAME` (archipelago), `SEGMENT_DYNPORTS`,
    /// `SEGMENT_PORTS`, `SEGMENT_SIZE` (MiB) and `SEGMENT_ALIGNMENT` (12).
    pub segment: SegmentSpec,
    /// `VTOOL_START`, `VTOOL_END`: ports set aside for tools. Checked, and not used: tools take
    /// dynamic ports.
    pub vtool: PortRange,
}

/// Roles that run in one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process<'a> {
    /// The value of `process`, or the name of the only role.
    pub name: &'a str,
    /// Its roles, in the order of their start.
    pub roles: Vec<&'a Role>,
}

impl NodeConfig {
    /// Reads and checks `file` on behalf of this process.
    ///
    /// Fails with the first thing that is wrong, in the original's order.
    pub fn load(file: &Path) -> Result<NodeConfig, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let place = Place {
                file: file.into(),
                ..Place::default()
            };
            let message = format!("Cannot read config file: {error}");
            ConfigError::new(ErrorKind::Unreadable, place, message).because(error)
        })?;
        NodeConfig::from_text(file, &text, &Caller::current())
    }

    /// Reads and checks `text` as if it stood in `file` and `caller` had asked.
    pub fn from_text(file: &Path, text: &str, caller: &Caller) -> Result<NodeConfig, ConfigError> {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.into());
        let ini = Ini::parse(&absolute, text)?;
        let config = read::node(&ini, caller)?;
        check::relations(&ini, &config)?;
        Ok(config)
    }

    /// Where the segment's holder hands out seats.
    pub fn segment_socket(&self) -> PathBuf {
        let name = &self.xseg.segment.name;
        self.archipelago.run_dir.join(format!("{name}.sock"))
    }

    /// The role of that name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// The processes of the node, in the order of their first role.
    pub fn processes(&self) -> Vec<Process<'_>> {
        let mut processes: Vec<(bool, Process<'_>)> = Vec::new();
        for role in &self.roles {
            let shared = role.process.is_some();
            let name = role.process.as_deref().unwrap_or(&role.name);
            let found = processes
                .iter_mut()
                .find(|(open, process)| *open && process.name == name);
            match found.filter(|_| shared) {
                Some((_, process)) => process.roles.push(role),
                None => processes.push((
                    shared,
                    Process {
                        name,
                        roles: vec![role],
                    },
                )),
            }
        }
        processes.into_iter().map(|(_, process)| process).collect()
    }
}
