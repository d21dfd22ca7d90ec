//! Whether another node of this host still lives, though the process is dead that took a lock for it.
//!
//! Its supervisor starts a successor in a moment; meanwhile its other blockers write under leases that
//! the lock vouched for, and the ring of the dead one may not have ended. So such a lock is nobody's to
//! take. What is asked lies in that node's `RUN_DIR`: drain locks (`drain`), and the socket at which
//! its supervisor listens. Whoever may not look cannot tell, and leaves the lock alone.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Where a supervisor listens, in `RUN_DIR`.
const SUPERVISOR: &str = "supervisor.sock";
/// What the drain locks' files end in.
const DRAIN: &str = "drain";

/// Whether anything of the node with this `RUN_DIR` lives or still writes.
pub(super) fn lives(run_dir: &Path) -> bool {
    has_supervisor(run_dir) || has_drivers(run_dir).unwrap_or(true)
}

fn has_drivers(run_dir: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(run_dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == DRAIN) && is_locked(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Shared, and for a moment: a successor that comes just now waits for its lock no longer than that.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

/// Only a socket that nobody listens at refuses; one whose owner hangs takes a while, or is full.
fn has_supervisor(run_dir: &Path) -> bool {
    let ask = || {
        let address = UnixAddr::new(&run_dir.join(SUPERVISOR))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &address)
    };
    !matches!(
        ask(),
        Err(nix::Error::ENOENT | nix::Error::ECONNREFUSED | nix::Error::ENAMETOOLONG)
    )
}
