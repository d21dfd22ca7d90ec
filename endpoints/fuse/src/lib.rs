//! A volume as a block device: a FUSE filesystem of one file, and a loop device before it.
//!
//! ```text
//!  filesystem, VM -> /dev/loopN -> file of a FUSE mount -> this process -> segment -> vlmcd
//! ```
//! | module | what it is |
//! |---|---|
//! | [`device`] | the device's life, from the first to the last step |
//! | `session` | the thread that serves the kernel |
//! | `abi` | the messages of `/dev/fuse` |
//! | `mount` | the filesystem's mount, which has no place in any directory |
//! | `disk` | the loop device |
//! | `in_use` | who uses a device |
//! | [`mod@fuzz`] | the requests of `/dev/fuse`, as a plain function of bytes |
//!
//! If this process is killed, the loop device answers every request with EIO. A supervisor that
//! keeps `/dev/fuse` open could hand it to a successor (`FUSE_NOTIFY_RESEND`, Linux 6.9); until
//! one does, the process protects itself as well as it can ([`endpoint::memory`]).

mod abi;
mod arguments;
pub mod device;
mod disk;
pub mod fuzz;
mod in_use;
mod mount;
mod session;

pub use arguments::Arguments;
