//! The loop device in front of the file.
//!
//! Unsafe lives here because of ioctls; rule: the structures are those of `linux/loop.h`, plain
//! numbers without padding, and outlive the calls.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const SET_CAPACITY: libc::Ioctl = 0x4C07;
const CLEAR: libc::Ioctl = 0x4C01;
const GET_STATUS: libc::Ioctl = 0x4C05;
const CONFIGURE: libc::Ioctl = 0x4C0A;
const ADD: libc::Ioctl = 0x4C80;
const GET_FREE: libc::Ioctl = 0x4C82;

const READ_ONLY: u32 = 1;
const DIRECT_IO: u32 = 16;

/// Bytes of a sector: what virtual machines and their partition tables expect.
const SECTOR: u32 = 512;
/// How many minors are looked at for a free one.
const SEARCH: u32 = 256;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    numbers: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
}

const NOTHING: Status = Status {
    numbers: [0; 5],
    number: 0,
    encryption: [0; 2],
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    key: [0; 32],
    init: [0; 2],
};

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Status,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Status>() == 232 && size_of::<Config>() == 304);

/// A loop device.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    minor: u32,
    path: PathBuf,
}

fn call(fd: RawFd, request: libc::Ioctl, argument: libc::c_ulong) -> io::Result<u32> {
    // SAFETY: these requests take a number, or a pointer to a structure of ours that outlives the
    // call (rule).
    let returned = unsafe { libc::ioctl(fd, request, argument) };
    match returned {
        0.. => Ok(returned as u32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Minors that may be free, the kernel's proposal first.
pub(crate) fn candidates() -> io::Result<impl Iterator<Item = Disk>> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    let first = call(control.as_raw_fd(), GET_FREE, 0)?;
    Ok((first..first + SEARCH).filter_map(move |minor| {
        // EEXIST: it is there already.
        let _ = call(control.as_raw_fd(), ADD, libc::c_ulong::from(minor));
        let disk = Disk::of(minor);
        disk.is_free().unwrap_or(false).then_some(disk)
    }))
}

impl Disk {
    /// The device of that minor.
    pub(crate) fn of(minor: u32) -> Disk {
        let path = format!("/dev/loop{minor}").into();
        Disk { minor, path }
    }

    /// The number behind `loop`.
    pub(crate) fn minor(&self) -> u32 {
        self.minor
    }

    /// `/dev/loopN`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.path)
    }

    fn is_free(&self) -> io::Result<bool> {
        match self.status() {
            Err(why) if why.raw_os_error() == Some(libc::ENXIO) => Ok(true),
            other => other.map(|_| false),
        }
    }

    fn status(&self) -> io::Result<Status> {
        let mut status = NOTHING;
        let device = self.open()?;
        call(
            device.as_raw_fd(),
            GET_STATUS,
            &raw mut status as libc::c_ulong,
        )?;
        Ok(status)
    }

    /// Puts the device before `file`, past the page cache, so that its own cache is the only one.
    /// False: somebody else took the device meanwhile.
    pub(crate) fn attach(&self, file: &File, name: &str, readonly: bool) -> io::Result<bool> {
        let mut info = NOTHING;
        info.flags = DIRECT_IO | if readonly { READ_ONLY } else { 0 };
        let shown = name.as_bytes();
        let len = shown.len().min(info.file_name.len() - 1);
        info.file_name[..len].copy_from_slice(&shown[..len]);
        let fd = file.as_raw_fd() as u32;
        let config = Config {
            fd,
            block_size: SECTOR,
            info,
            reserved: [0; 8],
        };
        let device = self.open()?;
        match call(
            device.as_raw_fd(),
            CONFIGURE,
            &raw const config as libc::c_ulong,
        ) {
            Err(why) if why.raw_os_error() == Some(libc::EBUSY) => return Ok(false),
            other => other?,
        };
        if self.status()?.flags & DIRECT_IO == 0 {
            tracing::warn!(
                "{}: direct I/O was refused; data is cached twice",
                self.path.display()
            );
        }
        Ok(true)
    }

    /// Takes the file's size over.
    pub(crate) fn follow_size(&self) -> io::Result<()> {
        // Before Linux 6.16 the next call does not ask the filesystem, and this one does.
        self.status()?;
        call(self.open()?.as_raw_fd(), SET_CAPACITY, 0).map(drop)
    }

    /// Lets the file go, now or (while the device is open elsewhere) when it is closed.
    pub(crate) fn detach(&self) -> io::Result<()> {
        match call(self.open()?.as_raw_fd(), CLEAR, 0) {
            // Nothing is attached any more.
            Err(why) if why.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whether nobody uses the device exclusively: no mount in any namespace, no device mapper.
    pub(crate) fn is_unclaimed(&self) -> bool {
        let mut options = OpenOptions::new();
        let opened = options
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(&self.path);
        opened.is_ok()
    }
}
