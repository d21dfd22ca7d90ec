//! The driver over files against real filesystems.
//!
//! Every story runs on the disk's temporary directory and on `/dev/shm`, with and without O_DIRECT.

mod conforming;
mod crash;
mod files;
mod locking;
mod model;
mod rig;
