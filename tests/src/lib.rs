//! What the system tests share.
//!
//! - [`sim`]: a node, its clients and its deaths in one thread, in virtual time, from one seed;
//! - [`golden`]: the trees that the original wrote, nodes over them, and what was done to them;
//! - [`real`]: a node of real processes, in a folder of its own;
//! - [`verifier`]: clients that keep every role busy and know every byte that they may see;
//! - [`stepper`]: stops a process at one of its instructions;
//! - [`windows`]: in which windows of a request's life a process was when it was killed.

pub mod golden;
pub mod real;
pub mod sim;
pub mod stepper;
pub mod verifier;
pub mod windows;
