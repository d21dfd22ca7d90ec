//! Lock files that work together with the original's (`spec/protocol.md` section 2, "filed lock").
//!
//! A lock is the file `NAME_lock`, whose content is the owner's text, padded with zeros to 512
//! bytes with O_DIRECT. It is made whole under another name and then linked, so it never exists
//! without its content. Beside the content an extended attribute names the process.
//!
//! What always holds among ours: a lock file that exists is only replaced or removed by who holds
//! a flock on it and has found, with that flock, that the name still leads to this very file. So no
//! check is separated from its act (B8); the original knows no flock, and may still race with us.
//!
//! The holder keeps its lock file open: `st_nlink == 0` says that it was removed or replaced.
//! Everything here blocks, for one or two disk writes at most, and runs on a worker thread.

use crate::layout::Place;
use crate::notes::Notes;
use driver::{Detail, Errno, LockHolder, LockReply, MARK_LEN_MAX, Mark, Name, Registration, Reply};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ATTRIBUTE: &CStr = c"user.archipelago.owner";

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
        let (temporary, file) = self.prepare(&path)?;
        let answer = self.place(name, &path, &temporary, file);
        // After a takeover it has become the lock itself.
        let _ = fs::remove_file(&temporary);
        sync_parent(&path)?;
        if answer.is_ok() {
            self.notes.add(name);
        }
        answer
    }

    pub(crate) fn release(&self, name: &Name, force: bool) -> Result<Reply, Errno> {
        let answer = self.remove(name, force);
        // A node that breaks its own lock has lost it like any other.
        let given_up = !force && !matches!(answer, Err(errno) if errno == Errno::BUSY);
        if given_up {
            self.notes.remove(name);
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
    fn place(
        &self,
        name: &Name,
        path: &Path,
        temporary: &Path,
        file: File,
    ) -> Result<Reply, Errno> {
        // Unless it is found as we, or our predecessor, left it. Then it is never linked anew, for
        // what was linked by mistake could not be taken back without a race.
        let broken = self.notes.has(name);
        loop {
            if !broken && link(path, temporary, &file)? {
                self.held.lock().insert(*name, file);
                return Ok(self.taken(false, None));
            }
            let Some(found) = self.find_locked(path)? else {
                if broken {
                    return Err(Errno::STALE);
                }
                continue;
            };
            let holder = self.holder(name, &found);
            let ours = found.owner == self.owner;
            let may = match holder.alive {
                Some(alive) => !alive,
                None => ours,
            };
            if !may {
                return Err(Errno::BUSY);
            }
            if broken && !ours {
                return Err(Errno::STALE);
            }
            fs::rename(temporary, path)?;
            self.held.lock().insert(*name, file);
            return Ok(self.taken(ours, (!ours).then_some(holder)));
        }
    }

    /// Ours by our own doing, or left by a predecessor with the same owner's text.
    fn may_release(&self, found: &Found, holder: &LockHolder) -> bool {
        holder.ours || (found.owner == self.owner && holder.alive != Some(true))
    }

    fn holder(&self, name: &Name, found: &Found) -> LockHolder {
        let same =
            |held: &File| identity(held).is_some() && identity(held) == identity(&found.file);
        let ours = self.held.lock().get(name).is_some_and(same);
        let us = &self.registration.0;
        LockHolder {
            owner: found.owner.clone(),
            process: found.mark.as_ref().map(|mark| mark.process.clone()),
            run_dir: found.mark.as_ref().and_then(|mark| mark.run_dir.clone()),
            ours,
            alive: found.mark.as_ref().and_then(|mark| us.sees_alive(mark)),
            ..LockHolder::default()
        }
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

    /// A lock file of ours under a name that nobody has. The original's were numbered by operation,
    /// so that one left by a crash made that number fail for ever (B18); these are random.
    fn prepare(&self, path: &Path) -> Result<(PathBuf, File), Errno> {
        loop {
            let mut temporary = path.as_os_str().to_owned();
            temporary.push(OsStr::from_bytes(&self.owner));
            temporary.push(format!("_{:016x}", rand()));
            let temporary = PathBuf::from(temporary);
            let made = OpenOptions::new()
                .create_new(true)
                .read(true)
                .write(true)
                .mode(0o666)
                .open(&temporary);
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.flat => {
                    make_parents(&temporary)?;
                }
                made => {
                    let file = made?;
                    if let Err(error) = self.fill(&file) {
                        let _ = fs::remove_file(&temporary);
                        return Err(error.into());
                    }
                    return Ok((temporary, file));
                }
            }
        }
    }

    fn fill(&self, mut file: &File) -> io::Result<()> {
        let mut content = self.owner.clone();
        if self.padded {
            content.resize(PADDED, 0);
        }
        file.write_all(&content)?;
        match set_mark(file, &self.registration.0.to_text()) {
            // Then the owner's text is all there is, as with the original.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            set => set?,
        }
        file.sync_all()
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
        let mut file = match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut owner = Vec::new();
        (&mut file).take(PADDED as u64).read_to_end(&mut owner)?;
        let len = owner.iter().rposition(|byte| *byte != 0);
        owner.truncate(len.map_or(0, |at| at + 1));
        let mark = get_mark(&file).as_deref().and_then(Mark::from_text);
        Ok(Some(Found { file, owner, mark }))
    }

    /// The lock file with a flock on it, while its name leads to it.
    fn find_locked(&self, path: &Path) -> Result<Option<Found>, Errno> {
        for _ in 0..TRIES {
            let Some(found) = self.find(path)? else {
                return Ok(None);
            };
            match found.file.try_lock() {
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
            if named.is_some() && named == identity(&found.file) {
                return Ok(Some(found));
            }
        }
        Err(Errno::BUSY)
    }
}

/// False: somebody has the lock's name.
fn link(path: &Path, temporary: &Path, file: &File) -> Result<bool, Errno> {
    let linked = fs::hard_link(temporary, path);
    // On NFS a link may be answered with an error though it was made: the count tells.
    if linked.is_ok() || links(file) == 2 {
        return Ok(true);
    }
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(false),
    }
}

/// For writing, because NFS makes a flock of what only such a descriptor may take.
fn open(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

fn links(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.nlink())
}

fn identity(file: &File) -> Option<(u64, u64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn has_no_flock(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOLCK | libc::ENOSYS)
    )
}

fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn make_parents(path: &Path) -> io::Result<()> {
    let parent = path.parent().expect("a lock lies in a directory");
    DirBuilder::new()
        .recursive(true)
        .mode(0o777)
        .create(parent)?;
    for dir in parent.ancestors().skip(1).take(3) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// B9: a lock that is taken or given back stays so.
fn sync_parent(path: &Path) -> Result<(), Errno> {
    let parent = path.parent().expect("a lock lies in a directory");
    match File::open(parent).and_then(|dir| dir.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn set_mark(file: &File, text: &str) -> io::Result<()> {
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

fn get_mark(file: &File) -> Option<String> {
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
