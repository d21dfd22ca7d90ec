//! Stops a process at one of its instructions: where a window of a request's life is only a few
//! nanoseconds wide, no stop at a random moment ever hits it.
//!
//! The main thread (the reactor) is stepped by ptrace, one instruction at a time, until a condition
//! on the shared segment holds. Nothing in the product knows of this.

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A process whose main thread is stopped; to be killed, not resumed.
pub struct Stopped(Pid);

/// Steps the main thread of `pid` until `holds` or `most` instructions have passed. `None`: the
/// process is gone, or may not be traced.
pub fn step_until(pid: i32, most: u32, mut holds: impl FnMut() -> bool) -> Option<Stopped> {
    let pid = Pid::from_raw(pid);
    ptrace::seize(pid, ptrace::Options::empty()).ok()?;
    ptrace::interrupt(pid).ok()?;
    wait_stop(pid)?;
    for _ in 0..most {
        if holds() {
            break;
        }
        ptrace::step(pid, None).ok()?;
        wait_stop(pid)?;
    }
    Some(Stopped(pid))
}

fn wait_stop(pid: Pid) -> Option<()> {
    match waitpid(pid, Some(WaitPidFlag::__WALL)).ok()? {
        WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) => Some(()),
        _ => None,
    }
}

impl Stopped {
    /// Kills it where it stands.
    pub fn kill(self) -> nix::Result<()> {
        nix::sys::signal::kill(self.0, Signal::SIGKILL)?;
        // It is not our child: its own parent buries it, but its tracer must hear of it first.
        let _ = waitpid(self.0, Some(WaitPidFlag::__WALL));
        Ok(())
    }
}
