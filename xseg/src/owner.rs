//! Who is dead: a seat's owner holds an open-file-description lock on its byte of a lock file.
//!
//! The kernel frees the lock when the last copy of the description goes, within a millisecond of
//! a SIGKILL; pid and start time are for display only. The lock file is a memfd that the holder
//! of the segment keeps; each joiner gets a description of its own, already locked, so there is
//! no moment at which a seat is given but not guarded. A child that was forked and not exec'd has
//! copies of its parent's descriptions and keeps the seat alive: peers and clients don't fork.

use crate::word::SeatNo;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

/// The lock file, as its keeper sees it.
#[derive(Debug)]
pub struct OwnerLocks(File);

fn region(seat: SeatNo, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::from(seat.0),
        l_len: 1,
        l_pid: 0,
    }
}

impl OwnerLocks {
    /// A lock file without a name.
    pub fn create() -> io::Result<OwnerLocks> {
        let fd = nix::sys::memfd::memfd_create(
            c"archipelago-owners",
            nix::sys::memfd::MFdFlags::MFD_CLOEXEC,
        )?;
        Ok(OwnerLocks(File::from(fd)))
    }

    /// The lock file received from another keeper.
    pub fn from_file(file: File) -> OwnerLocks {
        OwnerLocks(file)
    }

    /// The descriptor, to hand it to another keeper.
    pub fn file(&self) -> &File {
        &self.0
    }

    /// A description of its own that holds `seat`'s lock; `None` when somebody living holds it.
    pub fn lock(&self, seat: SeatNo) -> io::Result<Option<File>> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let lock = region(seat, libc::F_WRLCK);
        // SAFETY: F_OFD_SETLK reads one flock, which outlives the call.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
        if done == 0 {
            return Ok(Some(file));
        }
        match io::Error::last_os_error() {
            e if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(None),
            e => Err(e),
        }
    }

    /// Whether a living process holds `seat`. The keeper's own description never locks anything.
    pub fn is_alive(&self, seat: SeatNo) -> io::Result<bool> {
        let mut lock = region(seat, libc::F_WRLCK);
        // SAFETY: F_OFD_GETLK reads and writes one flock, which outlives the call.
        let done = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_alive_while_its_description_is_open() {
        let locks = OwnerLocks::create().unwrap();
        assert!(!locks.is_alive(SeatNo(3)).unwrap());
        let held = locks.lock(SeatNo(3)).unwrap().unwrap();
        assert!(locks.is_alive(SeatNo(3)).unwrap());
        assert!(!locks.is_alive(SeatNo(4)).unwrap());
        assert!(locks.lock(SeatNo(3)).unwrap().is_none());
        drop(held);
        assert!(!locks.is_alive(SeatNo(3)).unwrap());
    }
}
