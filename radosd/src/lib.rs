//! The driver over RADOS: objects of a Ceph pool, through librados' asynchronous calls.
//!
//! ```text
//!   submit --plain read or write--> one call --\                        /-> poll
//!          \-everything else: a task of a few calls --> librados' threads
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | [`Config`], [`OpenError`] |
//! | `open` | opening a pool: who we are, which it is, whether we may |
//! | `driver` | [`Radosd`]: the hot path, and what bounds it |
//! | `core` | what tasks share: calls as futures |
//! | `shape`, `content` | creation, zeroes, truncate, copy, delete, info; hash, list |
//! | `table`, `turns` | what is in flight; whose turn it is with an object |
//! | `timeouts`, `notes` | an OSD that does not answer, where `ceph.conf` sets a limit |
//! | `completions` | from librados' threads to ours |
//! | `address` | whom an address names |
//! | `client` | [the client instance](client::Client) that the roles of a process share |
//! | `locks` | locks that fence |
//! | `hash` | the order of a pool's objects |
//! | `sys` | librados, all of it |
//!
//! What always holds: what RADOS has answered is durable, so a sync only asks whether we are still
//! let in, and whether the lock is still ours. Without the feature `rados` this crate is empty.
#![cfg(feature = "rados")]

mod address;
mod client;
mod completions;
mod config;
mod content;
mod core;
mod driver;
mod hash;
mod locks;
mod notes;
mod open;
mod shape;
mod sys;
mod table;
mod timeouts;
mod turns;

pub use config::{Config, OpenError};
pub use driver::Radosd;
pub use locks::fuzz;
