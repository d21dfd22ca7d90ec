//! Waiting for answers: a short spin ([`xseg::spin`]), then the bell.

use crate::core::{Core, Done};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::convert::Infallible;
use std::os::fd::BorrowedFd;
use std::time::Instant;
use xseg::spin::Spin;

/// How long to spin before sleeping.
#[derive(Debug, Default)]
pub struct Patience {
    spin: Spin,
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
        let look = || Ok::<bool, Infallible>(core.poll(done));
        let Ok(seen) = self.spin.until(|| start.elapsed().as_nanos() as u64, look);
        seen
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
