//! Why an operation failed: the errno that its answer carries. The sentence goes to the log where
//! the failure is found.

use mapfile::{FormatError, NameError};
use xseg::protocol::BadStructure;

/// A Linux errno, positive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

/// What every step of an operation returns.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

impl Errno {
    pub(crate) const NOENT: Errno = Errno(libc::ENOENT);
    pub(crate) const EXIST: Errno = Errno(libc::EEXIST);
    pub(crate) const ROFS: Errno = Errno(libc::EROFS);
    pub(crate) const BUSY: Errno = Errno(libc::EBUSY);
    pub(crate) const INVAL: Errno = Errno(libc::EINVAL);
    pub(crate) const NAMETOOLONG: Errno = Errno(libc::ENAMETOOLONG);
    pub(crate) const IO: Errno = Errno(libc::EIO);
    pub(crate) const FBIG: Errno = Errno(libc::EFBIG);
    pub(crate) const STALE: Errno = Errno(libc::ESTALE);
    pub(crate) const NOTSUP: Errno = Errno(libc::EOPNOTSUPP);
    pub(crate) const OVERFLOW: Errno = Errno(libc::EOVERFLOW);
    pub(crate) const NOMEM: Errno = Errno(libc::ENOMEM);
    pub(crate) const PERM: Errno = Errno(libc::EPERM);
}

impl Errno {
    /// Whether the request was never worked on: no slot, no buffer, no server.
    pub(crate) fn is_shortage(self) -> bool {
        matches!(self.0, libc::EAGAIN | libc::ENXIO | libc::ENOBUFS)
    }
}

impl From<FormatError> for Errno {
    /// What the caller got wrong (a name that is no map, a size) is EINVAL; a map that claims to
    /// be one and is not readable is EIO.
    fn from(error: FormatError) -> Errno {
        match error {
            FormatError::Absent => Errno::NOENT,
            FormatError::EpochsExhausted => Errno::OVERFLOW,
            FormatError::NamesExhausted => Errno::NOMEM,
            FormatError::Foreign
            | FormatError::Short { .. }
            | FormatError::BlockSize(_)
            | FormatError::Oversize(_)
            | FormatError::ZeroSize
            | FormatError::Ragged(_)
            | FormatError::Count { .. }
            | FormatError::Range { .. } => Errno::INVAL,
            FormatError::Version(_)
            | FormatError::Flags(_)
            | FormatError::Truncated { .. }
            | FormatError::Entry { .. } => Errno::IO,
        }
    }
}

impl From<NameError> for Errno {
    fn from(error: NameError) -> Errno {
        match error {
            NameError::TooLong { .. } => Errno::NAMETOOLONG,
            _ => Errno::INVAL,
        }
    }
}

impl From<BadStructure> for Errno {
    fn from(_: BadStructure) -> Errno {
        Errno::INVAL
    }
}
