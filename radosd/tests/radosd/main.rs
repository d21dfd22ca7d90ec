//! The driver over RADOS against a real cluster.

mod conforming;
mod rig;
