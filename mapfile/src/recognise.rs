//! Which of the three map formats an object holds, told from its first bytes and its length.
//!
//! Always: what is not certainly a map is an error with a variant of its own, never "there is
//! nothing here" (B3), and a v0 map is never silently shorter than its file (B28). A v1 map stays
//! a v1 map when the caller allows v0 (B10).
//!
//! ```text
//!  "AMF." ...................................... v2, or an error; never v0
//!  01 00 00 00 and a length that fits v1 ....... v1
//!  otherwise, v0 allowed ....................... v0
//!  01 00 00 00 ................................. v1, if its entries are all there
//!  otherwise ................................... not a map
//! ```
//! Sources: `spec/protocol.md` section 3, `spec/choices.md` "v1 or v0", `spec/pithos.md`
//! section 4 "v0 handling".

use crate::error::{EntryFault, FormatError};
use crate::geometry::{BlockSize, Geometry};
use crate::header::{Epoch, Header, MapFlags, SIGNATURE};
use crate::layout::{MapLayout, Version};
use std::ops::Range;

/// Bytes of a header object that are worth reading before [`recognise`].
pub const HEAD_LEN: usize = 512;

/// Bytes of a v1 header: version and size, little-endian.
pub(crate) const V1_HEADER_LEN: u64 = 12;
/// Bytes of a v1 entry.
pub(crate) const V1_ENTRY_LEN: u64 = 33;
/// Bytes of a v0 entry.
pub(crate) const V0_ENTRY_LEN: u64 = 32;

/// First bytes of a v1 map: its version.
pub(crate) const V1_START: [u8; 4] = [1, 0, 0, 0];
/// Direct I/O pads files to a multiple of this with zeros (`spec/observed.md` point 7).
const SECTOR: u64 = 512;

/// The request allows the map to be v0 (XF_ASSUMEV0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct V0Hint {
    /// The volume's exact size in bytes, where the caller knows it; the file does not say.
    pub size: Option<u64>,
}

/// A map, recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// Bare hashes; read-only.
    V0(Geometry),
    /// Bare hashes, whose number depends on the end of the object; see [`V0Tail`].
    V0Tail(V0Tail),
    /// Hashes with a flag each; writable.
    V1(Geometry),
    /// The current format. A deleted map is recognised too: look at its flags.
    V2(Header),
}

impl Recognised {
    /// The v2 header that says the same, as an upgrade writes it: v0 is read-only, and neither v0
    /// nor v1 ever had an epoch. None while a [`V0Tail`] is unsettled.
    pub fn as_v2(&self) -> Option<Header> {
        let from = |geometry, flags| {
            Some(Header {
                geometry,
                flags,
                epoch: Epoch::NONE,
            })
        };
        match *self {
            Recognised::V0(geometry) => from(geometry, MapFlags::SNAPSHOT),
            Recognised::V0Tail(_) => None,
            Recognised::V1(geometry) => from(geometry, MapFlags::NONE),
            Recognised::V2(header) => Some(header),
        }
    }

    /// Where the entries are. None while a [`V0Tail`] is unsettled.
    pub fn layout(&self) -> Option<MapLayout> {
        match *self {
            Recognised::V0(geometry) => Some(MapLayout::new(Version::V0, geometry)),
            Recognised::V0Tail(_) => None,
            Recognised::V1(geometry) => Some(MapLayout::new(Version::V1, geometry)),
            Recognised::V2(header) => Some(MapLayout::new(Version::V2, header.geometry)),
        }
    }
}

/// Tells which map begins with `head`, in an object of `file_len` bytes. `head` should have
/// [`HEAD_LEN`] bytes; what it has beyond `file_len` (a blocker fills up with zeros) is ignored.
pub fn recognise(
    head: &[u8],
    file_len: u64,
    assume_v0: Option<V0Hint>,
) -> Result<Recognised, FormatError> {
    let present = usize::try_from(file_len).map_or(head.len(), |len| len.min(head.len()));
    let head = &head[..present];
    if head.is_empty() {
        return Err(FormatError::Absent);
    }
    if head.starts_with(&SIGNATURE) {
        return Header::parse(head).map(Recognised::V2);
    }
    let v1 = v1_geometry(head, file_len);
    match (v1, assume_v0) {
        (Ok((geometry, Fit::Exact)), _) | (Ok((geometry, _)), None) => Ok(Recognised::V1(geometry)),
        (_, Some(hint)) => recognise_v0(head, file_len, hint),
        (Err(error), None) => Err(error),
    }
}

/// How the length of an object compares with what its v1 header asks for.
enum Fit {
    /// The length, or that padded to a whole sector.
    Exact,
    /// Longer; the rest is not looked at.
    Longer,
}

