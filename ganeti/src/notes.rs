//! What this node remembers of names: `RUN_DIR/ganeti/VOL_NAME`, a symbolic link whose target is
//! the volume's name, where that is another.
//!
//! Ganeti's `snapshot` passes no VOL_CNAME. But Ganeti attaches a disk before whatever it does to
//! it, and `attach` gets both names, so it leaves a note for `snapshot`.

use crate::names::DiskNames;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

/// The notes of a node.
#[derive(Debug)]
pub(crate) struct Notes(PathBuf);

impl Notes {
    pub(crate) fn of(run_dir: &Path) -> Notes {
        Notes(run_dir.join("ganeti"))
    }

    /// The volume that a disk was when last attached or made here, if not called by its id.
    pub(crate) fn read(&self, id: &str) -> Option<String> {
        let target = fs::read_link(self.0.join(id)).ok()?;
        target.into_os_string().into_string().ok()
    }

    /// Remembers that the disk is `volume`. Whoever can't must know the volume by its id.
    pub(crate) fn keep(&self, disk: &DiskNames, volume: &str) {
        let known = self.read(&disk.id);
        let kept = match known.as_deref() {
            Some(old) if old == volume => Ok(()),
            _ if disk.id != volume => self.write(&disk.id, volume),
            Some(_) => fs::remove_file(self.0.join(&disk.id)),
            None => Ok(()),
        };
        if let Err(why) = kept {
            eprintln!("can't note that {} is {volume}: {why}", disk.id);
        }
    }

    /// The disk is gone.
    pub(crate) fn forget(&self, id: &str) {
        // There is one only where the names differ.
        let _ = fs::remove_file(self.0.join(id));
    }

    fn write(&self, id: &str, volume: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o750).create(&self.0) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        // No name of a volume begins with a dot and ends with a process of ours.
        let new = self.0.join(format!(".{id}.{}", std::process::id()));
        symlink(volume, &new)?;
        fs::rename(new, self.0.join(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_only_where_the_names_differ() {
        let run = tempfile::tempdir().unwrap();
        let notes = Notes::of(run.path());
        let disk = DiskNames {
            id: "uuid.ext.disk0".into(),
            cname: None,
        };
        notes.keep(&disk, &disk.id);
        assert!(!run.path().join("ganeti").exists());
        for volume in ["snf-vol-1", "snf-vol-1", "snf-vol-2"] {
            notes.keep(&disk, volume);
            assert_eq!(notes.read(&disk.id).as_deref(), Some(volume));
        }
        notes.keep(&disk, &disk.id);
        assert_eq!(notes.read(&disk.id), None);
        notes.keep(&disk, "snf-vol-3");
        notes.forget(&disk.id);
        assert_eq!(fs::read_dir(run.path().join("ganeti")).unwrap().count(), 0);
    }
}
