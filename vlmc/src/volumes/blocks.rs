//! The objects that a map names, and whether they are there.

use client::{Client, Hint, Name};
use xseg::Request;
use xseg::protocol::{MapReply, MapSegment, Operation, flags, mapflags};

/// Blocks whose entries are asked for at once.
const STEP_BLOCKS: usize = 1024;
/// Bytes of a volume that have no more blocks than that: its blocks have 4 MiB.
pub(super) const STEP: u64 = (STEP_BLOCKS as u64) << 22;

/// The objects behind a range of at most [`STEP`] bytes; the map is neither locked nor upgraded.
/// Err: an errno.
pub(super) fn segments(
    client: &Client,
    (name, hint): (Name, Hint),
    offset: u64,
    size: u64,
) -> Result<Vec<MapSegment>, i32> {
    let request = hint.apply(Request {
        offset,
        size,
        flags: flags::PEEK,
        ..Request::new(Operation::MapRead, name)
    });
    let room = MapReply::len_for(STEP_BLOCKS);
    let call = client.call(client.ports().mapperd, request, &[], room);
    let reply = client.block_on(call)?;
    let map = MapReply::decode(&reply.bytes).map_err(|_| libc::EIO)?;
    Ok(map.segments)
}

/// Whether a range reads as zeros, with no object behind it.
pub(super) fn is_zero(segment: &MapSegment) -> bool {
    segment.flags & mapflags::ZERO != 0
}

/// Whether an object is there. Err: an errno.
pub(super) fn look_at(client: &Client, object: Name) -> Result<(), i32> {
    let request = Request::new(Operation::Info, object);
    let call = client.call(client.ports().blockerb, request, &[], 8);
    client.block_on(call).map(drop)
}
