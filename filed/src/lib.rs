//! The driver over plain files: objects in a directory, moved by io_uring.
//!
//! ```text
//!   submit --hot: descriptor known, aligned--> one submission ----------------> poll
//!          \-everything else: a task of a few steps on the reactor's executor -/
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | [`Config`], [`OpenError`] |
//! | `open` | opening a directory, and finding out what it can do |
//! | `driver` | [`Filed`]: the hot path |
//! | `dispatch` | which task does everything else |
//! | `core` | what tasks share: finding, opening and creating objects |
//! | `layout` | where the object of a name lies; the three places |
//! | `cache`, `object`, `ranges` | open descriptors; who writes to which bytes |
//! | `spot` | small transfers with the page cache, made where they are asked for |
//! | `data` | reads and writes that are not hot: unaligned, fresh, first |
//! | `shape` | zeroes, truncate, copy, delete, info |
//! | `content`, `store` | hash; objects that are named by their content |
//! | `walk` | the directories in their order; list |
//! | `moving` | the steps by which an object leaves an older release's place |
//! | `moves`, `sweep` | which objects move: those that are met; all of them, page by page |
//! | `tags` | what each volume has written and not synced; sync |
//! | `locks` | lock files that work together with the original's |
//! | `leftovers` | prepared lock files of the killed, removed at the next start |
//! | `notes` | which locks were taken and not given back, for who comes after |
//! | `marker` | `.archipelago`, by which a directory is known again |
//! | `drain` | [`DrainLock`]: waits until a dead predecessor writes no more |
//! | `fs` | single system calls as futures |
//!
//! **O_DIRECT and buffered I/O are never mixed on one object**: the driver uses the one or the
//! other for all of them, and does the edges of unaligned writes itself.

mod cache;
mod config;
mod content;
mod core;
mod data;
mod dispatch;
mod drain;
mod driver;
mod fs;
mod layout;
mod leftovers;
mod locks;
mod marker;
mod moves;
mod moving;
mod notes;
mod object;
mod open;
mod ranges;
mod shape;
mod spot;
mod store;
mod sweep;
mod tags;
mod walk;

pub use config::{Config, OpenError};
pub use drain::DrainLock;
pub use driver::Filed;
