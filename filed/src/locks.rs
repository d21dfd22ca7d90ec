//! Lock files that work together with the original's (`spec/protocol.md` section 2, "filed lock").
//!
//! A lock is the file `NAME_lock`, whose content is the owner's text, padded with zeros to 512
//! bytes with O_DIRECT. It is made whole without a name, or, where the filesystem has no such files,
//! under another one, and then linked, so it never exists without its content. Beside the content an
//! extended attribute names the process.
//!
//! What always holds among ours: a lock file that exists is only replaced or removed by who holds
//! a flock on it and has found, with that flock, that the name still leads to this very file. So no
//! check is separated from its act (B8); the original knows no flock, and may still race with us.
//!
//! The holder keeps its lock file open: `st_nlink == 0` says that it was removed or replaced.
//! Everything here blocks, for one or two disk writes at most, and runs on a worker thread.
//!
//! - `new`: a lock before it has its place; `neighbour`: whether another node of this host lives;
//!   `file`: single system calls

mod file;
mod neighbour;
mod new;

use crate::layout::Place;
use crate::notes::Notes;
use driver::{Detail, Errno, LockHolder, LockReply, Mark, Name, Registration, Reply};
use file::{get_mark, has_no_flock, identity, links, open, sync_parent};
use new::{Prepared, sync_grandparents};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The size of a lock file with O_DIRECT.
const PADDED: usize = 512;

/// How often, and after how long, a flock is tried again: it is held for one disk write.
const TRIES: u32 = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(2);

/// The lock files of one driver.
pub(crate) struct Locks {
    /// `archip_dir`, or `lock_dir`, where the files lie flat.
    pub(crate) dir: PathBuf,
    pub(crate) flat: bool,
    pub(crate) owner: Vec<u8>,
    pub(crate) padded: bool,
    pub(crate) registration: Registration,
    /// The lock files that we hold, open.
    pub(crate) held: Mutex<HashMap<Name, File>>,
    /// Those that were taken and not given back, also by a predecessor.
    pub(crate) notes: Notes,
}

/// A lock file as it was found.
struct Found {
    file: File,
    owner: Vec<u8>,
    mark: Option<Mark>,
}

impl Locks {
    /// Whether the lock that we took is still there.
    pub(crate) fn is_held(&self, name: &Name) -> bool {
        let held = self.held.lock();
        // ESTALE, on NFS, is an error of the metadata.
        held.get(name).is_some_and(|file| links(file) > 0)
    }

    /// ESTALE: it was ours, and was broken; only giving it back ends that.
    pub(crate) fn acquire(&self, name: &Name) -> Result<Reply, Errno> {
        if self.is_held(name) {
            return Ok(self.taken(true, None));
        }
        let path = self.path(name)?;
        let mut new = self.prepare(&path)?;
        let answer = self.place(name, &path, &mut new);
        if let Some(temporary) = &new.temporary {
            // After a takeover it has become the lock itself.
            let _ = fs::remove_file(temporary);
        }
        sync_parent(&path)?;
        if answer.is_ok() && new.made_dirs {
            sync_grandparents(&path)?;
        }
        if answer.is_ok() {
            self.notes.add(name);
        }
        answer
    }

    /// The note goes before the lock: who dies in between leaves a lock that its successor knows by
    /// its text, and not the note of one that looks as if it had been broken.
    pub(crate) fn release(&self, name: &Name, force: bool) -> Result<Reply, Errno> {
        // A node that breaks its own lock has lost it like any other.
        let noted = !force && self.notes.has(name);
        if !force {
            self.notes.remove(name);
        }
        let answer = self.remove(name, force);
        if noted && matches!(answer, Err(errno) if errno == Errno::BUSY) {
            self.notes.add(name);
        }
        answer
    }

    fn remove(&self, name: &Name, force: bool) -> Result<Reply, Errno> {
        let path = self.path(name)?;
        let found = match self.find_locked(&path)? {
            Some(found) => found,
            None => return Err(self.lost(name, Errno::NOENT)),
        };
        let holder = self.holder(name, &found);
        if !force && !self.may_release(&found, &holder) {
            return Err(self.lost(name, Errno::PERM));
        }
        fs::remove_file(&path)?;
        sync_parent(&path)?;
        self.held.lock().remove(name);
        let ended = (!holder.ours).then_some(holder);
        let reply = LockReply {
            ended,
            ..LockReply::default()
        };
        Ok(Detail::Lock(Box::new(reply)).into())
    }

    pub(crate) fn info(&self, name: &Name) -> Result<Reply, Errno> {
        let holder = self
            .find(&self.path(name)?)?
            .map(|found| self.holder(name, &found));
        let reply = LockReply {
            holder,
            ..LockReply::default()
        };
        Ok(Detail::Lock(Box::new(reply)).into())
    }

