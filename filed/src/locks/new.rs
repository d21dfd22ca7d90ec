//! A lock file before it has its place: whole, and found by nobody.

use super::file::{links, set_mark};
use super::{Locks, PADDED};
use driver::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often a directory is made again that another node's sweep removes at once.
const TRIES: u32 = 1000;

/// A lock file that is not in its place yet.
pub(super) struct Prepared {
    pub(super) file: File,
    /// Its name meanwhile, where it has to have one.
    pub(super) temporary: Option<PathBuf>,
    /// Directories were made for it, which are not durable yet.
    pub(super) made_dirs: bool,
}

impl Locks {
    /// A lock file of ours that nobody finds yet.
    pub(super) fn prepare(&self, path: &Path) -> Result<Prepared, Errno> {
        if let Some(file) = self.nameless() {
            self.fill(&file)?;
            return Ok(Prepared {
                file,
                temporary: None,
                made_dirs: false,
            });
        }
        let mut made_dirs = false;
        for _ in 0..TRIES {
            let temporary = self.temporary(path);
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
                    made_dirs = true;
                }
                made => {
                    let file = made?;
                    if let Err(error) = self.fill(&file) {
                        let _ = fs::remove_file(&temporary);
                        return Err(error.into());
                    }
                    return Ok(Prepared {
                        file,
                        temporary: Some(temporary),
                        made_dirs,
                    });
                }
            }
        }
        Err(Errno::NOENT)
    }

    /// A file without a name, gone with the process; `None` where the filesystem has none.
    fn nameless(&self) -> Option<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o666)
            .custom_flags(libc::O_TMPFILE)
            .open(&self.dir)
            .ok()
    }

    /// A name beside a lock that nobody has. The original's were numbered by operation, so that one
    /// left by a crash made that number fail for ever (B18); these are random.
    fn temporary(&self, path: &Path) -> PathBuf {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(OsStr::from_bytes(&self.owner));
        temporary.push(format!("_{:016x}", rand()));
        temporary.into()
    }

    fn fill(&self, mut file: &File) -> io::Result<()> {
        let mut content = self.owner.clone();
        if self.padded {
            content.resize(PADDED, 0);
        }
        file.write_all(&content)?;
        self.mark(file)?;
        file.sync_all()
    }

    pub(super) fn mark(&self, file: &File) -> io::Result<()> {
        match set_mark(file, &self.registration.0.to_text()) {
            // Then the owner's text is all there is, as with the original.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            set => set,
        }
    }

    /// Puts a new file in the place of a lock, so that who had it open finds it gone.
    pub(super) fn replace(&self, path: &Path, new: &mut Prepared) -> Result<File, Errno> {
        let temporary = match new.temporary.take() {
            Some(temporary) => temporary,
            None => {
                let temporary = self.temporary(path);
                name_it(&new.file, &temporary)?;
                temporary
            }
        };
        new.temporary = Some(temporary.clone());
        fs::rename(temporary, path)?;
        Ok(new.file.try_clone()?)
    }

    /// Gives a prepared lock its name; false: somebody has it.
    pub(super) fn link(&self, path: &Path, new: &mut Prepared) -> Result<bool, Errno> {
        let before = links(&new.file);
        for _ in 0..TRIES {
            let linked = match &new.temporary {
                Some(temporary) => fs::hard_link(temporary, path),
                None => name_it(&new.file, path),
            };
            // On NFS a link may be answered with an error though it was made: the count tells.
            if linked.is_ok() || links(&new.file) > before {
                return Ok(true);
            }
            match linked {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.flat => {
                    make_parents(path)?;
                    new.made_dirs = true;
                }
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(true),
            }
        }
        Err(Errno::NOENT)
    }
}

/// Gives a file without a name one.
fn name_it(file: &File, path: &Path) -> io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    Ok(linkat(AT_FDCWD, own.as_str(), AT_FDCWD, path, follow)?)
}

fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Makes the directories of a lock; who needs them asks again where another node's sweep has
/// removed them at once, empty as they were.
fn make_parents(path: &Path) -> io::Result<()> {
    let parent = path.parent().expect("a lock lies in a directory");
    let made = DirBuilder::new().recursive(true).mode(0o777).create(parent);
    match made {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// B9: so do the directories that were made for it.
pub(super) fn sync_grandparents(path: &Path) -> io::Result<()> {
    let dirs = path.ancestors().skip(2).take(3);
    dirs.into_iter()
        .try_for_each(|dir| File::open(dir)?.sync_all())
}
