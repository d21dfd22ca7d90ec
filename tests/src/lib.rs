//! What the system tests share.
//!
//! - [`sim`]: a node, its clients and its deaths in one thread, in virtual time, from one seed.

pub mod sim;
