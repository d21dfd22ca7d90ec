//! Waiting for answers: a short spin ([`xseg::spin`]), then the bell.
//!
//! Nobody holds the handle's lock while asleep. One thread at a time waits at a port.

use std::convert::Infallible;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xseg::protocol::PortNo;

use crate::handle::Handle;
use crate::node::Presence;

/// How often a waiter looks whether the node is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits until something came in at port `no`, at most `patience`. False: nothing did.
pub(crate) fn wait(handle: &Handle, no: PortNo, patience: Duration) -> Result<bool, String> {
    if spin(handle, no)? {
        return Ok(true);
    }
    let fd = {
        let mut state = handle.lock();
        let port = state.port(no)?;
        if !port.core.doze() {
            return Ok(true);
        }
        port.desc.read().fd
    };
    let rang = sleep(fd, patience);
    let mut state = handle.lock();
    let port = state.port(no)?;
    port.core.seat().hush();
    Ok(rang || port.core.seat().has_mail())
}

/// Stays awake a little; true if something came in.
fn spin(handle: &Handle, no: PortNo) -> Result<bool, String> {
    let mut spin = {
        let mut state = handle.lock();
        let port = state.port(no)?;
        port.core.seat().wake();
        port.spin.take().unwrap_or_default()
    };
    let start = Instant::now();
    let look = || {
        let mut state = handle.lock();
        Ok::<bool, Infallible>(state.port(no).is_ok_and(|p| p.core.seat().has_mail()))
    };
    let Ok(seen) = spin.until(|| start.elapsed().as_nanos() as u64, look);
    handle.lock().port(no)?.spin = Some(spin);
    Ok(seen)
}

fn sleep(fd: i32, patience: Duration) -> bool {
    // SAFETY: the bell belongs to the node's connection, which the handle keeps; the caller of
    // every function here holds the handle.
    let bell = unsafe { BorrowedFd::borrow_raw(fd) };
    let ms = patience.as_micros().div_ceil(1000);
    let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(bell, PollFlags::POLLIN)];
    // EINTR: the caller looks again, as after every return.
    poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
}

/// Goes on with a transfer until it is over, at most `patience`. False: it is not.
pub(crate) fn wait_transfer(
    handle: &Handle,
    shell: usize,
    patience: Duration,
) -> Result<bool, String> {
    let until = Instant::now() + patience;
    let port = handle.lock().port_of_transfer(shell)?;
    loop {
        if handle.lock().step(shell)? {
            return Ok(true);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        if !wait(handle, port, left.min(LOOK_EVERY))? && handle.presence() == Presence::Gone {
            handle.lock().abandon(shell);
        }
    }
}
