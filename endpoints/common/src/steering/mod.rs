//! Mapped volumes as the tools see them: found in the registry, steered over their sockets.
//!
//! - [`presented`]: which volumes are mapped, and by whom;
//! - [`order`]: freeze, thaw, resize, unmap;
//! - [`launch`]: a volume becomes mapped;
//! - [`lock`]: one tool at a time.
//!
//! What always holds: nothing here is told about the node's peers. A directory of the registry
//! whose processes are gone is a leftover; it is passed over, and used again by the next process
//! that takes its place.

pub mod launch;
pub mod lock;
pub mod order;
pub mod presented;

pub use launch::{Wanted, map};
pub use lock::{ToolLock, shared_file};
pub use presented::{Presented, all, leftovers, of_volume};
