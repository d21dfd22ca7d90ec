//! The real tools against a real node in a folder of its own.
//!
//! - `lab`: the node, over files or over pools of a cluster, the tools, and their end
//! - `node`: archipelago; `volumes`: vlmc; `deaths`: killed peers and supervisors
//! - `unlock`: locks that are broken under a holder who writes
//! - `sandbox`: confined peers
//! - `rados`: what only a cluster has
//! - `mapped`: devices, with an endpoint that the test plays; `segment`: xseg and archip-bench

#[macro_use]
extern crate rados_lab;

mod deaths;
mod lab;
mod mapped;
mod node;
#[cfg(feature = "rados")]
mod rados;
mod sandbox;
mod segment;
mod unlock;
mod volumes;

use lab::Storage;
