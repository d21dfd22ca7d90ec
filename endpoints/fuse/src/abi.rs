//! The messages of `/dev/fuse`, byte by byte (`linux/fuse.h`, protocol 7.36; little-endian).
//!
//! What always holds: a request is read only as far as its bytes go; a short one is `None`.

/// Bytes of a request's header.
pub(crate) const IN_HEADER: usize = 40;
/// Bytes of a write request before its payload: the header and `fuse_write_in`.
pub(crate) const WRITE_HEAD: usize = IN_HEADER + 40;
/// Bytes of a reply's header.
pub(crate) const OUT_HEADER: usize = 16;

/// Operations of the kernel that this filesystem knows.
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
}

/// The volume's file; the root directory is 1.
pub(crate) const FILE: u64 = 2;

/// Bytes of the largest write.
pub(crate) const WRITE_MAX: u32 = 1 << 20;
/// Requests that the kernel keeps under way. More wait in the loop device.
const BACKGROUND_MAX: u16 = 128;

const ASYNC_READ: u32 = 1 << 0;
const BIG_WRITES: u32 = 1 << 5;
const ASYNC_DIO: u32 = 1 << 15;
const MAX_PAGES: u32 = 1 << 22;
/// The file's content is not cached, its writes go side by side, and nothing is sent when it is
/// closed: this very process has it open, and would wait for itself when it is killed.
const OPENED: u32 = 1 | 1 << 6 | 1 << 5;
/// How long attributes hold, s: until [`size_changed`] says otherwise. So whoever asks for them
/// (`losetup -a`) never waits for a frozen device.
const VALID_S: u64 = 1 << 31;
/// `FUSE_NOTIFY_INVAL_INODE`.
const INVALIDATE: u32 = 2;
/// `FUSE_NOTIFY_RESEND`.
const RESEND: u32 = 7;

/// What the kernel asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) node: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Header {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Header> {
        Some(Header {
            opcode: u32_at(bytes, 4)?,
            unique: u64_at(bytes, 8)?,
            node: u64_at(bytes, 16)?,
        })
    }
}

/// Offset and bytes of `fuse_read_in` and `fuse_write_in`.
pub(crate) fn range(request: &[u8]) -> Option<(u64, u32)> {
    Some((
        u64_at(request, IN_HEADER + 8)?,
        u32_at(request, IN_HEADER + 16)?,
    ))
}

/// Offset, bytes and mode of `fuse_fallocate_in`.
pub(crate) fn fallocate(request: &[u8]) -> Option<(u64, u64, u32)> {
    let at = IN_HEADER;
    Some((
        u64_at(request, at + 8)?,
        u64_at(request, at + 16)?,
        u32_at(request, at + 24)?,
    ))
}

/// The name of a lookup, without its NUL.
pub(crate) fn name(request: &[u8]) -> Option<&[u8]> {
    request.get(IN_HEADER..)?.split(|&byte| byte == 0).next()
}

/// Tells the kernel that it knows the file's attributes no longer
/// (`fuse_notify_inval_inode_out`; a negative offset means no data).
pub(crate) fn size_changed() -> [u8; OUT_HEADER + 24] {
    let mut body = Body::<{ OUT_HEADER + 24 }>::default();
    body.u32(OUT_HEADER as u32 + 24).u32(INVALIDATE).u64(0);
    body.u64(FILE).u64(u64::MAX).u64(0);
    body.bytes
}

/// Has the kernel send again what it has sent and not had answered (Linux 6.9).
pub(crate) fn resend() -> [u8; OUT_HEADER] {
    let mut body = Body::<OUT_HEADER>::default();
    body.u32(OUT_HEADER as u32).u32(RESEND).u64(0);
    body.bytes
}

/// A reply under construction: room for the largest that has no data.
pub(crate) struct Reply {
    bytes: [u8; OUT_HEADER + 128],
    len: usize,
}

impl Reply {
    /// The header of a reply with `data` bytes that follow elsewhere.
    pub(crate) fn header(unique: u64, data: usize) -> [u8; OUT_HEADER] {
        header(unique, 0, OUT_HEADER + data)
    }

    pub(crate) fn error(unique: u64, errno: i32) -> Reply {
        Reply::with(header(unique, errno, OUT_HEADER), &[])
    }

    fn ok(unique: u64, body: &[u8]) -> Reply {
        Reply::with(header(unique, 0, OUT_HEADER + body.len()), body)
    }

