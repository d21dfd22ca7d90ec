//! What the hardware and the kernel do without us: the floor under our figures.
//!
//! - [`line`]: a number that two processes pass to and fro in one cache line;
//! - [`bell`]: two eventfds that two processes wake each other with;
//! - [`file`]: a file, written and read through an io_uring at a given depth;
//! - [`entry`]: create, write, sync, and sync of the directory.

pub mod bell;
pub mod entry;
pub mod file;
pub mod line;
