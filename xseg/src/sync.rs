//! The one place where atomics come from, so that loom can replace them.
//!
//! Everything that two processes may touch at once is built of these types; nothing else in the
//! crate names `std::sync::atomic`.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
