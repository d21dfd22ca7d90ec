//! mapperd with real blockers over memory: one thread, one clock, no chance.
//!
//! - `rig`: the node of a test, and what it is asked;
//! - `audit`: what must hold of the stored maps, whatever happened;
//! - `life`: what operations leave in storage, byte for byte;
//! - `defects`: the original's defects, one test each;
//! - `locks`: leases, fences, lost and foreign locks;
//! - `broken`: locks that were broken while blockers died;
//! - `waiting`: writes that wait for another node's lock;
//! - `old`: v0 and v1 maps;
//! - `deaths`: mapperd killed at every step of every operation, and done again;
//! - `crowd`: many requests at once;
//! - `short`: storage that serves half;
//! - `asking`: LIST, STATUS, HASH, and bad input.

mod asking;
mod audit;
mod broken;
mod crowd;
mod deaths;
mod defects;
mod life;
mod locks;
mod old;
mod rig;
mod short;
mod waiting;
