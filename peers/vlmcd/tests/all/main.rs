//! vlmcd beside peers that are played.
//!
//! - `short`: a blocker that serves less than it was asked for;
//! - `stall`: no free slot in the peers' own region;
//! - `waiting`: writes that wait for another node's lock.

mod short;
mod stall;
mod waiting;
