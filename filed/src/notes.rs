//! Which locks this node has taken and not given back: what a successor must know when a lock is
//! gone. Nobody else's lock is broken by accident, so a lock that is noted here and is not there
//! was broken; whoever took it silently again would let a guest go on with a volume that another
//! node may have changed.
//!
//! A note is a file in `RUN_DIR/ROLE.held` that holds the host's boot id, so it outlives the process
//! and not the host: one of an earlier boot says nothing. It is made after the lock, and removed
//! before the lock is given back: a crash in between leaves a lock without a note, which its
//! successor takes over by its text, and never a note that tells of a lock that nobody broke.

use driver::Name;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The notes of one driver; none are kept without a directory.
#[derive(Debug)]
pub(crate) struct Notes {
    dir: Option<PathBuf>,
    boot: String,
}

impl Notes {
    /// Notes in `dir`, which is made for the first of them, of this `boot` of the host.
    pub(crate) fn new(dir: Option<PathBuf>, boot: &str) -> Notes {
        let boot = boot.to_owned();
        Notes { dir, boot }
    }

    fn path(&self, name: &Name) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(OsStr::from_bytes(name)))
    }

    /// Whether the lock was taken, since the host started, and not given back.
    pub(crate) fn has(&self, name: &Name) -> bool {
        let note = self.path(name).and_then(|path| fs::read(path).ok());
        note.is_some_and(|boot| boot == self.boot.as_bytes())
    }

    /// The lock was taken.
    pub(crate) fn add(&self, name: &Name) {
        let Some(dir) = &self.dir else { return };
        let path = dir.join(OsStr::from_bytes(name));
        let noted = fs::create_dir_all(dir).and_then(|()| fs::write(&path, &self.boot));
        if let Err(why) = noted {
            tracing::warn!(%why, note = %path.display(), "a lock is not noted");
        }
    }

    /// The lock was given back, or is given up.
    pub(crate) fn remove(&self, name: &Name) {
        if let Some(path) = self.path(name) {
            // There is none, as a rule, for a lock that is not ours.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_lasts_until_it_is_removed_or_the_host_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let of = |boot| Notes::new(Some(dir.path().join("held")), boot);
        let name = Name::try_from("volume").unwrap();
        let notes = of("one");
        assert!(!notes.has(&name));
        notes.add(&name);
        assert!(notes.has(&name) && of("one").has(&name));
        assert!(!of("two").has(&name));
        notes.remove(&name);
        assert!(!notes.has(&name));
        let none = Notes::new(None, "one");
        none.add(&name);
        assert!(!none.has(&name));
    }
}
