//! Waits until a dead predecessor writes no more.
//!
//! A killed process's io_uring operations go on landing, on disk and in shared memory, after it was
//! waited for. So each driver process locks a file, and puts that file into its ring: the kernel
//! drops the lock only when the last operation of the ring has ended.

use reactor::Ring;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Held: no earlier instance of this driver writes any more.
#[must_use = "nothing is drained for a successor unless the lock is registered in the ring"]
pub struct DrainLock(File);

impl DrainLock {
    /// Waits for the lock in `path`, which is made when missing. Blocks the thread: this is the
    /// first thing that a driver process does.
    pub fn acquire(path: &Path) -> io::Result<DrainLock> {
        let file = open(path)?;
        file.lock()?;
        Ok(DrainLock(file))
    }

    /// The lock, if it is free now; `None` while a predecessor lives or drains.
    pub fn try_acquire(path: &Path) -> io::Result<Option<DrainLock>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(DrainLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Gives the lock to the ring that will carry this process's operations.
    pub fn register(self, ring: &Ring) -> io::Result<()> {
        ring.hold_file(OwnedFd::from(self.0))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}
