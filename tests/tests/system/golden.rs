//! The product against what the original wrote and did (`spec/observed.md`, `spec/protocol.md`).
//!
//! - [`reading`]: every golden tree reads as the original read it;
//! - [`afterwards`]: what the embedded node's main job leaves;
//! - [`replay`]: what was done to the golden trees, done by us, leaves the same trees;
//! - [`locks`]: another node's lock files, and ours;
//! - [`behaviour`]: what the original's own tests relied on, of volumes;
//! - [`objects`]: the same, of objects at a blocker;
//! - [`refusals`]: unknown operations, and requests whose lengths lie;
//! - [`badmaps`]: files that are no maps, where maps should be.

mod afterwards;
pub(crate) mod badmaps;
mod behaviour;
mod locks;
mod objects;
mod reading;
mod refusals;
mod replay;
