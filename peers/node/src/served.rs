//! Which directories and pools this node has served, so that an unmounted disk is not taken for an
//! empty one, nor a pool that was made again: `STATE_DIR/served/`, one small file for each, with its
//! id.
//!
//! It is read and written by the blocker before it serves anything, and outlives a reboot
//! (`docs/decisions/0011-what-a-node-remembers.md`).

use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is known of one of them.
#[derive(Debug)]
pub(crate) struct Served {
    file: PathBuf,
    what: OsString,
}

impl Served {
    /// What the node that keeps its state in `state_dir` knows of `what`: the absolute path of a
    /// directory, or words for a pool.
    pub(crate) fn of(state_dir: &Path, what: impl Into<OsString>) -> Served {
        let what = what.into();
        let hash = Sha256::digest(what.as_bytes());
        let name: String = hash[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Served {
            file: state_dir.join("served").join(name),
            what,
        }
    }

    /// Where it is kept.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// What to do about a refusal: the end of its sentence.
    pub(crate) fn advice(&self) -> String {
        let file = self.file.display();
        format!("; if it is another one on purpose, remove {file}")
    }

    /// Its id, if it was served before. A file that cannot be read is an error: it may
    /// say that there was one.
    pub(crate) fn id(&self) -> io::Result<Option<String>> {
        let text = match fs::read_to_string(&self.file) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(text.split_whitespace().next().map(str::to_owned))
    }

    /// Keeps the id durably, and what it is of for people to read.
    pub(crate) fn remember(&self, id: &str) -> io::Result<()> {
        if self.id()?.as_deref() == Some(id) {
            return Ok(());
        }
        let dir = self.file.parent().unwrap_or(&self.file);
        fs::create_dir_all(dir)?;
        // Two blockers of one directory may do this at once.
        let new = self.file.with_extension(std::process::id().to_string());
        let mut file = File::create(&new)?;
        writeln!(file, "{id} {}", self.what.display())?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_served_is_remembered_by_its_path() {
        let state = tempfile::tempdir().unwrap();
        let served = |dir: &str| Served::of(state.path(), dir);
        assert_eq!(served("/srv/blocks").id().unwrap(), None);
        served("/srv/blocks").remember("first").unwrap();
        served("/srv/maps").remember("second").unwrap();
        served("/srv/maps").remember("second").unwrap();
        assert_eq!(
            served("/srv/blocks").id().unwrap().as_deref(),
            Some("first")
        );
        assert_eq!(served("/srv/maps").id().unwrap().as_deref(), Some("second"));
        let text = fs::read_to_string(served("/srv/maps").file()).unwrap();
        assert_eq!(text, "second /srv/maps\n");
        let files = fs::read_dir(state.path().join("served")).unwrap();
        assert_eq!(files.count(), 2, "no temporary is left");
    }

    /// Else a broken file would turn an unmounted disk into a new one.
    #[test]
    fn what_cannot_be_read_is_no_none() {
        let state = tempfile::tempdir().unwrap();
        let served = Served::of(state.path(), "/srv/blocks");
        fs::create_dir_all(served.file()).unwrap();
        assert!(served.id().is_err());
    }
}
