//! The driver over RADOS against a real cluster.
//!
//! Where the Debian packages of a cluster are missing every story skips itself with one line. What
//! is in a pool is also looked at through Python's `rados` and the `rados` tool.

mod conforming;
mod fencing;
mod locking;
mod objects;
mod racing;
mod rig;
mod trouble;
mod victim;
