//! Why an operation failed: a number of `errno(3)`, its name and a sentence.

use std::{fmt, io};

/// An error number of the operating system, as `XS_FAILED` requests carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(
    /// The positive number (`ENOENT` is 2 on Linux).
    pub i32,
);

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $number:ident, $sentence:literal;)*) => {
        impl Errno {
            $($(#[$doc])* pub const $name: Errno = Errno(libc::$number);)*

            /// The symbolic name, such as `ENOENT`; `errno` for a number without one here.
            pub fn name(self) -> &'static str {
                match self.0 { $(libc::$number => stringify!($number),)* _ => "errno" }
            }

            /// What happened, for a person; `None` for a number without a sentence here.
            fn sentence(self) -> Option<&'static str> {
                match self.0 { $(libc::$number => Some($sentence),)* _ => None }
            }
        }
    };
}

errnos! {
    /// No such object.
    NOENT = ENOENT, "the object does not exist";
    /// It exists already.
    EXIST = EEXIST, "the object exists already";
    /// The storage failed.
    IO = EIO, "the storage failed";
    /// The storage is full.
    NOSPC = ENOSPC, "the storage is full";
    /// The quota is used up.
    DQUOT = EDQUOT, "the quota is used up";
    /// Held by somebody else.
    BUSY = EBUSY, "it is held by somebody else";
    /// Not ours to give back.
    PERM = EPERM, "it is not ours";
    /// Permission denied.
    ACCES = EACCES, "permission is denied";
    /// Nonsense in the request.
    INVAL = EINVAL, "the request makes no sense";
    /// Too long a name for the storage.
    NAMETOOLONG = ENAMETOOLONG, "the name is too long for the storage";
    /// Larger than the storage can hold in one object.
    FBIG = EFBIG, "the object would become too large";
    /// The storage cannot do that.
    NOTSUP = EOPNOTSUPP, "the storage cannot do that";
    /// A lock or lease of an earlier time.
    STALE = ESTALE, "it belongs to an earlier lock or lease";
    /// The storage is read-only.
    ROFS = EROFS, "the storage is read-only";
    /// No memory.
    NOMEM = ENOMEM, "there is not enough memory";
    /// Ask again.
    AGAIN = EAGAIN, "ask again";
    /// Given up before it started.
    CANCELED = ECANCELED, "it was given up";
    /// Too slow.
    TIMEDOUT = ETIMEDOUT, "the storage did not answer in time";
}

impl Errno {
    /// From a system call's negative result, as io_uring completions carry it.
    pub fn from_result(result: i32) -> Errno {
        Errno(-result)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::IO, Errno)
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sentence() {
            Some(sentence) => f.write_str(sentence),
            None => write!(f, "{}", io::Error::from_raw_os_error(self.0)),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_name_and_a_sentence() {
        assert_eq!(Errno::NOENT.name(), "ENOENT");
        assert_eq!(Errno::NOENT.to_string(), "the object does not exist");
        assert_eq!(Errno::from_result(-28), Errno::NOSPC);
        assert!(Errno(libc::EXDEV).to_string().contains("link"));
        assert_eq!(Errno::from(io::Error::other("x")), Errno::IO);
    }
}
