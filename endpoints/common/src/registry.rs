//! The registry of mapped volumes: `RUN_DIR/mapped/ID/`, one directory for each endpoint process.
//!
//! | file | what it is |
//! |---|---|
//! | `info.json` | [`Info`], replaced atomically |
//! | `control` | the socket of [`crate::control`] |
//! | `lock` | flocked for as long as the process lives: a directory without it is left over |

use crate::error::Error;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A mapped volume, as its process describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The minor of the device, or a running number.
    pub id: u32,
    /// The volume's name.
    pub volume: String,
    /// What clients use: a device's path, or a URI.
    pub device: String,
    /// `fuse` or `nbd`.
    pub kind: String,
    /// The endpoint process.
    pub pid: u32,
    /// Who holds what outlives it; 0: nobody does, and a kill of the process is an end.
    #[serde(default)]
    pub keeper: u32,
    /// When it started: field 22 of `/proc/PID/stat` (clock ticks after boot).
    pub start_time: u64,
    /// Writes are refused.
    pub readonly: bool,
    /// `running`, `freezing` (only as its process says itself), `frozen`, or `failed`: another node holds
    /// the volume, requests fail.
    pub state: String,
}

/// A place in the registry, held for as long as this lives; then its files are removed.
#[derive(Debug)]
pub struct Place {
    id: u32,
    dir: PathBuf,
    gid: u32,
    lock: Flock<File>,
}

/// Where the places are.
pub fn mapped_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("mapped")
}

impl Place {
    /// Takes the place `id`; `None` when a living process has it.
    pub fn take(run_dir: &Path, id: u32, gid: u32) -> Result<Option<Place>, Error> {
        let dir = mapped_dir(run_dir).join(id.to_string());
        let what = format!("can't make {}", dir.display());
        Place::try_take(id, dir, gid).map_err(Error::system(what))
    }

    /// Takes the smallest free place.
    pub fn smallest(run_dir: &Path, gid: u32) -> Result<Place, Error> {
        let mut free = (0..).filter_map(|id| Place::take(run_dir, id, gid).transpose());
        free.next().expect("an endless iterator has a next")
    }

    fn try_take(id: u32, dir: PathBuf, gid: u32) -> io::Result<Option<Place>> {
        make_dir(dir.parent().unwrap_or(&dir), gid)?;
        loop {
            make_dir(&dir, gid)?;
            let path = dir.join("lock");
            let mut options = OpenOptions::new();
            let open = options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o640)
                .open(&path);
            let file = match open {
                // Its last owner removed the directory just now.
                Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, why)) => return Err(why.into()),
            };
            if is_at(&lock, &path) {
                let place = Place { id, dir, gid, lock };
                place.clear()?;
                return Ok(Some(place));
            }
        }
    }

    /// Goes on in the place `id`, whose lock a keeper has held since its last owner died. `None`:
    /// that owner had left it already.
    pub fn inherit(
        run_dir: &Path,
        id: u32,
        gid: u32,
        lock: OwnedFd,
    ) -> Result<Option<Place>, Error> {
        let dir = mapped_dir(run_dir).join(id.to_string());
        let what = format!("can't go on in {}", dir.display());
        let go_on = || -> io::Result<Option<Place>> {
            let lock = Flock::lock(File::from(lock), FlockArg::LockExclusiveNonblock)
                .map_err(|(_, why)| why)?;
            if !is_at(&lock, &dir.join("lock")) {
                return Ok(None);
            }
            // Nobody listens there any more.
            match fs::remove_file(dir.join("control")) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => {}
            }
            Ok(Some(Place { id, dir, gid, lock }))
        };
        go_on().map_err(Error::system(what))
    }

    /// The lock once more, for a keeper: it is held until the last of its descriptors is closed.
    pub fn lock_descriptor(&self) -> Result<OwnedFd, Error> {
        let again = self.lock.try_clone().map(OwnedFd::from);
        again.map_err(Error::system("can't copy a descriptor"))
    }

    /// The number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Replaces the description.
    pub fn describe(&self, info: &Info) -> Result<(), Error> {
        let path = self.path("info.json");
        let new = self.path(".info.json");
        let write = || -> io::Result<()> {
            fs::write(&new, serde_json::to_vec(info)?)?;
            own(&new, 0o640, self.gid)?;
            fs::rename(&new, &path)
        };
        write().map_err(Error::system(format!("can't write {}", path.display())))
    }

    /// Removes everything but the lock: what a dead process left.
    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() != "lock" {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = self
            .clear()
            .and_then(|()| fs::remove_file(self.path("lock")))
            .and_then(|()| fs::remove_dir(&self.dir));
        if let Err(why) = removed {
            tracing::warn!(%why, "can't remove {}", self.dir.display());
        }
    }
}

