//! The one small process of a node: it holds the segment, hands it out, starts the peers and
//! restarts a dead one. It has no other duty, and looks into no request.
//!
//! ```text
//!  archipelago start ---spawns---> supervisor ---spawns---> archip-node, archip-filed, ...
//!        ^                          |   ^  ^                      | `ready` through a pipe
//!        `------- events -----------'   |  `-- pidfd: it died ----'
//!  archipelago stop, status --- RUN_DIR/supervisor.sock (JSON lines)
//! ```
//!
//! What always holds:
//! - One thread, one poll loop: the holder's descriptor, signals, the control socket and its
//!   connections, and of each child its pidfd and its ready pipe. Nothing in it waits.
//! - Whoever listens at the segment's socket is the supervisor; its pid file is for display.
//! - One job (start, stop, restart) at a time, its steps one after the other in order of `ROLES`.
//! - A child that dies outside a job is started again, for ever, ever less eagerly.
//! - The supervisor may die: the peers live on, and a successor takes the segment back from one
//!   of them and watches over their processes by pidfd.
//!
//! | module | what it holds |
//! |---|---|
//! | [`control`] | what is asked of it, what it tells, and the asking side |
//! | [`pids`] | pid files, living processes, pidfds |
//! | [`launch`] | which programs play the node's roles, and how one is started |
//! | `child` | one of them over time |
//! | `job` | what is to be started and stopped, in which order |
//! | `prepare` | directories, sockets, and who to become |
//! | `log` | its log |
//! | `watch` | the loop |
//! | `steps`, `guests` | how jobs go on; who asks for them |

mod child;
pub mod control;
mod guests;
mod job;
pub mod launch;
mod log;
pub mod pids;
mod prepare;
mod steps;
mod watch;

use config::NodeConfig;
use control::Event;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xseg::join::HolderError;

pub use log::{Log, log_file, open_log};
pub use prepare::{become_user, directories as make_directories, give};
pub use watch::Supervisor;

/// How long a living peer of a crashed supervisor has to offer the segment to its successor.
pub const ADOPT_WITHIN: Duration = Duration::from_secs(5);
/// How long a process may take until it serves: 3 s is usual, the rest is for the drain of a
/// predecessor that was killed.
pub const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a process may take to stop.
pub const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Where the segment of this node is handed out.
pub fn segment_socket(config: &NodeConfig) -> PathBuf {
    config.segment_socket()
}

/// Where the supervisor listens for commands.
pub fn control_socket(run_dir: &Path) -> PathBuf {
    run_dir.join("supervisor.sock")
}

/// Where the supervisor's process id is.
pub fn pid_file(run_dir: &Path) -> PathBuf {
    run_dir.join("supervisor.pid")
}

/// How to run.
pub struct Options {
    /// Start this role's process only; the others when they are asked for.
    pub only: Option<String>,
    /// Told what happens until the node is up, or has failed to come up.
    pub progress: Box<dyn FnMut(&Event)>,
    /// Where the children's standard error goes, and where to look for why one failed; without
    /// it they inherit ours.
    pub log: Option<Log>,
    /// Where to look for the peers' programs first.
    pub programs: Option<PathBuf>,
}

/// Why there is no supervisor.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Somebody holds this node's segment already.
    #[error("Archipelago is running already: {0}")]
    Running(String),
    /// No such role in the configuration.
    #[error("there is no role {0} in this configuration")]
    NoSuchRole(String),
    /// The segment can't be made or handed out.
    #[error("can't hold the segment")]
    Holder(#[source] HolderError),
    /// A directory, socket or file of the node.
    #[error("can't {what} {}", .path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call failed.
    #[error("can't {what}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A peer did not come up; the progress said which and why.
    #[error("the node did not come up")]
    Failed,
}

impl SupervisorError {
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SupervisorError {
        move |source| SupervisorError::File {
            what,
            path: path.to_owned(),
            source,
        }
    }

    fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SupervisorError {
        move |source| SupervisorError::System {
            what,
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests;