    fn with(header: [u8; OUT_HEADER], body: &[u8]) -> Reply {
        let mut bytes = [0; OUT_HEADER + 128];
        bytes[..OUT_HEADER].copy_from_slice(&header);
        bytes[OUT_HEADER..OUT_HEADER + body.len()].copy_from_slice(body);
        Reply {
            bytes,
            len: OUT_HEADER + body.len(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn empty(unique: u64) -> Reply {
        Reply::ok(unique, &[])
    }

    /// `fuse_init_out`: of what the kernel offers, what this filesystem needs. `None`: the kernel
    /// speaks another major version.
    pub(crate) fn init(unique: u64, request: &[u8]) -> Option<Reply> {
        let major = u32_at(request, IN_HEADER)?;
        let offered = u32_at(request, IN_HEADER + 12)?;
        if major != 7 {
            return None;
        }
        let flags = offered & (ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES);
        let mut body = Body::<64>::default();
        body.u32(7).u32(36).u32(0).u32(flags);
        body.u16(BACKGROUND_MAX)
            .u16(BACKGROUND_MAX / 4 * 3)
            .u32(WRITE_MAX);
        body.u32(1).u16((WRITE_MAX / 4096) as u16);
        Some(Reply::ok(unique, &body.bytes))
    }

    /// `fuse_entry_out` of the volume's file.
    pub(crate) fn entry(unique: u64, size: u64, readonly: bool) -> Reply {
        let mut body = Body::<128>::default();
        body.u64(FILE).u64(0).u64(VALID_S).u64(VALID_S).u64(0);
        attributes(&mut body, FILE, size, readonly);
        Reply::ok(unique, &body.bytes)
    }

    /// `fuse_attr_out`.
    pub(crate) fn attributes(unique: u64, node: u64, size: u64, readonly: bool) -> Reply {
        let mut body = Body::<104>::default();
        body.u64(VALID_S).u64(0);
        attributes(&mut body, node, size, readonly);
        Reply::ok(unique, &body.bytes)
    }

    /// `fuse_open_out`.
    pub(crate) fn opened(unique: u64) -> Reply {
        let mut body = Body::<16>::default();
        body.u64(0).u32(OPENED);
        Reply::ok(unique, &body.bytes)
    }

    /// `fuse_write_out`.
    pub(crate) fn written(unique: u64, size: u32) -> Reply {
        let mut body = Body::<8>::default();
        body.u32(size);
        Reply::ok(unique, &body.bytes)
    }

    /// `fuse_statfs_out`. The block size is what the loop device discards in.
    pub(crate) fn statistics(unique: u64, size: u64) -> Reply {
        let mut body = Body::<80>::default();
        body.u64(size / 4096)
            .u64(0)
            .u64(0)
            .u64(1)
            .u64(0)
            .u32(4096)
            .u32(255)
            .u32(4096);
        Reply::ok(unique, &body.bytes)
    }
}

fn header(unique: u64, errno: i32, len: usize) -> [u8; OUT_HEADER] {
    let mut bytes = [0; OUT_HEADER];
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&(-errno).to_le_bytes());
    bytes[8..].copy_from_slice(&unique.to_le_bytes());
    bytes
}

/// `fuse_attr`, 88 bytes.
fn attributes<const N: usize>(body: &mut Body<N>, node: u64, size: u64, readonly: bool) {
    let (mode, size) = match (node, readonly) {
        (FILE, false) => (libc::S_IFREG | 0o600, size),
        (FILE, true) => (libc::S_IFREG | 0o400, size),
        _ => (libc::S_IFDIR | 0o500, 0),
    };
    body.u64(node)
        .u64(size)
        .u64(size / 512)
        .u64(0)
        .u64(0)
        .u64(0)
        .u32(0)
        .u32(0)
        .u32(0);
    body.u32(mode).u32(1).u32(0).u32(0).u32(0).u32(4096).u32(0);
}

/// `N` zeros, filled from the start.
struct Body<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Default for Body<N> {
    fn default() -> Self {
        Body {
            bytes: [0; N],
            at: 0,
        }
    }
}

impl<const N: usize> Body<N> {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replies_are_as_long_as_the_kernel_expects() {
        let lens = [
            (Reply::entry(1, 2, false), 128),
            (Reply::attributes(1, FILE, 2, true), 104),
            (Reply::opened(1), 16),
            (Reply::written(1, 2), 8),
            (Reply::statistics(1, 2), 80),
            (Reply::empty(1), 0),
        ];
        for (reply, len) in lens {
            assert_eq!(reply.bytes().len(), OUT_HEADER + len);
            assert_eq!(u32_at(reply.bytes(), 0), Some((OUT_HEADER + len) as u32));
        }
    }

    #[test]
    fn an_error_is_negative_for_the_kernel() {
        let reply = Reply::error(77, libc::EIO);
        assert_eq!(u32_at(reply.bytes(), 4), Some(-libc::EIO as u32));
        assert_eq!(u64_at(reply.bytes(), 8), Some(77));
    }

    #[test]
    fn only_what_the_kernel_offers_is_taken() {
        let mut request = [0; IN_HEADER + 16];
        request[IN_HEADER] = 7;
        request[IN_HEADER + 12] = 1;
        let reply = Reply::init(1, &request).unwrap();
        assert_eq!(u32_at(reply.bytes(), OUT_HEADER + 12), Some(ASYNC_READ));
        request[IN_HEADER] = 8;
        assert!(Reply::init(1, &request).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = (Header::decode(&bytes), range(&bytes), fallocate(&bytes), name(&bytes));
            let _ = Reply::init(1, &bytes);
        }
    }
}
