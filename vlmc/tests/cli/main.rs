//! The real tools against a real node in a folder of its own.
//!
//! - `lab`: the node, over files or over pools of a cluster, the tools, and their end
//! - `node`: archipelago; `volumes`: vlmc; `deaths`: killed peers and supervisors
//! - `unlock`: locks that are broken under a holder who writes
//! - `sandbox`: confined peers; `users`: a node that becomes another user's
//! - `rados`: what only a cluster has
//! - `old_tree`: what older releases left; `migrate`: it moves; `finalize`: the end of an upgrade;
//!   `bad_maps`: what is wrong with it is said, and nothing is changed
//! - `mapped`: devices, with an endpoint that the test plays; `segment`: xseg and archip-bench

#[macro_use]
extern crate rados_lab;

mod bad_maps;
mod deaths;
mod finalize;
mod lab;
mod mapped;
mod migrate;
mod node;
mod old_tree;
#[cfg(feature = "rados")]
mod rados;
mod sandbox;
mod segment;
mod unlock;
mod users;
mod volumes;

use lab::Storage;
