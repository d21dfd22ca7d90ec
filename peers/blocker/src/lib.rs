//! The blocker: a peer between its port and a storage driver.
//!
//! ```text
//!  request --check once--> Op --submit--> driver --poll--> Done --> answer
//!              |                                             |
//!              +-- fence older, lease aged: ESTALE           +-- fences waiting on the tag
//! ```
//! What always holds:
//! - A request is checked here once; a driver sees only sane names, ranges inside the segment and
//!   lengths that fit.
//! - Each request is answered exactly once, after nothing of it can land any more.
//! - A data write that names a lease is submitted only if the lease is younger than this
//!   instance, than every fence of its tag, and than [`runtime::LeaseTerm`].
//! - A map write under a lock is submitted only while the lock file is still there.
//! - A client's own write (public region) is durable when answered; only peers may ask for less.
//! - Who waits for a lock holds up nobody: neither a thread nor a place in the table of operations.
//!
//! - [`parse`]: from a request to an operation;
//! - [`fence`]: leases and fences;
//! - [`waiters`]: those who wait for a lock;
//! - [`reply`]: from a driver's answer to the bytes of a reply;
//! - [`peer`]: the peer.

mod fence;
mod parse;
mod peer;
mod reply;
mod waiters;

pub use parse::HashWith;
pub use peer::{Blocker, Settings};
pub use reply::{Left, LockReport, MoveReport};