/// Whether `file` is what lies at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.ino() == file.metadata().map_or(0, |f| f.ino()))
}

fn make_dir(dir: &Path, gid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o750).create(dir) {
        Ok(()) => own(dir, 0o770, gid),
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(why) => Err(why),
    }
}

/// Makes `path` the group's, as far as this process may.
pub(crate) fn own(path: &Path, mode: u32, gid: u32) -> io::Result<()> {
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(path, None, Some(gid))?;
    }
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// When this process started.
pub fn start_time() -> u64 {
    start_time_of(std::process::id()).unwrap_or(0)
}

/// When `pid` started, in clock ticks after boot: field 22 of `/proc/PID/stat` (proc(5)). `None`:
/// it is over.
pub fn start_time_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let alive = fields.next()? != "Z";
    let time = fields.nth(18)?.parse().ok()?;
    alive.then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid() -> u32 {
        nix::unistd::getegid().as_raw()
    }

    fn info(id: u32) -> Info {
        Info {
            id,
            volume: "volume".into(),
            device: "/dev/loop0".into(),
            kind: "fuse".into(),
            pid: std::process::id(),
            keeper: 0,
            start_time: start_time(),
            readonly: false,
            state: "running".into(),
        }
    }

    #[test]
    fn a_place_is_one_process_s_until_it_is_removed() {
        let run = tempfile::tempdir().unwrap();
        let first = Place::smallest(run.path(), gid()).unwrap();
        assert_eq!(first.id(), 0);
        assert!(Place::take(run.path(), 0, gid()).unwrap().is_none());
        assert_eq!(Place::smallest(run.path(), gid()).unwrap().id(), 1);
        drop(first);
        assert!(!run.path().join("mapped/0").exists());
        assert_eq!(Place::smallest(run.path(), gid()).unwrap().id(), 0);
    }

    #[test]
    fn what_a_dead_process_left_is_cleared() {
        let run = tempfile::tempdir().unwrap();
        let place = Place::smallest(run.path(), gid()).unwrap();
        place.describe(&info(0)).unwrap();
        let text = fs::read(place.path("info.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Info>(&text).unwrap(), info(0));
        drop(place);
        // Nobody holds the lock of a process that was killed.
        fs::create_dir(run.path().join("mapped/0")).unwrap();
        fs::write(run.path().join("mapped/0/info.json"), text).unwrap();
        fs::write(run.path().join("mapped/0/lock"), "").unwrap();
        let again = Place::smallest(run.path(), gid()).unwrap();
        assert_eq!(again.id(), 0);
        assert!(!again.path("info.json").exists());
    }

    #[test]
    fn a_place_is_gone_on_in_as_long_as_its_lock_is_kept() {
        let run = tempfile::tempdir().unwrap();
        let place = Place::smallest(run.path(), gid()).unwrap();
        place.describe(&info(0)).unwrap();
        fs::write(place.path("control"), "").unwrap();
        let [kept, again] = [0; 2].map(|_| place.lock_descriptor().unwrap());
        // As after a SIGKILL: nothing is removed, and nothing unlocked but what was closed.
        std::mem::forget(place);
        assert!(Place::take(run.path(), 0, gid()).unwrap().is_none());
        let place = Place::inherit(run.path(), 0, gid(), kept).unwrap().unwrap();
        assert!(place.path("info.json").exists() && !place.path("control").exists());
        drop(place);
        let left = Place::inherit(run.path(), 0, gid(), again).unwrap();
        assert!(left.is_none(), "its owner removed it");
    }

    #[test]
    fn the_start_time_is_the_process_s() {
        assert!(start_time() > 0);
    }
}
