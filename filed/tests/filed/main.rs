//! The driver over files against real filesystems.
//!
//! Every story runs on the disk's temporary directory and on `/dev/shm`, with and without O_DIRECT.
//! Those of `power` have a disk of their own, which loses its power.

mod allocations;
mod conforming;
mod crash;
mod deaths;
mod files;
mod full;
mod locking;
mod migration;
mod model;
mod power;
mod rig;
