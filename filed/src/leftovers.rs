//! Prepared lock files that a killed process of ours left in `lock_dir`, on a filesystem where a
//! file has to have a name (NFS), or in the midst of a takeover.
//!
//! One lives for two disk writes; `NAME_lockOWNER_` and 16 hex digits is its name. What is an hour
//! old is nobody's any more, however the clocks of a shared filesystem differ. They are in nobody's
//! way, so whatever goes wrong here is left for the next start.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

const OLD: Duration = Duration::from_secs(3600);
/// Digits at the end of a name.
const DIGITS: usize = 16;

/// Removes those of `owner`.
pub(crate) fn sweep(lock_dir: &Path, owner: &[u8]) {
    if let Err(why) = try_sweep(lock_dir, owner) {
        let dir = lock_dir.display();
        tracing::warn!(%dir, %why, "old temporary lock files cannot be removed");
    }
}

fn try_sweep(lock_dir: &Path, owner: &[u8]) -> io::Result<()> {
    let mark = [b"_lock", owner, b"_"].concat();
    for entry in fs::read_dir(lock_dir)? {
        let entry = entry?;
        if is_prepared(&entry.file_name(), &mark) {
            match remove_if_old(&entry) {
                // The other blocker was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

fn is_prepared(name: &OsStr, mark: &[u8]) -> bool {
    let Some((rest, digits)) = name.as_bytes().split_last_chunk::<DIGITS>() else {
        return false;
    };
    rest.ends_with(mark) && digits.iter().all(u8::is_ascii_hexdigit)
}

fn remove_if_old(entry: &fs::DirEntry) -> io::Result<()> {
    let changed = entry.metadata()?.modified()?;
    match changed.elapsed().is_ok_and(|age| age > OLD) {
        true => fs::remove_file(entry.path()),
        false => Ok(()),
    }
}
