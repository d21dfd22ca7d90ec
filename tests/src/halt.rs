//! SIGSTOP and SIGCONT: a process that hangs for as long as a test wants.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A stopped process; it goes on when this is dropped.
#[must_use]
pub struct Halted(Pid);

/// Stops a process; returns when every thread of it stands still.
///
/// # Panics
/// There is no such process.
pub fn halt(pid: i32) -> Halted {
    let halted = Halted(Pid::from_raw(pid));
    kill(halted.0, Signal::SIGSTOP).expect("a living process");
    let stands = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // A thread that is gone stands still, too.
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = || std::fs::read_dir(format!("/proc/{pid}/task"));
    while !tasks().is_ok_and(|tasks| tasks.flatten().all(stands)) {
        std::thread::yield_now();
    }
    halted
}

impl Drop for Halted {
    fn drop(&mut self) {
        // It fails only for a process that was killed meanwhile.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
