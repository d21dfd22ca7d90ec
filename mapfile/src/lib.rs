//! The map formats of Archipelago: bytes to types and back, and nothing else.
//!
//! A *map* says which object holds each block of a volume. Three formats exist on disk (v0, v1,
//! v2); this crate reads all three and writes v2. It performs no I/O, knows no peer, and never
//! panics on what it decodes: every byte that comes from storage is foreign until it is checked.
//!
//! Reading order:
//! * [`name`]: what volumes, header objects and data objects may be called
//! * [`tool_name`]: the stricter rules that the command line applies
//! * [`geometry`]: sizes, block sizes and counts
//! * [`header`]: the 32 bytes of a v2 header, and epochs
//! * [`mod@recognise`]: which format an object holds
//! * [`layout`]: in which object and at which offset an entry lives; pages
//! * [`entry`]: one block in eight bytes, and what it means
//! * [`names`]: the interner that makes that possible
//! * [`codec`]: slices of stored entries to [`entry::Entry`] and back
//! * [`fork()`]: the same for a snapshot or a clone, from bytes to bytes
//! * [`list`]: what a directory scan shows
//! * [`merkle`]: the name of a hashed map
#![forbid(unsafe_code)]

pub mod codec;
pub mod entry;
mod error;
mod fork;
#[doc(hidden)]
pub mod fuzz;
pub mod geometry;
pub mod header;
mod interner;
pub mod layout;
pub mod list;
pub mod merkle;
pub mod name;
pub mod names;
pub mod recognise;
pub mod tool_name;

pub use codec::{decode, encode, encode_one};
pub use entry::{Entry, EntryFlags, Owner};
pub use error::{EntryFault, FormatError};
pub use fork::{fork, zeros};
pub use geometry::{BlockSize, Geometry, Piece};
pub use header::{Epoch, Header, MapFlags};
pub use layout::{MapLayout, MapObject, PageNo, Place, Version};
pub use list::{Listing, classify, shown_name};
pub use merkle::{merkle_root, strip_trailing_zeros};
pub use name::{HeaderName, NameError, ObjectName, ReservedForm, VolumeName};
pub use names::Names;
pub use recognise::{Recognised, V0Hint, V0Tail, recognise};
