//! mapperd: the peer that owns the maps of volumes.
//!
//! It answers which objects hold a range of a volume, makes them writable first where needed, and
//! does everything that concerns a volume as a whole: create, clone, snapshot, rename, resize,
//! delete. It reaches storage only by asking two blockers: *maps* (blockerm) for headers, chunks
//! and locks, *blocks* (blockerb) for the data objects.
//!
//! What always holds:
//! 1. Every request is answered exactly once, in `peer`; an operation is a function that returns
//!    what to answer.
//! 2. A map is changed only under the volume's lock, and every write to it says so: a blocker that
//!    finds the lock broken refuses it (ESTALE), and the volume is *lost* until it is opened again.
//! 3. A lease is granted only under the lock, and newer than every fence raised before. An operation
//!    that takes something away from a volume's users raises a fence first (`order`).
//! 4. What is cached was written before: the cache is never ahead of the map, and dropping it is
//!    always right.
//! 5. The gates of all names that an operation touches are taken before its first step, in the
//!    order of the names.
//!
//! The order of durable writes (each step durable before the next begins):
//! - copy-up: the object; its entry (volatile, unless asked for); the answer
//! - create, clone: what a deleted predecessor left; chunks; header
//! - snapshot: flush; source header with the next epoch; source chunks; snapshot chunks; snapshot
//!   header
//! - delete: flush; header DELETED; the objects of a page; the page with 0x0f entries; next page
//! - rename: flush; the intent under both names; new chunks; new header; old header DELETED; old
//!   chunks gone; intents gone
//! - grow: the tail of the last block zeroed; zero entries; header
//! - shrink: flush; header; the tail of the last block zeroed; objects past the end gone
//! - upgrade: chunks; header over the old one
//!
//! | file | what it holds |
//! |---|---|
//! | `peer` | [`Mapperd`]: requests in, answers out |
//! | `core`, `job` | what all operations share; one request being served, its step mark |
//! | `ask`, `store`, `lock` | what is asked of the blockers: how; objects; locks, syncs, fences |
//! | `naming`, `errno` | names of requests; why an operation failed |
//! | `gate`, `window`, `volume` | admission to a volume; bounded parallelism; what is known of it |
//! | `load`, `map` | finding a map and reading its entries; the cached map |
//! | `hold`, `order` | taking and giving back locks; flush, fence, writing whole maps |
//! | `read`, `copyup`, `open` | INFO, MAPR; MAPW; OPEN, CLOSE, FLUSH |
//! | `wait` | waiting for another node's lock |
//! | `create`, `snapshot`, `delete`, `truncate` | those operations |
//! | `intent`, `rename`, `upgrade` | RENAME and its recovery; old formats |
//! | `hash`, `list`, `status` | HASH, LIST, STATUS and LOCKINFO |
//! | `fuzz` | what is read of others' bytes, as plain functions |

mod ask;
mod copyup;
mod core;
mod create;
mod delete;
mod errno;
pub mod fuzz;
mod gate;
mod hash;
mod hold;
mod intent;
mod job;
mod list;
mod load;
mod lock;
mod map;
mod naming;
mod open;
mod order;
mod peer;
mod read;
mod rename;
mod snapshot;
mod status;
mod store;
mod truncate;
mod upgrade;
mod volume;
mod wait;
mod window;

pub use core::Config;
pub use peer::Mapperd;
