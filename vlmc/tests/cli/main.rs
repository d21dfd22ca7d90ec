//! The real tools against a real node in a folder of its own.
//!
//! - `lab`: the node, the tools, and their end
//! - `node`: archipelago; `volumes`: vlmc; `deaths`: killed peers and supervisors
//! - `unlock`: locks that are broken under a holder who writes
//! - `sandbox`: confined peers; `users`: a node that becomes another user's
//! - `mapped`: devices, with an endpoint that the test plays; `segment`: xseg and archip-bench

mod deaths;
mod lab;
mod mapped;
mod node;
mod sandbox;
mod segment;
mod unlock;
mod users;
mod volumes;
