//! Stored entries to [`Entry`] and back. Reading knows all formats, writing only v2.
//!
//! Always: what decodes from v2 encodes to the same bytes. That is why nothing is tolerated that
//! would not come back: unknown flags, bytes after the end of a name, blank entries.
//!
//! ```text
//!  v0 (32)   hash
//!  v1 (33)   flag: 1 = object archip_HASH, writable; 0 = object HASH | hash
//!  v2 (128)  flags | name length, u32 LITTLE-endian | name, filled up with zeros (123)
//! ```
//! Source: `spec/protocol.md` section 3, `spec/observed.md` point 3.

use crate::entry::{Entry, EntryFlags};
use crate::error::{EntryFault, FormatError};
use crate::layout::Version;
use crate::names::Names;

/// Bytes of one v2 entry.
pub const ENTRY_LEN: usize = 128;
/// Where the name begins in a v2 entry.
pub(crate) const NAME_AT: usize = 5;

const _: () = assert!(ENTRY_LEN as u64 == crate::geometry::V2_ENTRY_LEN);
const _: () = assert!(NAME_AT + 123 == ENTRY_LEN);

/// Reads all entries in `bytes`, of which the first belongs to block `first`. `bytes` is a whole
/// number of stored entries, such as those of a page.
pub fn decode(
    version: Version,
    bytes: &[u8],
    first: u64,
    names: &mut Names,
) -> Result<Vec<Entry>, FormatError> {
    match version {
        Version::V0 => decode_with(bytes, first, |_, entry| decode_v0(entry, names)),
        Version::V1 => decode_with(bytes, first, |_, entry| decode_v1(entry, names)),
        Version::V2 => decode_with(bytes, first, |index, entry| decode_v2(entry, index, names)),
    }
}

/// What became of one entry, or why it is corrupt; the outer error concerns the map as a whole.
type Decoded<T = Entry> = Result<Result<T, EntryFault>, FormatError>;

pub(crate) fn decode_with<const LEN: usize, T>(
    bytes: &[u8],
    first: u64,
    mut decode_one: impl FnMut(u64, &[u8; LEN]) -> Decoded<T>,
) -> Result<Vec<T>, FormatError> {
    let (stored, rest) = bytes.as_chunks::<LEN>();
    if !rest.is_empty() {
        let (have, need) = (bytes.len() as u64, (bytes.len() - rest.len() + LEN) as u64);
        return Err(FormatError::Truncated { have, need });
    }
    let mut entries = Vec::with_capacity(stored.len());
    for (index, bytes) in (first..).zip(stored) {
        let entry = decode_one(index, bytes)?;
        entries.push(entry.map_err(|fault| FormatError::Entry { index, fault })?);
    }
    Ok(entries)
}

/// No block has the hash of 32 zero bytes; such an entry was never written, or was lost (B28).
fn decode_v0(entry: &[u8; 32], names: &mut Names) -> Decoded {
    match *entry == [0; 32] {
        true => Ok(Err(EntryFault::Blank)),
        false => Entry::hashed(names, entry, false).map(Ok),
    }
}

fn decode_v1(entry: &[u8; 33], names: &mut Names) -> Decoded {
    let (flag, hash) = (entry[0], std::array::from_fn(|i| entry[1 + i]));
    match flag {
        _ if hash == [0; 32] => Ok(Err(EntryFault::Blank)),
        0 | 1 => Entry::hashed(names, &hash, flag == 1).map(Ok),
        _ => Ok(Err(EntryFault::Flags(flag))),
    }
}

fn decode_v2(entry: &[u8; ENTRY_LEN], index: u64, names: &mut Names) -> Decoded {
    let (flags, name) = match split_v2(entry) {
        Ok(parts) => parts,
        Err(fault) => return Ok(Err(fault)),
    };
    let entry = Entry::stored(names, name, index, flags)?;
    Ok(entry.map_err(EntryFault::Name))
}

pub(crate) fn split_v2(entry: &[u8; ENTRY_LEN]) -> Result<(EntryFlags, &[u8]), EntryFault> {
    if *entry == [0; ENTRY_LEN] {
        return Err(EntryFault::Blank);
    }
    let flags = EntryFlags::from_bits(entry[0])?;
    let len = u32::from_le_bytes([entry[1], entry[2], entry[3], entry[4]]);
    let (name, padding) = usize::try_from(len)
        .ok()
        .and_then(|len| entry[NAME_AT..].split_at_checked(len))
        .ok_or(EntryFault::Length(len))?;
    match padding.iter().all(|&byte| byte == 0) {
        true => Ok((flags, name)),
        false => Err(EntryFault::Padding),
    }
}

/// Appends `entries` as v2 stores them; the first belongs to block `first`.
pub fn encode(entries: &[Entry], first: u64, names: &Names, out: &mut Vec<u8>) {
    out.reserve(entries.len() * ENTRY_LEN);
    for (index, entry) in (first..).zip(entries) {
        out.extend_from_slice(&encode_one(*entry, index, names));
    }
}

/// The v2 form of the entry of block `index`.
pub fn encode_one(entry: Entry, index: u64, names: &Names) -> [u8; ENTRY_LEN] {
    let name = entry.name(names, index);
    let name = name.as_bytes();
    let mut bytes = [0; ENTRY_LEN];
    bytes[0] = entry.flags().bits();
    bytes[1..NAME_AT].copy_from_slice(&(name.len() as u32).to_le_bytes());
    bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
    bytes
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
