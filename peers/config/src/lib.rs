//! The configuration of a node: what its file says, what its peers' command lines say, and
//! the segment that both name.
//!
//! | module | what it holds |
//! |---|---|
//! | [`node`] | [`NodeConfig`]: the whole file, typed; [`Process`]: which roles run together |
//! | [`role`] | [`Role`]: one peer, whether a file or a command line described it |
//! | [`ganeti`] | [`Ganeti`]: what Ganeti's scripts and hooks need besides |
//! | [`segment`] | [`SegmentSpec`]: `TYPE:NAME:DYNPORTS:PORTS:SIZE_MB:ALIGN` |
//! | [`ports`] | [`PortNo`] and [`PortRange`] |
//! | [`account`] | who runs the node: users, groups, and what a caller without root may name |
//! | [`error`] | [`ConfigError`]: a kind to match on, and one sentence with file, section and key |
//! | [`args`] | the peers' own command lines: read, and written for a supervisor |
//! | [`sample`] | a small node's configuration as text |
//! | [`mod@fuzz`] | what is read, as plain functions of bytes |
//! | [`paths`] | where things are when nothing says so |
//!
//! The file is the original's INI dialect. Every key, its default and its checks stand beside
//! the field that it fills; there is no second list of keys: what no reader asks for is unknown,
//! and becomes a [`Warning`].

pub mod account;
pub mod args;
pub mod error;
pub mod fuzz;
pub mod ganeti;
pub mod node;
pub mod paths;
pub mod ports;
pub mod role;
pub mod sample;
pub mod segment;

mod check;
mod ini;
mod literal;
mod read;
mod read_role;

pub use account::Caller;
pub use error::{ConfigError, ErrorKind, Place, Warning};
pub use ganeti::{Ganeti, VolumeNaming};
pub use node::{Archipelago, Endpoint, NodeConfig, Process, Xseg};
pub use ports::{PortNo, PortRange};
pub use role::{
    FileBlocker, HashAlgorithm, LOCK_TTL_S_DEFAULT, Mapperd, Poold, RadosBlocker, Role, RoleKind,
    Vlmcd,
};
pub use sample::{SampleParams, SampleRados, sample_config};
pub use segment::{SegmentSpec, SegmentType};
