//! Clients that keep every role busy and know every byte that they may see.
//!
//! Each thread owns what it writes, and never has two requests under way on one block, so what a
//! block must show is exact: the stamp acknowledged last. A stamp fills its block and names the
//! writer's count.
//!
//! - `worker`: one thread's requests;
//! - `judge`: what their answers say, and whether they may;
//! - `late`: what a dead process's ring could still change, under watch.

mod judge;
mod late;
mod worker;

pub use worker::run;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// What the threads count, and what they are told.
#[derive(Default)]
pub struct Tally {
    /// Requests that ended as they should.
    pub served: AtomicU64,
    /// Reads and writes among them.
    pub moved: AtomicU64,
    /// Requests that failed.
    pub errors: AtomicU64,
    /// Blocks that showed another stamp.
    pub wrong: AtomicU64,
    /// Blocks that were unanswered at a death, were written again after it, and were looked at
    /// after the end of the ring of the dead.
    pub late_blocks_checked: AtomicU64,
    /// Buffers that a read at a death named, and that were looked at likewise.
    pub late_buffers_checked: AtomicU64,
    /// Those of both that something had landed in.
    pub late: AtomicU64,
    /// Told: how many processes with a driver were about to die so far.
    pub deaths: AtomicU64,
    /// Told: of how many of them the ring has ended.
    pub ended: AtomicU64,
    /// Told to end.
    pub stop: AtomicBool,
}

/// What one thread does.
#[derive(Clone, Debug)]
pub enum Load {
    /// Reads and writes of a volume.
    Volume(String),
    /// Reads and writes of objects, straight at the blocker of maps.
    Objects(String),
    /// Questions about these volumes' maps and sizes.
    Maps(Vec<String>),
}

/// What one thread leaves behind.
pub struct Outcome {
    /// What it did.
    pub load: Load,
    /// The first thing that was wrong.
    pub wrong: Option<String>,
    /// For each block that was written the stamp that it must show.
    pub stamps: HashMap<u64, u64>,
}
