//! From a request to an operation of the driver: everything that can be wrong with a request is
//! found here, before a driver sees it.

use driver::{Buf, HashAlgorithm, Op, Tag};
use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;
use xseg::protocol::{NameRequest, Operation, flags};
use xseg::seat::PUBLIC;
use xseg::{Extent, Request, Segment};

/// How HASH hashes.
pub type HashWith = HashAlgorithm;

/// Names shorter than this are none (spec/protocol.md section 2, "filed target length").
const NAME_LEN_MIN: usize = 6;

/// What is known of a request besides its record.
pub(crate) struct Context<'a> {
    /// [`PUBLIC`], or the peers' own region.
    pub(crate) region: u8,
    /// Its data, if it has any.
    pub(crate) data: Option<Extent>,
    /// The segments that keep shared memory mapped.
    pub(crate) keep: &'a Keep,
    /// How HASH hashes.
    pub(crate) algorithm: HashAlgorithm,
}

/// The segments, in the form in which a buffer keeps them mapped.
#[derive(Clone)]
pub(crate) struct Keep(pub(crate) Arc<Vec<Segment>>);

impl Keep {
    /// The operation's view of `extent`.
    pub(crate) fn buf(&self, extent: &Extent) -> Buf {
        let Some(ptr) = NonNull::new(extent.as_ptr()).filter(|_| !extent.is_empty()) else {
            return Buf::empty();
        };
        let keep: Arc<dyn Any + Send + Sync> = self.0.clone();
        // SAFETY: an extent lies inside its segment's mapping, which is one of `keep`; no
        // reference to segment memory exists in this process (xseg::segment, rule 4).
        unsafe { Buf::from_shared(ptr, extent.len() as usize, keep) }
    }
}

/// A name as the driver wants it.
pub(crate) fn name(bytes: &[u8]) -> Result<driver::Name, i32> {
    if bytes.len() < NAME_LEN_MIN {
        return Err(libc::EINVAL);
    }
    driver::Name::new(bytes).map_err(|_| libc::EINVAL)
}

/// The volume that a lock is asked for.
fn volume(bytes: &[u8]) -> Result<driver::Name, i32> {
    name(bytes)
}

impl Context<'_> {
    fn is_public(&self) -> bool {
        self.region == PUBLIC
    }

    /// Durable when answered, unless a peer says that a SYNC follows.
    fn durable(&self, request: &Request) -> bool {
        self.is_public() || !request.has(flags::VOLATILE) || request.has(flags::FUA)
    }

    fn tag(&self, request: &Request) -> Tag {
        Tag(request.tag)
    }

    /// The first `size` bytes of the request's data.
    fn buf(&self, request: &Request) -> Result<Buf, i32> {
        if request.size == 0 {
            return Ok(Buf::empty());
        }
        let data = self.data.as_ref().ok_or(libc::EINVAL)?;
        // B22: a size larger than the data is refused, not believed.
        let data = data.slice(0, request.size).ok_or(libc::EINVAL)?;
        Ok(self.keep.buf(&data))
    }
}

fn in_range(offset: u64, size: u64) -> Result<(), i32> {
    match offset.checked_add(size) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(libc::EINVAL),
    }
}

/// The operation that `request` asks for; Err: why not.
pub(crate) fn operation(request: &Request, cx: &Context<'_>) -> Result<Op, i32> {
    let object = name(&request.target)?;
    let durable = cx.durable(request);
    let tag = cx.tag(request);
    let fresh = request.has(flags::FRESH);
    let (offset, size) = (request.offset, request.size);
    in_range(offset, size)?;
    Ok(match request.operation() {
        Some(Operation::Read) => Op::Read {
            name: object,
            offset,
            buf: cx.buf(request)?,
        },
        Some(Operation::Write) => Op::Write {
            name: object,
            offset,
            buf: cx.buf(request)?,
            tag,
            fresh,
            durable,
        },
        Some(Operation::Zeroes | Operation::Discard) => Op::Zeroes {
            name: object,
            offset,
            len: size,
            tag,
            durable,
        },
        Some(Operation::Truncate) => Op::Truncate {
            name: object,
            size: offset,
            tag,
            fresh,
            durable,
        },
        Some(Operation::Copy) => Op::Copy {
            src: Box::new(source(cx)?),
            dst: object,
            max: size,
            tag,
            durable,
        },
        Some(Operation::Delete) => Op::Delete {
            name: object,
            durable,
        },
        Some(Operation::Info) => Op::Info { name: object },
        Some(Operation::Hash) => {
            if size == 0 {
                return Err(libc::EINVAL);
            }
            Op::Hash {
                name: object,
                offset,
                size,
                algorithm: cx.algorithm,
            }
        }
        Some(Operation::Acquire) => Op::Acquire {
            name: volume(&request.target)?,
        },
        Some(Operation::Release) => Op::Release {
            name: volume(&request.target)?,
            force: request.has(flags::FORCE),
        },
        Some(Operation::LockInfo | Operation::AwaitLock) => Op::LockInfo {
            name: volume(&request.target)?,
        },
        _ => return Err(libc::EOPNOTSUPP),
    })
}

fn source(cx: &Context<'_>) -> Result<driver::Name, i32> {
    let data = cx.data.as_ref().ok_or(libc::EINVAL)?;
    let bytes = data
        .slice(0, data.len().min(NameRequest::LEN as u64))
        .ok_or(libc::EINVAL)?;
    let NameRequest(source) = NameRequest::decode(&bytes.to_vec()).map_err(|_| libc::EINVAL)?;
    name(&source)
}

/// The volume that a map object belongs to: its name without a chunk's `_` + 16 hex digits.
pub(crate) fn volume_of(object: &[u8]) -> &[u8] {
    let Some(at) = object.len().checked_sub(17) else {
        return object;
    };
    let (volume, suffix) = object.split_at(at);
    let is_chunk = suffix[0] == b'_'
        && suffix[1..]
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_chunk { volume } else { object }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_belongs_to_its_volume() {
        assert_eq!(volume_of(b"goldvol1_0000000000000000"), b"goldvol1");
        assert_eq!(volume_of(b"goldvol1"), b"goldvol1");
        assert_eq!(volume_of(b"a_b"), b"a_b");
    }
}
