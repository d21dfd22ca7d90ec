//! Backends without storage: what a client can do at most, and a volume for tests.

mod memory;
mod null;

pub use memory::{GRAIN_BYTES, MemoryExport};
pub use null::NullExport;
