//! What stands between a blocker and its storage: one trait, one vocabulary.
//!
//! A blocker checks a request once and hands it to a [`Driver`] as an [`Op`]; the driver gives back
//! one [`Done`] for every `Op`, in any order. The operation owns its memory ([`Buf`]) in between.
//!
//! | file | what it holds |
//! |---|---|
//! | `ops` | the operations, and what each of them promises |
//! | `done` | answers: [`Done`], [`Reply`], [`Detail`] |
//! | `name` | [`Name`], an object's name: inline, always one safe path component |
//! | `buf` | [`Buf`], memory that an operation owns until its completion |
//! | `errno` | [`Errno`], why an operation failed |
//! | `digest` | the hash algorithms of HASH |
//! | `process` | who a process is, and whether it lives: [`Mark`], [`Registration`] |
//! | `memory` | [`MemoryDriver`], complete and in memory, with faults for the simulation |
//! | `conformance` | the suite that every driver has to pass |
//! | `fuzz` | what is read of others' bytes, as plain functions |

mod buf;
pub mod conformance;
mod digest;
mod done;
mod errno;
pub mod fuzz;
mod memory;
mod name;
mod ops;
mod process;

pub use buf::Buf;
pub use digest::{Digest, HashAlgorithm, UnknownAlgorithm, strip_zeros};
pub use done::{Detail, Done, LockHolder, LockReply, MoveReply, ProcessMark, Reply, Unmoved};
pub use errno::Errno;
pub use memory::{Failure, Faults, MemoryDriver, MemoryStore};
pub use name::{MAX_NAME, Name, NameError};
pub use ops::{Capabilities, Driver, Op, OpId, Tag};
pub use process::{MARK_LEN_MAX, Mark, Registration};
