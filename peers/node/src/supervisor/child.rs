//! One process of peers over time.
//!
//! ```text
//!   Stopped --launch--> Starting --`ready`--> Running --signal--> Stopping --death--> Stopped
//!      ^                   |  ^                  |
//!      |   death in a job  |  '---- Waiting <----'  death: again after a pause
//!      '-------------------'
//! ```

use super::control::{ProcessState, ProcessStatus};
use super::launch::{Plan, READY};
use super::log::Log;
use super::pids::{self, Pidfd};
use super::{Options, READY_WITHIN, STOP_WITHIN};
use config::paths::Places;
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Pauses before a start, by how often in a row the process died soon after the last one.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// A death so soon after the start counts as one more in a row.
const SOON: Duration = Duration::from_secs(1);

/// The process, as long as it lives.
#[derive(Debug)]
struct Living {
    pid: i32,
    /// `None` when a crashed supervisor started it: then it is not ours to wait for.
    child: Option<std::process::Child>,
    pidfd: Pidfd,
    /// Until it said that it is ready.
    ready: Option<File>,
    heard: Vec<u8>,
    since: Instant,
    /// Where the log ended when it was started.
    log_position: u64,
}

/// What became of a process.
#[derive(Debug)]
pub(super) struct Death {
    /// What it was doing.
    pub(super) state: ProcessState,
    /// A sentence.
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Child {
    pub(super) plan: Plan,
    pub(super) state: ProcessState,
    living: Option<Living>,
    /// It did not end when it was asked to.
    killed: bool,
    /// When to start it again, or when patience with it ends.
    until: Option<Instant>,
    restarts: u32,
    quick_deaths: usize,
}

impl Child {
    pub(super) fn new(plan: Plan) -> Child {
        Child {
            plan,
            state: ProcessState::Stopped,
            living: None,
            killed: false,
            until: None,
            restarts: 0,
            quick_deaths: 0,
        }
    }

    pub(super) fn status(&self) -> ProcessStatus {
        ProcessStatus {
            name: self.plan.name.clone(),
            roles: self.plan.roles.clone(),
            state: self.state,
            pid: self.living.as_ref().map(|l| l.pid),
            restarts: self.restarts,
        }
    }

    /// Takes over a process that a crashed supervisor started.
    pub(super) fn adopt(&mut self, pid: i32) -> io::Result<()> {
        self.living = Some(Living {
            pid,
            child: None,
            pidfd: Pidfd::open(pid)?,
            ready: None,
            heard: Vec::new(),
            since: Instant::now(),
            log_position: 0,
        });
        self.state = ProcessState::Running;
        Ok(())
    }

    /// Starts the process, after the pid files of a dead one are gone.
    pub(super) fn launch(&mut self, places: &Places, options: &Options) -> io::Result<()> {
        let log = options.log.as_ref();
        for file in &self.plan.pid_files {
            if pids::remove_stale(file, None)? {
                warn!("removed the stale pid file {}", file.display());
            }
        }
        let program = self.plan.find_program(options.programs.as_deref())?;
        info!("starting {} ({})", self.plan.name, program.display());
        let log_position = log.map_or(0, Log::position);
        let stderr = log.map(Log::handle).transpose()?;
        let launched = self.plan.launch(&program, places, stderr)?;
        let pid = launched.child.id() as i32;
        self.living = Some(Living {
            pid,
            pidfd: Pidfd::open(pid)?,
            child: Some(launched.child),
            ready: Some(launched.ready),
            heard: Vec::new(),
            since: Instant::now(),
            log_position,
        });
        self.killed = false;
        self.enter(ProcessState::Starting, Some(READY_WITHIN));
        Ok(())
    }

    /// Asks the process to end.
    pub(super) fn ask_to_stop(&mut self) -> io::Result<()> {
        match &self.living {
            Some(living) => {
                living.pidfd.signal(Signal::SIGTERM)?;
                self.enter(ProcessState::Stopping, Some(STOP_WITHIN));
            }
            None => self.enter(ProcessState::Stopped, None),
        }
        Ok(())
    }

