//! What can go wrong, as a kind to match on and a sentence to read.

use std::fmt;

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ErrorKind {
    /// There is no such volume, object or lock.
    NotFound,
    /// The name is taken.
    Exists,
    /// Another node or operation holds it.
    Busy,
    /// A snapshot can't be written.
    ReadOnly,
    /// The request makes no sense: its name, range or size.
    Invalid,
    /// The storage is full.
    Full,
    /// The node does not run, or went away.
    NotRunning,
    /// This node lost the volume's lock.
    LostLock,
    /// The storage failed.
    Io,
}

/// A failed operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// Linux errno.
    pub errno: i32,
    /// What was attempted, on what: `read of volume "x" at 4096`.
    pub what: String,
}

impl Error {
    pub(crate) fn new(errno: i32, what: impl Into<String>) -> Error {
        Error {
            errno,
            what: what.into(),
        }
    }

    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self.errno {
            libc::ENOENT => ErrorKind::NotFound,
            libc::EEXIST => ErrorKind::Exists,
            libc::EBUSY | libc::EAGAIN => ErrorKind::Busy,
            libc::EROFS => ErrorKind::ReadOnly,
            libc::EINVAL | libc::ENAMETOOLONG | libc::E2BIG | libc::EOPNOTSUPP | libc::ERANGE => {
                ErrorKind::Invalid
            }
            libc::ENOSPC | libc::EDQUOT => ErrorKind::Full,
            libc::ENXIO | libc::ENOTCONN | libc::ECONNRESET => ErrorKind::NotRunning,
            libc::ESTALE => ErrorKind::LostLock,
            _ => ErrorKind::Io,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.errno {
            libc::ENXIO | libc::ENOTCONN | libc::ECONNRESET => "the node does not run".to_owned(),
            libc::ESTALE => {
                "this node no longer holds the volume's lock; close it and open it again".to_owned()
            }
            libc::EBUSY => "it is locked or in use elsewhere".to_owned(),
            libc::EROFS => "it is read-only".to_owned(),
            libc::ENOENT => "there is no such volume, object or lock".to_owned(),
            libc::EEXIST => "the name is taken".to_owned(),
            libc::ENAMETOOLONG => "the name is too long".to_owned(),
            libc::EINVAL => "the volume, name, range or size does not allow it".to_owned(),
            libc::ENOBUFS | libc::EAGAIN => "the segment has no room for it now".to_owned(),
            errno => nix::errno::Errno::from_raw(errno).desc().to_owned(),
        };
        write!(f, "{}: {reason}", self.what)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        let kind = std::io::Error::from_raw_os_error(error.errno).kind();
        std::io::Error::new(kind, error)
    }
}
