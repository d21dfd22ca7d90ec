//! The client of a node: what endpoints, tools and programs use.
//!
//! - [`core`]: requests under way on one seat, without waiting: for event loops;
//! - [`wait`]: waiting for them: a short spin, then the bell;
//! - [`Client`]: a place at a node, and the operations on whole volumes, blocking;
//! - [`volume`]: [`Volume`], a handle to read and write, blocking or as futures;
//! - [`error`]: what can go wrong, as a kind and a sentence.

mod client;
pub mod core;
pub mod error;
mod operations;
pub mod volume;
pub mod wait;

pub use client::{Client, Ports};
pub use core::{Core, Done};
pub use error::{Error, ErrorKind};
pub use operations::Hint;
pub use volume::{BlockStatus, Volume};
pub use xseg::Name;
