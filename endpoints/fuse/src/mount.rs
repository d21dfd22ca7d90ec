//! The filesystem's mount: made, opened once, and never attached to any directory.
//!
//! Nobody can see it, and it lives exactly as long as its one file is open, that is, as long as
//! the loop device has it: there is no mount point to make, to guard, or to clean up after a
//! crash. Needs `CAP_SYS_ADMIN`. Unsafe lives here because libc has no wrappers of
//! `fsopen(2)` and its family; rule: every pointer passed is to a NUL-terminated string that
//! outlives the call, every descriptor returned belongs to nobody else.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

const FSOPEN_CLOEXEC: libc::c_long = 1;
const FSMOUNT_CLOEXEC: libc::c_long = 1;
const SET_STRING: libc::c_long = 1;
const CREATE: libc::c_long = 6;
/// No set-user-id, no devices, no execution (`linux/mount.h`).
const ATTRIBUTES: libc::c_long = 2 | 4 | 8;

/// A mounted filesystem without a place; it ends with its last open file.
#[derive(Debug)]
pub(crate) struct Mount(OwnedFd);

/// Opens `/dev/fuse`, not yet mounted.
pub(crate) fn open_device() -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    let device = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK);
    device.open("/dev/fuse").map(OwnedFd::from)
}

fn descriptor(returned: libc::c_long) -> io::Result<OwnedFd> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a successful call returned it, and nobody else has it (rule).
    Ok(unsafe { OwnedFd::from_raw_fd(returned as RawFd) })
}

fn set(filesystem: &OwnedFd, key: &CStr, value: &CStr) -> io::Result<()> {
    // SAFETY: key and value are NUL-terminated and outlive the call (rule).
    let returned = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            filesystem.as_raw_fd(),
            SET_STRING,
            key.as_ptr(),
            value.as_ptr(),
            0,
        )
    };
    match returned {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Mount {
    /// Mounts the filesystem that `device` will serve.
    pub(crate) fn new(device: BorrowedFd<'_>) -> io::Result<Mount> {
        // SAFETY: the name is a NUL-terminated constant (rule).
        let opened = unsafe { libc::syscall(libc::SYS_fsopen, c"fuse".as_ptr(), FSOPEN_CLOEXEC) };
        let filesystem = descriptor(opened)?;
        let number = CString::new(device.as_raw_fd().to_string())?;
        let options = [
            (c"source", c"archipelago"),
            (c"fd", &number),
            (c"rootmode", c"40000"),
            (c"user_id", c"0"),
            (c"group_id", c"0"),
            (c"subtype", c"archipelago"),
        ];
        for (key, value) in options {
            set(&filesystem, key, value)?;
        }
        let nothing = std::ptr::null::<libc::c_char>();
        // SAFETY: this command takes no key and no value (fsconfig(2)).
        let created = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                filesystem.as_raw_fd(),
                CREATE,
                nothing,
                nothing,
                0,
            )
        };
        if created != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: takes numbers only.
        let mounted = unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                filesystem.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                ATTRIBUTES,
            )
        };
        descriptor(mounted).map(Mount)
    }

    /// Opens the file `name`. The filesystem must be served already, by another thread.
    pub(crate) fn open(self, name: &str, readonly: bool) -> io::Result<File> {
        let access = if readonly {
            libc::O_RDONLY
        } else {
            libc::O_RDWR
        };
        let name = CString::new(name)?;
        // SAFETY: the name is NUL-terminated and outlives the call (rule).
        let opened =
            unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), access | libc::O_CLOEXEC) };
        descriptor(libc::c_long::from(opened)).map(File::from)
    }
}
