//! What is asked of a supervisor, what it tells, and the asking side.
//!
//! One connection carries one request, a line of JSON, and then lines of JSON that tell what
//! happens until [`Event::Done`] or [`Event::Error`]. After the end of the whole node the
//! connection closes when the supervisor is gone, and its segment with it.

use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The longest request, bytes.
pub(super) const REQUEST_MAX: usize = 4096;

/// What to do. A role stands for the whole process that it lives in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Say how everything is.
    Status,
    /// Start a role, or all that do not run.
    Start {
        /// Which; all without it.
        role: Option<String>,
    },
    /// Stop a role; or everything, the supervisor included.
    Stop {
        /// Which; everything without it.
        role: Option<String>,
        /// Kill what does not end.
        #[serde(default)]
        force: bool,
    },
    /// Stop and start a role, or all.
    Restart {
        /// Which; all without it.
        role: Option<String>,
    },
}

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The process of these roles is being started.
    Starting {
        /// Roles of one process.
        roles: Vec<String>,
    },
    /// It serves.
    Started {
        /// Roles of one process.
        roles: Vec<String>,
    },
    /// It was asked to stop.
    Stopping {
        /// Roles of one process.
        roles: Vec<String>,
    },
    /// It is over.
    Stopped {
        /// Roles of one process.
        roles: Vec<String>,
    },
    /// It did not end in time, was killed, and is over; only after a stop with force.
    Killed {
        /// Roles of one process.
        roles: Vec<String>,
    },
    /// There was nothing to stop.
    NotRunning {
        /// Roles of one process.
        roles: Vec<String>,
    },
    /// It did not come up, or did not stop.
    Failed {
        /// Roles of one process.
        roles: Vec<String>,
        /// A sentence.
        reason: String,
    },
    /// Something worth a line.
    Note {
        /// A sentence.
        text: String,
    },
    /// The answer to [`Request::Status`].
    Status(Status),
    /// Everything that was asked for is done.
    Done,
    /// It is not, and no more will happen.
    Error {
        /// A sentence.
        text: String,
    },
}

/// How everything is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The supervisor's process.
    pub pid: u32,
    /// Which life of the node this is.
    pub generation: u64,
    /// The processes, in order of their start.
    pub processes: Vec<ProcessStatus>,
}

/// One process of peers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// The `process` key's value, or the name of the only role.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// What it is doing.
    pub state: ProcessState,
    /// Its process id, if it lives.
    pub pid: Option<i32>,
    /// How often it was started again because it had died.
    pub restarts: u32,
}

/// What a process of peers is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    /// It was stopped, or never started.
    Stopped,
    /// It recovers and does not serve yet.
    Starting,
    /// It serves.
    Running,
    /// It died, and is started again soon.
    Waiting,
    /// It was asked to stop.
    Stopping,
}

/// Why a supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no supervisor listens at {}", .0.display())]
    NotRunning(PathBuf),
    /// It says so.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
    #[error("the supervisor went away: {0}")]
    Broken(#[source] io::Error),
}

/// Asks the supervisor that listens at `socket`, and hands every event to `tell` until the last.
/// After [`Request::Stop`] of everything it returns when the supervisor is gone.
pub fn ask(socket: &Path, request: &Request, mut tell: impl FnMut(Event)) -> Result<(), AskError> {
    let stream = UnixStream::connect(socket).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning(socket.to_owned())
        }
        _ => AskError::Broken(e),
    })?;
    send(&stream, request).map_err(AskError::Broken)?;
    let mut end = None;
    for line in BufReader::new(&stream).lines() {
        match parse(&line.map_err(AskError::Broken)?)? {
            Event::Done => end = Some(Ok(())),
            Event::Error { text } => end = Some(Err(AskError::Refused(text))),
            event => tell(event),
        }
    }
    end.unwrap_or_else(|| Err(AskError::Broken(io::ErrorKind::UnexpectedEof.into())))
}

/// How everything is, as the supervisor says.
pub fn status(socket: &Path) -> Result<Status, AskError> {
    let mut found = None;
    ask(socket, &Request::Status, |event| {
        if let Event::Status(status) = event {
            found = Some(status);
        }
    })?;
    found.ok_or_else(|| AskError::Broken(io::ErrorKind::InvalidData.into()))
}

/// Reads one line that a supervisor wrote.
pub fn parse(line: &str) -> Result<Event, AskError> {
    serde_json::from_str(line).map_err(|e| AskError::Broken(e.into()))
}

/// Writes one message as a line.
pub fn send(mut stream: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}
