//! A node put together: the peers of one process on one reactor.
//!
//! - [`process`]: a peer process: joins the segment, drains, recovers, serves, stops;
//! - [`command`]: the peers' executables, from a command line to a running process;
//! - [`log`]: where a peer's log goes;
//! - [`embedded`]: all peers inside the caller's process, over files or in memory;
//! - [`engine`]: the production loop: a host of peers on one ring;
//! - [`roles`]: from the description of a role to a peer;
//! - [`sandbox`]: what a confined process may still do;
//! - `served`: which directories and pools this node has served, remembered across reboots;
//! - `pools`: the RADOS driver of a blocker (with the feature `rados`);
//! - [`poold`]: the lender of static ports, a program of its own;
//! - [`pidfile`]: pid files, made exclusively, removed last;
//! - [`supervisor`]: the one small process that holds the segment and starts the others.

pub mod command;
pub mod embedded;
pub mod engine;
pub mod log;
pub mod pidfile;
pub mod poold;
#[cfg(feature = "rados")]
mod pools;
pub mod process;
pub mod roles;
pub mod sandbox;
mod served;
pub mod supervisor;

pub use embedded::{Embedded, Storage};
