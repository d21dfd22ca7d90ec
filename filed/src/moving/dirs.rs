//! The directories of a real filesystem.

use super::{Dirs, Identity};
use crate::fs::{Answer, DIR_MODE, errno};
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Everything below an open directory.
pub(crate) struct RootDirs(pub(crate) Arc<OwnedFd>);

impl Dirs for RootDirs {
    fn look(&self, path: &CStr) -> Answer<Option<Identity>> {
        match fstatat(&*self.0, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
                Ok(Some(Identity {
                    device: stat.st_dev,
                    inode: stat.st_ino,
                    is_file: kind == SFlag::S_IFREG,
                }))
            }
            Err(nix::Error::ENOENT) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    fn link(&self, old: &CStr, new: &CStr) -> Answer<()> {
        linkat(&*self.0, old, &*self.0, new, AtFlags::empty()).map_err(errno)
    }

    fn unlink(&self, path: &CStr) -> Answer<()> {
        unlinkat(&*self.0, path, UnlinkatFlags::NoRemoveDir).map_err(errno)
    }

    fn make_dir(&self, path: &CStr) -> Answer<()> {
        mkdirat(&*self.0, path, Mode::from_bits_truncate(DIR_MODE)).map_err(errno)
    }

    fn remove_dir(&self, path: &CStr) -> Answer<()> {
        unlinkat(&*self.0, path, UnlinkatFlags::RemoveDir).map_err(errno)
    }

    fn sync_dir(&self, path: &CStr) -> Answer<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(&*self.0, path, flags, Mode::empty()).map_err(errno)?;
        fsync(dir).map_err(errno)
    }
}
