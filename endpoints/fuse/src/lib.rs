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
//! If this process is killed, its keeper ([`endpoint::keeper`]) has `/dev/fuse` open as well: it
//! asks the kernel to send again what was not answered (`FUSE_NOTIFY_RESEND`, Linux 6.9) and
//! starts a successor. On an older kernel, or when both are killed at once, the loop device answers
//! every request with EIO; so both protect themselves as well as they can ([`endpoint::memory`]).

mod abi;
mod arguments;
pub mod device;
mod disk;
pub mod fuzz;
mod in_use;
mod mount;
mod session;

pub use arguments::Arguments;
