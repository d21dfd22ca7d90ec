//! Lock files, one system call each, and the mark beside their content. (Unsafe lives here.)

use driver::{Errno, MARK_LEN_MAX};
use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const ATTRIBUTE: &CStr = c"user.archipelago.owner";

/// For writing, because NFS makes a flock of what only such a descriptor may take.
pub(super) fn open(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

pub(super) fn links(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.nlink())
}

pub(super) fn identity(file: &File) -> Option<(u64, u64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

pub(super) fn has_no_flock(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOLCK | libc::ENOSYS)
    )
}

/// B9: a lock that is taken or given back stays so.
pub(super) fn sync_parent(path: &Path) -> Result<(), Errno> {
    let parent = path.parent().expect("a lock lies in a directory");
    match File::open(parent).and_then(|dir| dir.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(super) fn set_mark(file: &File, text: &str) -> io::Result<()> {
    // SAFETY: the name is a static C string, and the value is read for its own length.
    let answer = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            ATTRIBUTE.as_ptr(),
            text.as_ptr().cast(),
            text.len(),
            0,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

pub(super) fn get_mark(file: &File) -> Option<String> {
    let mut value = [0u8; MARK_LEN_MAX];
    // SAFETY: the name is a static C string, and at most the array's length is written to it.
    let len = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            ATTRIBUTE.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    let value = value.get(..usize::try_from(len).ok()?)?;
    String::from_utf8(value.to_vec()).ok()
}
