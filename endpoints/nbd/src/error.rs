//! Errors as an NBD client sees them: a small set of numbers and a sentence.
//!
//! Always true here: whatever a backend answers, only a number of the protocol's own list leaves
//! the server (`doc/proto.md`, "Error values"), and never 0, which would mean success.

/// The errors that the protocol knows. The value is what goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NbdError {
    /// Not permitted: a write to a read-only export.
    Perm = 1,
    /// The storage failed.
    Io = 5,
    /// Out of memory.
    NoMem = 12,
    /// The request makes no sense, or its range is not in the export.
    Inval = 22,
    /// No space, or a write past the end.
    NoSpace = 28,
    /// Too large to answer in one piece.
    Overflow = 75,
    /// Zeroes can't be written faster than data (only after `FAST_ZERO`).
    NotSup = 95,
    /// The server is going away.
    Shutdown = 108,
}

impl NbdError {
    /// The protocol's error for an errno of this system. `fast_zero` says whether the request
    /// carried `FAST_ZERO`: only then may `ENOTSUP` be answered.
    pub fn from_errno(errno: i32, fast_zero: bool) -> Self {
        match errno {
            libc::EPERM | libc::EACCES | libc::EROFS => Self::Perm,
            libc::ENOMEM => Self::NoMem,
            libc::EINVAL => Self::Inval,
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Self::NoSpace,
            libc::EOPNOTSUPP if fast_zero => Self::NotSup,
            libc::EOPNOTSUPP => Self::Inval,
            libc::ESHUTDOWN => Self::Shutdown,
            _ => Self::Io,
        }
    }

    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }
}

/// Why the server answers a request itself, without asking the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client matches on.
    pub error: NbdError,
    /// What a person reads.
    pub why: &'static str,
}

/// What a backend says of an operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// An errno of this system; it is mapped to one of the protocol's.
    pub errno: i32,
    /// Absolute offset of the first byte that failed, if known. One outside the request is ignored.
    pub offset: Option<u64>,
}

impl From<i32> for Failure {
    fn from(errno: i32) -> Self {
        Self {
            errno,
            offset: None,
        }
    }
}
