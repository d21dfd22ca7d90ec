//! What can go wrong in an endpoint, as a kind to match on and a sentence to read.

use std::fmt;

/// Why something failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The configuration or the command line.
    Config,
    /// No node runs, or it went away.
    NotRunning,
    /// The volume: there is none of that name, or somebody else holds it.
    Volume,
    /// The device is in use.
    Busy,
    /// The state does not allow it.
    Refused,
    /// A system call.
    System,
}

/// A failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// To match on.
    pub kind: ErrorKind,
    /// To read: what was attempted, on what, and why it failed.
    pub sentence: String,
    /// The processes in the way, of [`ErrorKind::Busy`].
    pub pids: Vec<i32>,
}

impl Error {
    /// A failure of `kind`.
    pub fn new(kind: ErrorKind, sentence: impl Into<String>) -> Error {
        Error {
            kind,
            sentence: sentence.into(),
            pids: Vec::new(),
        }
    }

    /// `pids` use the device (it may be unknown who does).
    pub fn busy(pids: Vec<i32>) -> Error {
        Error {
            pids,
            ..Error::new(ErrorKind::Busy, "busy")
        }
    }

    /// For `map_err`: a system call failed while `what` was attempted.
    pub fn system<E: fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |why| Error::new(ErrorKind::System, format!("{what}: {why}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Error {}
