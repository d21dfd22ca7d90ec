//! The entries of a snapshot or a clone, straight from stored bytes to stored bytes.
//!
//! Always: the bytes are those that [`decode`], [`Entry::fork`] and [`encode`] give, and what those
//! refuse is refused. But no name is kept on the way, which is where their time goes: a clone of
//! 1 TiB has 262,144 names to copy, and no use for any.
//!
//! [`decode`]: crate::decode
//! [`encode`]: crate::encode

use crate::codec::{ENTRY_LEN, NAME_AT, decode_with, encode_one, split_v2};
use crate::entry::{Entry, EntryFlags, ZERO_BLOCK};
use crate::error::{EntryFault, FormatError};
use crate::layout::Version;
use crate::name::{ARCHIP_PREFIX, ObjectName, hash_object};
use crate::names::Names;

/// An entry of version 2.
type Stored = [u8; ENTRY_LEN];

/// Reads all entries in `bytes`, of which the first belongs to block `first`, and appends what a
/// snapshot or clone stores of them.
pub fn fork(
    version: Version,
    bytes: &[u8],
    first: u64,
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let entries = match version {
        Version::V0 => decode_with(bytes, first, |_, entry| Ok(fork_v0(entry))),
        Version::V1 => decode_with(bytes, first, |_, entry| Ok(fork_v1(entry))),
        Version::V2 => decode_with(bytes, first, |_, entry| Ok(fork_v2(entry))),
    }?;
    out.extend_from_slice(entries.as_flattened());
    Ok(())
}

/// The entries of `count` blocks that are all zeros, appended.
pub fn zeros(count: u64, out: &mut Vec<u8>) {
    let zero = encode_one(Entry::ZERO, 0, &Names::new());
    (0..count).for_each(|_| out.extend_from_slice(&zero));
}

fn stored(flags: EntryFlags, name: &ObjectName) -> Stored {
    let name = name.as_bytes();
    let mut entry = [0; ENTRY_LEN];
    entry[0] = flags.bits();
    entry[1..NAME_AT].copy_from_slice(&(name.len() as u32).to_le_bytes());
    entry[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
    entry
}

fn fork_v0(hash: &[u8; 32]) -> Result<Stored, EntryFault> {
    let flags = match *hash {
        blank if blank == [0; 32] => return Err(EntryFault::Blank),
        ZERO_BLOCK => EntryFlags::ZERO,
        _ => EntryFlags::NONE,
    };
    Ok(stored(flags, &hash_object(b"", hash)))
}

fn fork_v1(entry: &[u8; 33]) -> Result<Stored, EntryFault> {
    let (flag, hash) = (entry[0], std::array::from_fn(|at| entry[1 + at]));
    match flag {
        1 if hash != [0; 32] => {
            let name = hash_object(ARCHIP_PREFIX, &hash);
            Ok(stored(EntryFlags::ARCHIP, &name))
        }
        0 | 1 => fork_v0(&hash),
        _ if hash == [0; 32] => Err(EntryFault::Blank),
        flag => Err(EntryFault::Flags(flag)),
    }
}

fn fork_v2(entry: &Stored) -> Result<Stored, EntryFault> {
    let (flags, name) = split_v2(entry)?;
    ObjectName::new(name).map_err(EntryFault::Name)?;
    let mut entry = *entry;
    entry[0] = (flags & (EntryFlags::ARCHIP | EntryFlags::ZERO)).bits();
    Ok(entry)
}
