//! Block status: what a backend says, cut to what the protocol allows.
//!
//! Always true of the answer: at least one descriptor, none empty, neighbours differ, and together
//! they are no longer than the request (older clients disconnect otherwise).

use crate::export::Extent;

/// The id of `base:allocation` on every connection.
pub const CONTEXT_ID: u32 = 1;
/// Most descriptors in one reply; a client asks again for the rest.
pub const DESCRIPTORS_MAX: usize = 2048;

const HOLE: u32 = 1;
const ZERO: u32 = 2;

/// The payload of a block status chunk for a request of `len` bytes (not 0). With `one`, a single
/// descriptor. Where the backend says nothing, "allocated" is always a safe answer.
pub fn payload(extents: &[Extent], len: u32, one: bool) -> Vec<u8> {
    let mut payload = CONTEXT_ID.to_be_bytes().to_vec();
    for (len, flags) in descriptors(extents, len, if one { 1 } else { DESCRIPTORS_MAX }) {
        payload.extend_from_slice(&len.to_be_bytes());
        payload.extend_from_slice(&flags.to_be_bytes());
    }
    payload
}

fn descriptors(extents: &[Extent], len: u32, count_max: usize) -> Vec<(u32, u32)> {
    let mut list: Vec<(u32, u32)> = Vec::new();
    let mut left = len;
    for extent in extents {
        let part = u64::from(left).min(extent.len) as u32;
        if part == 0 {
            continue;
        }
        let state = flags(extent);
        let full = list.len() == count_max;
        match list.last_mut() {
            Some(last) if last.1 == state => last.0 += part,
            _ if full => break,
            _ => list.push((part, state)),
        }
        left -= part;
    }
    if list.is_empty() {
        list.push((len, 0));
    }
    list
}

fn flags(extent: &Extent) -> u32 {
    let hole = if extent.hole { HOLE } else { 0 };
    let zero = if extent.zero { ZERO } else { 0 };
    hole | zero
}
