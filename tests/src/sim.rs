//! A node, its clients and its deaths in one thread, in virtual time, from one seed.
//!
//! The peers are the production ones, on the production host; only the clock, the bells, the
//! randomness and the drivers are the simulation's. Whose turn it is, which driver operation
//! completes, who is killed and when: all of it comes from the seed, so a failure is repeated by
//! its number.
//!
//! - [`world`]: the node: hosts, stores, kills and restarts;
//! - [`model`]: what a reader may see;
//! - [`actor`]: a client that writes, reads, snapshots and clones, and checks.

pub mod actor;
pub mod model;
pub mod world;

pub use actor::Actor;
pub use model::Model;
pub use world::{Shape, World};
