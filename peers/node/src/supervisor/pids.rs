//! Pid files, living processes, and descriptors of processes.
//!
//! A pid file holds a decimal number. It is believed only while a process of that number runs
//! one of our programs (their names begin with `archip`), for numbers are used again.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// What the names of all our processes begin with.
const OUR_NAMES: &str = "archip";

/// What a pid file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// There is no pid file.
    Absent,
    /// The process of this number is one of ours and lives.
    Running(i32),
    /// There is a pid file, but no such process; the number, if it is one.
    Stale(Option<i32>),
}

impl Presence {
    /// The living process.
    pub fn pid(self) -> Option<i32> {
        match self {
            Presence::Running(pid) => Some(pid),
            _ => None,
        }
    }
}

/// Reads a pid file and looks for its process.
pub fn look(path: &Path) -> Presence {
    let Ok(text) = fs::read_to_string(path) else {
        return Presence::Absent;
    };
    match text.trim().parse::<i32>().ok().filter(|&pid| pid > 0) {
        Some(pid) if is_ours(pid) => Presence::Running(pid),
        pid => Presence::Stale(pid),
    }
}

/// Whether `pid` lives and runs one of our programs.
pub fn is_ours(pid: i32) -> bool {
    stat(pid).is_some_and(|s| s.name.starts_with(OUR_NAMES) && !matches!(s.state, 'Z' | 'X'))
}

/// When `pid` began, in clock ticks since the machine did; `None` when it is over.
pub fn start_time(pid: i32) -> Option<u64> {
    stat(pid).filter(|s| s.state != 'Z').map(|s| s.start_time)
}

struct Stat {
    name: String,
    state: char,
    start_time: u64,
}

/// proc_pid_stat(5): `PID (NAME) STATE ...`, the start time is field 22.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Stat {
        name: name.to_owned(),
        state: fields.next()?.chars().next()?,
        start_time: fields.nth(18)?.parse().ok()?,
    })
}

/// Removes a pid file that says `pid`, or that names no living process. True: there was one.
pub fn remove_stale(path: &Path, dead: Option<i32>) -> io::Result<bool> {
    let stale = match look(path) {
        Presence::Absent => false,
        Presence::Stale(_) => true,
        Presence::Running(pid) => Some(pid) == dead,
    };
    if stale {
        fs::remove_file(path)?;
    }
    Ok(stale)
}

/// A process, by a descriptor that stays its own when the number is used again.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Of a child, or of any process that lives.
    pub fn open(pid: i32) -> io::Result<Pidfd> {
        // SAFETY: pidfd_open takes two numbers and no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns; it was
        // made close-on-exec (pidfd_open(2)).
        Ok(Pidfd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Whether the process is over.
    pub fn is_over(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Sends a signal; a process that is over is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // SAFETY: pidfd_send_signal reads no memory when its third argument is null.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal as i32,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match io::Error::last_os_error() {
            _ if done == 0 => Ok(()),
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            e => Err(e),
        }
    }
}

impl AsFd for Pidfd {
    /// Readable once the process is over.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