fn v1_geometry(head: &[u8], file_len: u64) -> Result<(Geometry, Fit), FormatError> {
    let need = V1_HEADER_LEN;
    if head.len() < V1_START.len() {
        return Err(FormatError::Short {
            have: head.len() as u64,
            need,
        });
    }
    if !head.starts_with(&V1_START) {
        return Err(FormatError::Foreign);
    }
    let Some(size) = head.get(4..12).and_then(|bytes| bytes.first_chunk()) else {
        return Err(FormatError::Short {
            have: head.len() as u64,
            need,
        });
    };
    let geometry = Geometry::new(u64::from_le_bytes(*size), BlockSize::DEFAULT)?;
    let need = V1_HEADER_LEN + V1_ENTRY_LEN * geometry.block_count();
    match file_len {
        have if have < need => Err(FormatError::Truncated { have, need }),
        have if have == need || have == need.next_multiple_of(SECTOR) => Ok((geometry, Fit::Exact)),
        _ => Ok((geometry, Fit::Longer)),
    }
}

fn recognise_v0(head: &[u8], file_len: u64, hint: V0Hint) -> Result<Recognised, FormatError> {
    if !file_len.is_multiple_of(V0_ENTRY_LEN) {
        return Err(FormatError::Ragged(file_len));
    }
    if let Some(size) = hint.size {
        check_v0_count(file_len, size)?;
    }
    let tail = V0Tail {
        file_len,
        size: hint.size,
    };
    if tail.is_settled() {
        return tail.geometry(file_len / V0_ENTRY_LEN).map(Recognised::V0);
    }
    let range = tail.range();
    match usize::try_from(range.end)
        .ok()
        .and_then(|end| head.get(range.start as usize..end))
    {
        Some(bytes) => tail.settle(bytes).map(Recognised::V0),
        None => Ok(Recognised::V0Tail(tail)),
    }
}

/// Refuses a length that cannot hold exactly the entries of `size` bytes, padded or not.
fn check_v0_count(file_len: u64, size: u64) -> Result<(), FormatError> {
    let need = match Geometry::new(size, BlockSize::DEFAULT)?.block_count() {
        0 => return Err(FormatError::ZeroSize),
        need => need,
    };
    let exact = need * V0_ENTRY_LEN;
    match file_len == exact || file_len == exact.next_multiple_of(SECTOR) {
        true => Ok(()),
        false => Err(FormatError::Count {
            file_len,
            size,
            need,
        }),
    }
}

/// A v0 map that may end in padding. Direct I/O pads a file to whole sectors, and a v0 map says
/// nowhere how many hashes it has, so that its last sector has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V0Tail {
    file_len: u64,
    size: Option<u64>,
}

impl V0Tail {
    /// The bytes of the map object that [`V0Tail::settle`] wants.
    pub fn range(&self) -> Range<u64> {
        self.file_len.saturating_sub(SECTOR)..self.file_len
    }

    /// Counts the entries, given the bytes of [`V0Tail::range`]. Only zeros at the very end that
    /// are less than a sector are padding; a whole sector of them is an error.
    ///
    /// A file of whole sectors that lost its last few hashes looks like a padded one; only a
    /// given size tells them apart.
    pub fn settle(&self, tail: &[u8]) -> Result<Geometry, FormatError> {
        let range = self.range();
        let (have, need) = (tail.len() as u64, range.end - range.start);
        if have != need {
            return Err(FormatError::Truncated { have, need });
        }
        let data = tail.len() - tail.iter().rev().take_while(|&&byte| byte == 0).count();
        let first = range.start / V0_ENTRY_LEN;
        match (data as u64).div_ceil(V0_ENTRY_LEN) {
            // More zeros than any padding: hashes are missing.
            0 => Err(FormatError::Entry {
                index: first,
                fault: EntryFault::Blank,
            }),
            entries => self.geometry(first + entries),
        }
    }

    /// Whether the length alone tells the count: it is not that of a padded file.
    fn is_settled(&self) -> bool {
        let exact = |size: u64| size.div_ceil(u64::from(BlockSize::DEFAULT.bytes())) * V0_ENTRY_LEN;
        !self.file_len.is_multiple_of(SECTOR)
            || self.size.is_some_and(|s| exact(s) == self.file_len)
    }

    fn geometry(&self, entries: u64) -> Result<Geometry, FormatError> {
        let full = entries
            .checked_mul(u64::from(BlockSize::DEFAULT.bytes()))
            .ok_or(FormatError::Oversize(u64::MAX))?;
        let size = self.size.unwrap_or(full);
        let geometry = Geometry::new(size, BlockSize::DEFAULT)?;
        match geometry.block_count() {
            need if need == entries => Ok(geometry),
            need => Err(FormatError::Count {
                file_len: self.file_len,
                size,
                need,
            }),
        }
    }
}

#[cfg(test)]
#[path = "recognise_tests.rs"]
mod tests;
