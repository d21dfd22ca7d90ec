//! Waiting for answers: a short spin, then the bell.
//!
//! Spinning pays only when the answer comes within a few microseconds, so the length adapts: a
//! spin that was in vain halves it, one that was not restores it. Every sixteenth time the whole
//! length is tried again, because who only ever sleeps never learns that answers have become
//! quick. It never exceeds 20 us.

use crate::core::{Core, Done};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

const SPIN_MAX: Duration = Duration::from_micros(20);
const SPIN_MIN: Duration = Duration::from_micros(1);

/// Spins in vain before the whole length is tried again.
const PROBE: u32 = 16;

/// How long to spin before sleeping.
#[derive(Debug)]
pub struct Patience {
    length: Duration,
    in_vain: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            length: SPIN_MAX,
            in_vain: 0,
        }
    }
}

impl Patience {
    /// Waits until something is done and appends it to `done`. False: `node` (the connection to
    /// the segment's holder) ended, the answers will not come.
    pub fn wait(
        &mut self,
        core: &mut Core,
        node: Option<BorrowedFd<'_>>,
        done: &mut Vec<Done>,
    ) -> bool {
        if self.spin(core, done) {
            return true;
        }
        loop {
            if core.doze() {
                let living = sleep(core, node);
                core.wake();
                if !living {
                    return core.poll(done);
                }
            }
            if core.poll(done) {
                return true;
            }
        }
    }

    fn spin(&mut self, core: &mut Core, done: &mut Vec<Done>) -> bool {
        let start = Instant::now();
        loop {
            for _ in 0..16 {
                if core.poll(done) {
                    *self = Patience::default();
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= self.length {
                self.in_vain += 1;
                self.length = match self.in_vain % PROBE {
                    0 => SPIN_MAX,
                    _ => (self.length / 2).max(SPIN_MIN),
                };
                return false;
            }
        }
    }
}

/// Sleeps until the bell rings; false when the node's connection ended.
fn sleep(core: &Core, node: Option<BorrowedFd<'_>>) -> bool {
    let Some(bell) = core.bell() else {
        std::thread::yield_now();
        return true;
    };
    let mut fds = vec![PollFd::new(bell, PollFlags::POLLIN)];
    fds.extend(node.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    // EINTR: look again.
    let _ = poll(&mut fds, PollTimeout::NONE);
    let ended = |fd: &PollFd<'_>| {
        fd.revents()
            .is_some_and(|r| r.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    };
    !fds.get(1).is_some_and(ended)
}
