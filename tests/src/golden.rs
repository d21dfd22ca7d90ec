//! The trees that the original wrote, nodes over them, and what was done to them.
//!
//! - [`archive`]: an archive of `tests/golden`, unpacked, and what the manifest says of it;
//! - [`tree`]: what lies in a tree, to compare; and what `decode.py` says of it;
//! - [`node`]: an embedded node over a tree, and raw requests to its peers;
//! - [`replay`]: the manifest's operations, through a client.

pub mod archive;
pub mod node;
pub mod replay;
pub mod tree;

pub use archive::{Archive, Stage};
pub use node::{Node, Setup, name};
pub use replay::Replay;
