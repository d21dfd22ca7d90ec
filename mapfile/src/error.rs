//! Why bytes are not a map, or a map may not be made: one variant per cause, each a sentence.
//!
//! No variant repeats another, so that a caller can decide on the variant alone. Only
//! [`FormatError::Absent`] means that nothing is there; all others mean that *something* is, and
//! it must not be created over (`spec/protocol.md` section 6, B3).

use crate::name::NameError;

/// Why some bytes cannot be read as a map, or a value cannot be stored in one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The header object has no bytes at all.
    #[error("the header object is empty")]
    Absent,
    /// The header object ends inside the header.
    #[error("the header is cut off: {have} bytes where {need} are needed")]
    Short {
        /// Bytes present.
        have: u64,
        /// Bytes that the header takes.
        need: u64,
    },
    /// The first bytes belong to no map format that may be assumed here.
    #[error(
        "the object does not begin like a map (a version 0 map is read only when the request \
         says so, with --assume_v0)"
    )]
    Foreign,
    /// The signature is right, but the version is none that is stored that way.
    #[error("the header says version {0}, and only version 2 has such a header")]
    Version(u32),
    /// The block size is no power of two above 128.
    #[error("the block size {0} is not a power of two above 128")]
    BlockSize(u32),
    /// The header carries flags that nobody defined.
    #[error("the header carries unknown flags: {0:#x}")]
    Flags(u32),
    /// The size cannot be the size of a volume.
    #[error("the size {0} is beyond what a volume can have (2^63 - 1 bytes)")]
    Oversize(u64),
    /// A version 0 map was said to describe a volume of no bytes.
    #[error("a version 0 map cannot describe a volume of size 0")]
    ZeroSize,
    /// A version 0 file is no whole number of 32-byte entries.
    #[error("a version 0 map of {0} bytes is not a whole number of 32-byte entries")]
    Ragged(u64),
    /// A version 0 map holds another number of entries than the given size needs.
    #[error(
        "a version 0 map of {file_len} bytes does not hold exactly the {need} entries of a volume of {size} bytes"
    )]
    Count {
        /// Length of the map object in bytes.
        file_len: u64,
        /// Size that the request named, in bytes.
        size: u64,
        /// Entries which that size needs.
        need: u64,
    },
    /// The map object or the given slice ends before its entries do.
    #[error("the entries are cut off: {have} bytes where {need} are needed")]
    Truncated {
        /// Bytes present.
        have: u64,
        /// Bytes needed.
        need: u64,
    },
    /// An entry holds something that no program wrote there.
    #[error("entry {index} is unusable: {fault}")]
    Entry {
        /// Index of the block in the volume.
        index: u64,
        /// What is wrong with it.
        fault: EntryFault,
    },
    /// A byte range reaches past the end of the volume.
    #[error("{len} bytes at {offset} reach past the end of a volume of {size} bytes")]
    Range {
        /// First byte of the range.
        offset: u64,
        /// Bytes in the range.
        len: u64,
        /// Size of the volume.
        size: u64,
    },
    /// The last epoch is in use; one more would let object names repeat.
    #[error("the volume has used up its epochs")]
    EpochsExhausted,
    /// The interner cannot number another name.
    #[error("too many distinct object names in one map")]
    NamesExhausted,
}

/// What is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// All bytes are zero: a hole where an entry should be.
    #[error("it is all zeros")]
    Blank,
    /// A flag byte with bits that nobody defined.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// A name length that does not fit the field.
    #[error("a name of {0} bytes does not fit")]
    Length(u32),
    /// Bytes after the end of the name; the length or the name is wrong.
    #[error("bytes follow the end of the name")]
    Padding,
    /// The name could not belong to an object.
    #[error("its name is refused, because {0}")]
    Name(NameError),
}
