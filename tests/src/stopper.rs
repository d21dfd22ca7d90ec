//! Stops a process in the midst of what it does, as often as it takes: where a window of a
//! request's life is only a few nanoseconds wide, one stop in thousands hits it.
//!
//! The main thread (the reactor, which alone touches the segment) is stopped by ptrace wherever
//! it is and looked at; if that is not where it is wanted, it goes on for some microseconds. What
//! always holds: from the stop to its death the process executes no instruction, so what the
//! shared state words say at the stop is what it dies with. What the kernel does for it goes on
//! meanwhile. Nothing in the product knows of this.

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// A process whose main thread is stopped; it goes on when this is dropped.
pub struct Stopped {
    pid: Pid,
    /// What came between and is not ours to swallow.
    signal: Option<Signal>,
    killed: bool,
}

/// Stops `pid`. `None`: it is gone, or may not be traced.
pub fn stop(pid: i32) -> Option<Stopped> {
    let pid = Pid::from_raw(pid);
    ptrace::seize(pid, ptrace::Options::empty()).ok()?;
    let mut stopped = Stopped {
        pid,
        signal: None,
        killed: false,
    };
    stopped.interrupt()?;
    Some(stopped)
}

impl Stopped {
    fn interrupt(&mut self) -> Option<()> {
        ptrace::interrupt(self.pid).ok()?;
        match waitpid(self.pid, Some(WaitPidFlag::__WALL)).ok()? {
            WaitStatus::PtraceEvent(..) => self.signal = None,
            WaitStatus::Stopped(_, signal) => self.signal = Some(signal),
            _ => return None,
        }
        Some(())
    }

    /// Lets it go on for about `pause`, and stops it again. `None`: it is gone.
    pub fn go_on(&mut self, pause: Duration) -> Option<()> {
        ptrace::cont(self.pid, self.signal).ok()?;
        let end = Instant::now() + pause;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        self.interrupt()
    }

    /// Kills it where it stands.
    pub fn kill(mut self) -> nix::Result<()> {
        kill(self.pid, Signal::SIGKILL)?;
        self.killed = true;
        // It is not our child: its own parent buries it, but its tracer must hear of it first.
        let _ = waitpid(self.pid, Some(WaitPidFlag::__WALL));
        Ok(())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if !self.killed {
            // It fails only for a process that is gone.
            let _ = ptrace::detach(self.pid, self.signal);
        }
    }
}
