//! What the system tests share.
//!
//! - [`sim`]: a node, its clients and its deaths in one thread, in virtual time, from one seed;
//! - [`golden`]: the trees that the original wrote, nodes over them, and what was done to them;
//! - [`real`]: a node of real processes, in a folder of its own;
//! - [`old`]: a node of the previous version on the directories of one of ours;
//! - [`verifier`]: clients that keep every role busy and know every byte that they may see;
//! - [`storage`]: where a node's objects are, so that one test body runs on each storage;
//! - [`straight`]: what a verifier wrote, compared with the files themselves;
//! - [`pools`]: the same with the objects of a cluster;
//! - [`halt`]: a process that hangs for as long as a test wants;
//! - [`stopper`]: stops a process in the midst of what it does;
//! - [`windows`]: in which windows of a request's life a process was when it was killed;
//! - [`ending`]: whether its ring had ended before its successor began;
//! - [`slow`]: a slow disk for chosen processes.

pub mod ending;
pub mod golden;
pub mod halt;
pub mod old;
pub mod pools;
pub mod real;
pub mod sim;
pub mod slow;
pub mod stopper;
pub mod storage;
pub mod straight;
pub mod verifier;
pub mod windows;
