//! Prepared lock files that a killed process of ours left in `lock_dir`, on a filesystem where a
//! file has to have a name (NFS), or in the midst of a takeover.
//!
//! One lives for two disk writes; `NAME_lockOWNER_` and 16 hex digits is its name. It is nobody's any
//! more if its mark names a process that is dead, or, where no mark tells, when it is an hour old,
//! however the clocks of a shared filesystem differ. They are in nobody's way, so whatever goes wrong
//! here is left for the next start.

use crate::locks::mark_of;
use driver::Mark;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

const OLD: Duration = Duration::from_secs(3600);
/// Digits at the end of a name.
const DIGITS: usize = 16;

/// Removes those of `owner` that are nobody's any more, as `us` sees it.
pub(crate) fn sweep(lock_dir: &Path, owner: &[u8], us: &Mark) {
    if let Err(why) = try_sweep(lock_dir, owner, us) {
        let dir = lock_dir.display();
        tracing::warn!(%dir, %why, "old temporary lock files cannot be removed");
    }
}

fn try_sweep(lock_dir: &Path, owner: &[u8], us: &Mark) -> io::Result<()> {
    let mark = [b"_lock", owner, b"_"].concat();
    for entry in fs::read_dir(lock_dir)? {
        let entry = entry?;
        if is_prepared(&entry.file_name(), &mark) {
            match remove_if_abandoned(&entry, us) {
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

fn remove_if_abandoned(entry: &fs::DirEntry, us: &Mark) -> io::Result<()> {
    let file = fs::File::open(entry.path())?;
    let changed = file.metadata()?.modified()?;
    let is_old = changed.elapsed().is_ok_and(|age| age > OLD);
    match is_old || mark_of(&file).is_some_and(|mark| us.sees_alive(&mark) == Some(false)) {
        true => fs::remove_file(entry.path()),
        false => Ok(()),
    }
}
