//! What the system tests share.
//!
//! - [`sim`]: a node, its clients and its deaths in one thread, in virtual time, from one seed;
//! - [`golden`]: the trees that the original wrote, nodes over them, and what was done to them.

pub mod golden;
pub mod sim;