    /// Links the prepared file to the lock's name, or lets it replace a lock of the dead.
    fn place(&self, name: &Name, path: &Path, new: &mut Prepared) -> Result<Reply, Errno> {
        // Unless it is found as we, or our predecessor, left it. Then it is never linked anew, for
        // what was linked by mistake could not be taken back without a race.
        let broken = self.notes.has(name);
        loop {
            if !broken && self.link(path, new)? {
                self.held.lock().insert(*name, new.file.try_clone()?);
                return Ok(self.taken(false, None));
            }
            let Some(found) = self.find_locked(path)? else {
                if broken {
                    return Err(Errno::STALE);
                }
                continue;
            };
            let holder = self.holder(name, &found);
            let ours = self.has_our_owner(&found, &holder);
            let may = match holder.alive {
                Some(true) => false,
                Some(false) => !self.is_of_living_node(&holder),
                None => ours,
            };
            if broken && !(may && ours) {
                return Err(Errno::STALE);
            }
            if !may {
                return Err(Errno::BUSY);
            }
            let file = match ours && holder.alive == Some(false) {
                true => self.adopt(found)?,
                false => self.replace(path, new)?,
            };
            self.held.lock().insert(*name, file);
            return Ok(self.taken(ours, (!ours).then_some(holder)));
        }
    }

    /// Takes over a lock of a predecessor that is dead: its file says already whose it is. So this
    /// leaves nothing behind, whenever we die.
    fn adopt(&self, found: Found) -> Result<File, Errno> {
        self.mark(&found.file)?;
        found.file.sync_all()?;
        found.file.unlock()?;
        Ok(found.file)
    }

    /// Ours by our own doing, or left by a predecessor.
    fn may_release(&self, found: &Found, holder: &LockHolder) -> bool {
        holder.ours || (self.has_our_owner(found, holder) && holder.alive != Some(true))
    }

    /// Whether the lock is this node's: it says so with the owner's text, and, as two nodes of one
    /// host may have one text, with `RUN_DIR`. Of another boot or host the text alone counts: a node
    /// may have moved since.
    fn has_our_owner(&self, found: &Found, holder: &LockHolder) -> bool {
        let us = &self.registration.0;
        let other_node = match (&us.run_dir, &holder.run_dir) {
            (Some(ours), Some(theirs)) => holder.alive.is_some() && ours != theirs,
            _ => false,
        };
        found.owner == self.owner && !other_node
    }

    /// Whether another node of this host, which lives, has the lock of the dead.
    fn is_of_living_node(&self, holder: &LockHolder) -> bool {
        let theirs = holder.run_dir.as_deref();
        let theirs =
            theirs.filter(|theirs| Some(*theirs) != self.registration.0.run_dir.as_deref());
        theirs.is_some_and(neighbour::lives)
    }

    fn holder(&self, name: &Name, found: &Found) -> LockHolder {
        let same =
            |held: &File| identity(held).is_some() && identity(held) == identity(&found.file);
        let ours = self.held.lock().get(name).is_some_and(same);
        let us = &self.registration.0;
        let mut holder = LockHolder {
            owner: found.owner.clone(),
            process: found.mark.as_ref().map(|mark| mark.process.clone()),
            run_dir: found.mark.as_ref().and_then(|mark| mark.run_dir.clone()),
            ours,
            alive: found.mark.as_ref().and_then(|mark| us.sees_alive(mark)),
            ..LockHolder::default()
        };
        holder.foreign = !self.may_release(found, &holder);
        holder
    }

    fn taken(&self, already_ours: bool, ended: Option<LockHolder>) -> Reply {
        let us = LockHolder {
            owner: self.owner.clone(),
            process: Some(self.registration.0.process.clone()),
            run_dir: self.registration.0.run_dir.clone(),
            ours: true,
            alive: Some(true),
            ..LockHolder::default()
        };
        let reply = LockReply {
            holder: Some(us),
            already_ours,
            ended,
        };
        Detail::Lock(Box::new(reply)).into()
    }

    /// Forgets a lock of ours that turned out to be gone.
    fn lost(&self, name: &Name, errno: Errno) -> Errno {
        let mut held = self.held.lock();
        if held.get(name).is_some_and(|file| links(file) == 0) {
            held.remove(name);
        }
        errno
    }

    fn path(&self, name: &Name) -> Result<PathBuf, Errno> {
        let file = name.with_suffix("_lock").map_err(|_| Errno::NAMETOOLONG)?;
        if self.flat {
            return Ok(self.dir.join(OsStr::from_bytes(&file)));
        }
        let path = Place::hashed(&file).path(&file);
        Ok(self.dir.join(OsStr::from_bytes(path.to_bytes())))
    }

    fn find(&self, path: &Path) -> Result<Option<Found>, Errno> {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => read(opened?).map(Some),
        }
    }

    /// The lock file with a flock on it, while its name leads to it. It is read under the flock: its
    /// mark changes where a successor takes it over.
    fn find_locked(&self, path: &Path) -> Result<Option<Found>, Errno> {
        for _ in 0..TRIES {
            let file = match open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(BETWEEN_TRIES);
                    continue;
                }
                Err(TryLockError::Error(error)) if !has_no_flock(&error) => {
                    return Err(error.into());
                }
                _ => {}
            }
            let named = fs::metadata(path).ok().map(|at| (at.dev(), at.ino()));
            if named.is_some() && named == identity(&file) {
                return read(file).map(Some);
            }
        }
        Err(Errno::BUSY)
    }
}

/// What a lock file says.
fn read(mut file: File) -> Result<Found, Errno> {
    let mut owner = Vec::new();
    (&mut file).take(PADDED as u64).read_to_end(&mut owner)?;
    let len = owner.iter().rposition(|byte| *byte != 0);
    owner.truncate(len.map_or(0, |at| at + 1));
    let mark = mark_of(&file);
    Ok(Found { file, owner, mark })
}

/// Which process made a lock file, if it says so.
pub(crate) fn mark_of(file: &File) -> Option<Mark> {
    Mark::from_text(&get_mark(file)?)
}
