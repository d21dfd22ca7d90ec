//! Which volumes are mapped.

use crate::error::Error;
use crate::registry::{Info, mapped_dir, start_time_of};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A mapped volume: what its process says about itself, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Presented {
    /// The description.
    #[serde(flatten)]
    pub info: Info,
    #[serde(skip)]
    pub(super) dir: PathBuf,
}

impl Deref for Presented {
    type Target = Info;

    fn deref(&self) -> &Info {
        &self.info
    }
}

/// All mapped volumes whose processes live, by id.
pub fn all(run_dir: &Path) -> Result<Vec<Presented>, Error> {
    living(run_dir, |_| true)
}

/// Where `volume` is mapped.
pub fn of_volume(run_dir: &Path, volume: &str) -> Result<Option<Presented>, Error> {
    Ok(living(run_dir, |info| info.volume == volume)?
        .into_iter()
        .next())
}

/// Whether a process lives is asked last: that costs more than to read what it says.
fn living(run_dir: &Path, wanted: impl Fn(&Info) -> bool) -> Result<Vec<Presented>, Error> {
    let mut found = Vec::new();
    for dir in places(run_dir)? {
        let presented = read(dir).filter(|p| wanted(p));
        found.extend(presented.filter(Presented::is_alive));
    }
    found.sort_by_key(|p| p.id);
    Ok(found)
}

/// The directories of processes that are gone.
pub fn leftovers(run_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let places = places(run_dir)?.into_iter();
    Ok(places
        .filter(|dir| read(dir.clone()).is_some_and(|p| !p.is_alive()))
        .collect())
}

fn places(run_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let dir = mapped_dir(run_dir);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::system(format!("can't read {}", dir.display()))(e)),
    };
    // An entry that vanishes meanwhile is one that was unmapped.
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

pub(super) fn read(dir: PathBuf) -> Option<Presented> {
    let text = fs::read(dir.join("info.json")).ok()?;
    let info = serde_json::from_slice(&text).ok()?;
    Some(Presented { info, dir })
}

impl Presented {
    /// Whether its process lives, or a keeper that is about to start another.
    fn is_alive(&self) -> bool {
        start_time_of(self.pid) == Some(self.start_time) || self.is_kept()
    }

    /// Whether somebody holds the place: its process or its keeper.
    pub(super) fn is_kept(&self) -> bool {
        let Ok(file) = File::open(self.dir.join("lock")) else {
            return false;
        };
        let lock = Flock::lock(file, FlockArg::LockSharedNonblock);
        matches!(lock, Err((_, Errno::EWOULDBLOCK)))
    }

    /// Whether its requests wait for `archipelago start`.
    pub fn is_frozen(&self) -> bool {
        self.state == "frozen"
    }

    /// Its block device, if it has one; an NBD address is none.
    pub fn block_device(&self) -> Option<&str> {
        self.device.starts_with('/').then_some(&self.device)
    }
}
