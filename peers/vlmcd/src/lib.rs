//! vlmcd: the peer that composes volumes.
//!
//! A volume request becomes one request for each block that it touches, sent straight to the
//! blocker of data, with the block's place in the client's own buffer: no byte is copied here.
//! Where the objects are, mapperd says; under a lease the answer is kept.
//!
//! ```text
//!             +-- frozen? overlaps a write? --> waits
//!             |
//!  request ---+--> range known? --no--> MAPR / MAPW --> mapperd
//!                        | yes            |
//!                        v                v
//!                   one part per block --> blockerb --> all answered --> answer
//!                        ^                                 |
//!                        +----- ESTALE: forget, ask again -+
//! ```
//! What always holds:
//! - A write, trim or zeroes never starts while one that overlaps it is unanswered, so a write
//!   that is done again after a death never undoes a later acknowledged one.
//! - Nothing is answered while a part of it may still land: the answer waits for every part, also
//!   when one has failed.
//! - CLOSE, SNAPSHOT, DELETE, RENAME and TRUNCATE freeze their volume: they run alone, and what
//!   was kept of its map is forgotten when they end.
//! - FLUSH freezes nothing: it makes durable what was answered before it came, data first, then
//!   the map.
//! - Every request is checked before anything is done with it, and every request is answered.
//! - Writes that wait for another node's lock hold up nobody but themselves.
//!
//! - [`admission`]: who starts when, and who waits for what;
//! - [`blockmap`]: what is known of a volume's map;
//! - [`volume`]: a volume's record: freezing, overlaps, what is dirty;
//! - [`op`]: a request under way, and its stages;
//! - [`peer`]: the peer: starts, routes, finishes;
//! - [`io`]: reads, writes, trims and zeroes;
//! - [`control`]: flushes, and what is forwarded.

mod admission;
mod blockmap;
mod control;
mod io;
mod op;
mod peer;
mod volume;

pub use peer::{Settings, Vlmcd};