    /// Ends the process, whatever it is doing; the kernel and its successor clean up.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        if let Some(living) = &self.living {
            living.pidfd.signal(Signal::SIGKILL)?;
            self.killed = true;
            self.enter(ProcessState::Stopping, Some(STOP_WITHIN));
        }
        Ok(())
    }

    /// Whether it was killed by us, instead of being asked to end.
    pub(super) fn was_killed(&self) -> bool {
        self.killed
    }

    pub(super) fn enter(&mut self, state: ProcessState, within: Option<Duration>) {
        self.state = state;
        self.until = within.map(|within| Instant::now() + within);
    }

    pub(super) fn is_living(&self) -> bool {
        self.living.is_some()
    }

    /// The descriptor that tells of its death, and the one on which it says that it is ready.
    pub(super) fn descriptors(&self) -> Option<(BorrowedFd<'_>, Option<BorrowedFd<'_>>)> {
        let living = self.living.as_ref()?;
        let ready = living.ready.as_ref().map(File::as_fd);
        Some((living.pidfd.as_fd(), ready))
    }

    /// When [`Child::is_overdue`] may become true.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Whether its pause, or the patience with it, is over.
    pub(super) fn is_overdue(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Listens on the ready pipe. A process that closes it without the word is about to die.
    pub(super) fn listen(&mut self) {
        let Some(living) = &mut self.living else {
            return;
        };
        let Some(ready) = &mut living.ready else {
            return;
        };
        let mut bytes = [0; 64];
        match ready.read(&mut bytes) {
            Ok(0) => living.ready = None,
            Ok(count) => living.heard.extend_from_slice(&bytes[..count]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => living.ready = None,
        }
        if living.heard.starts_with(READY) {
            living.ready = None;
            info!(
                "{} serves after {} ms",
                self.plan.name,
                living.since.elapsed().as_millis()
            );
            if self.state == ProcessState::Starting {
                self.enter(ProcessState::Running, None);
            }
        }
    }

    /// Buries the process if it is dead. Its pid files go, and so do counters of its life.
    pub(super) fn bury(&mut self, log: Option<&Log>) -> Option<Death> {
        let living = self.living.as_mut()?;
        let status = match &mut living.child {
            // None: it lives still, or is not waited for by us alone.
            Some(child) => Some(child.try_wait().ok().flatten()?),
            None if living.pidfd.is_over() => None,
            None => return None,
        };
        let living = self.living.take()?;
        for file in &self.plan.pid_files {
            // What can't be removed is found, and reported, at the next start.
            let _ = pids::remove_stale(file, Some(living.pid));
        }
        // Killed by somebody: it did nothing wrong, and is started at once.
        let killed = status.is_some_and(|s| s.signal() == Some(libc::SIGKILL));
        if living.since.elapsed() < SOON && !killed {
            self.quick_deaths += 1;
        } else {
            self.quick_deaths = 0;
        }
        let mut reason = describe(status);
        let said = log.and_then(|log| log.last_line(living.log_position));
        if let Some(said) = said.filter(|_| self.state == ProcessState::Starting) {
            reason = format!("{reason}: {said}");
        }
        Some(Death {
            state: std::mem::replace(&mut self.state, ProcessState::Stopped),
            reason,
        })
    }

    /// Plans another start after a death.
    pub(super) fn try_again(&mut self) {
        let pause = PAUSES[self.quick_deaths.min(PAUSES.len() - 1)];
        self.restarts += 1;
        self.enter(ProcessState::Waiting, Some(pause));
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    let Some(status) = status else {
        return "it is gone".into();
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => "it ended".into(),
        (Some(code), _) => format!("it ended with status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("it was ended by {signal}"),
            Err(_) => format!("it was ended by signal {signal}"),
        },
        (None, None) => "it is gone".into(),
    }
}
