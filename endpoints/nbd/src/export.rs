//! The seam to a backend: one volume that takes operations and completes them later.
//!
//! What both sides promise:
//! 1. The server checks range, alignment, flags and read-only state once, before a backend sees an
//!    operation; a backend need not check again.
//! 2. A buffer belongs to the server from [`Buffers::alloc`] to [`Buffers::release`], and to the
//!    backend too from [`Export::submit`] until it hands out the [`Done`] of that token. The server
//!    releases each buffer exactly once, never while its operation is outstanding, and never while
//!    the kernel may still read or write it for a socket.
//! 3. Every submitted token is completed exactly once, in any order. A completion may be ready as
//!    soon as `submit` returns.
//! 4. Nothing here may block. All calls come from the one thread that runs the server.
//! 5. While frozen, the server calls `alloc` and `submit` not at all; buffers taken before stay
//!    valid until they are released.

use std::os::fd::RawFd;

pub use crate::error::Failure;

/// Names a buffer of the backend. The meaning of the number is the backend's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(pub u64);

/// Names an operation from its submission to its completion. The meaning is the server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Which way data moves through a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// The client writes: the server fills the buffer.
    FromClient,
    /// The client reads: the backend fills the buffer.
    ToClient,
}

/// Sizes in bytes that requests should respect; they are told to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of this. A power of two, at most 65536.
    pub minimum: u32,
    /// Cheapest unit. A power of two, at least 512 and `minimum`.
    pub preferred: u32,
    /// Longest read or write.
    pub maximum: u32,
}

impl BlockSizes {
    /// Any byte range, 4096 preferred, 32 MiB at most: what every client copes with.
    pub const DEFAULT: Self = Self {
        minimum: 1,
        preferred: 4096,
        maximum: 32 << 20,
    };
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One operation. `offset` and `len` are bytes, inside the export, `len` is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill the first `len` bytes of `buf`.
    #[allow(missing_docs, reason = "told at the enum")]
    Read {
        offset: u64,
        len: u32,
        buf: BufferId,
    },
    /// Store the first `len` bytes of `buf`; with `fua`, durably before completing.
    #[allow(missing_docs, reason = "told at the enum")]
    Write {
        offset: u64,
        len: u32,
        buf: BufferId,
        fua: bool,
    },
    /// Make durable every write that completed before this was submitted.
    Flush,
    /// The range is no longer needed; its content is undefined from now on.
    #[allow(missing_docs, reason = "told at the enum")]
    Trim { offset: u64, len: u32, fua: bool },
    /// The range reads as zeros from now on.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Durable before completing.
        fua: bool,
        /// Keep the range allocated: no hole.
        no_hole: bool,
        /// Fail with `EOPNOTSUPP` at once unless this is faster than writing zeros.
        fast: bool,
    },
    /// Say which parts of the range are holes or zeros: [`Extra::Extents`].
    BlockStatus {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// One extent is enough.
        one: bool,
    },
}

/// A run of bytes with the same allocation state (`base:allocation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub len: u64,
    /// Not allocated: a write may need new space.
    pub hole: bool,
    /// Reads as zeros.
    pub zero: bool,
}

/// What comes with success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing; for a read: the data is in the buffer.
    None,
    /// For a read: the whole range is zeros and the buffer was not touched.
    Zeroes,
    /// For a block status: consecutive extents from the requested offset on. They may stop early
    /// or reach past the end of the request; the server cuts and merges them.
    Extents(Vec<Extent>),
}

/// A completed operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// As submitted.
    pub token: Token,
    /// Success, or an errno.
    pub result: Result<Extra, Failure>,
}

/// What the backend wants of the server, asked each turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Serve.
    #[default]
    Run,
    /// Take no new requests to the backend for now, as [`crate::Handle::freeze`] does.
    Freeze,
    /// Finish what is in flight and return from [`crate::Server::run`].
    Stop,
}

/// Memory that sockets read into and send from.
///
/// # Safety
/// From `alloc` to `release`, `buffer` returns the same pointer for an id, it is valid for reads
/// and writes of the returned size (at least the length asked for), and nothing in this process
/// holds a Rust reference to those bytes while the server does (before `submit`, and after the
/// completion). Several ids may name the same memory only if its content does not matter.
pub unsafe trait Buffers {
    /// Takes a buffer of at least `len` bytes. `None`: none is free now. Then the server stops
    /// reading that connection and tries again after each release and each completion; so the
    /// event descriptor must fire when trying again is worthwhile for another reason.
    fn alloc(&mut self, len: usize, transfer: Transfer) -> Option<BufferId>;
    /// Where a buffer is, and its size in bytes.
    fn buffer(&mut self, id: BufferId) -> (*mut u8, usize);
    /// Gives a buffer back.
    fn release(&mut self, id: BufferId);
}

/// One volume. See the module's first lines for the rules.
pub trait Export: Buffers {
    /// Bytes, now. It may grow while clients are connected; they see it when they reconnect.
    fn size(&self) -> u64;
    /// Sizes told to clients; constant.
    fn block_sizes(&self) -> BlockSizes {
        BlockSizes::DEFAULT
    }
    /// Whether writes are refused; constant.
    fn read_only(&self) -> bool {
        false
    }
    /// The name that clients ask for. The empty name leads here too.
    fn name(&self) -> &str;
    /// Starts an operation.
    fn submit(&mut self, token: Token, op: Op);
    /// Appends what has completed since the last call. Cheap when there is nothing: it is called
    /// in a spin loop.
    fn poll(&mut self, done: &mut Vec<Done>);
    /// Called before the thread sleeps. `true`: nothing is ready, and the event descriptor will
    /// fire when something is. `false`: poll again first.
    fn prepare_sleep(&mut self) -> bool {
        true
    }
    /// A descriptor, constant, that becomes readable (an edge is enough) when `poll` has
    /// something, a buffer became free, or `turn` wants to be asked. The server does not read it.
    fn event_fd(&self) -> Option<RawFd> {
        None
    }
    /// The event descriptor fired. A backend whose descriptor must be drained does so here.
    fn woken(&mut self) {}
    /// Called once each turn of the loop.
    fn turn(&mut self) -> Turn {
        Turn::Run
    }
}
