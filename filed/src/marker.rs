//! `.archipelago`: an id by which a directory is known again.

use crate::config::OpenError;
use reactor::Entropy;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

const MARKER: &str = ".archipelago";

/// What names of temporary files begin with; none of them is an object.
pub(crate) const TEMPORARY: &str = ".archipelago-tmp-";

pub(crate) struct Marker {
    /// Empty if there is none and none was to be made.
    pub(crate) id: String,
    /// Whether the directory had none, so that no driver of ours has ever written to it.
    pub(crate) is_new: bool,
}

/// The directory's id; one is given to a directory that has none if `mark` says so, unless one is
/// expected.
pub(crate) fn identify(
    dir: &Path,
    expected: Option<&str>,
    mark: bool,
    entropy: &dyn Entropy,
) -> Result<Marker, OpenError> {
    let failed = |source| OpenError::Dir {
        dir: dir.to_owned(),
        source,
    };
    match (read(dir).map_err(failed)?, expected) {
        (Some(found), Some(expected)) if found != expected => Err(OpenError::MarkerDiffers {
            dir: dir.to_owned(),
            found,
            expected: expected.to_owned(),
        }),
        (Some(id), _) => Ok(Marker { id, is_new: false }),
        (None, Some(_)) => Err(OpenError::MarkerGone {
            dir: dir.to_owned(),
        }),
        (None, None) if !mark => Ok(Marker {
            id: String::new(),
            is_new: false,
        }),
        (None, None) => {
            let id = create(dir, entropy).map_err(failed)?;
            Ok(Marker { id, is_new: true })
        }
    }
}

fn read(dir: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(dir.join(MARKER)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Made whole under another name and then linked, so that of two drivers that start together one
/// makes it and both read the same.
fn create(dir: &Path, entropy: &dyn Entropy) -> io::Result<String> {
    let id = format!("{:016x}{:016x}", entropy.next_u64(), entropy.next_u64());
    let temporary = dir.join(format!("{TEMPORARY}{id}"));
    let made = write_durably(&temporary, &id).and_then(|()| {
        match fs::hard_link(&temporary, dir.join(MARKER)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(dir)?.sync_all(),
        }
    });
    let _ = fs::remove_file(&temporary);
    made?;
    read(dir)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn write_durably(path: &Path, id: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(path)?;
    writeln!(file, "{id}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::SeededEntropy;

    #[test]
    fn a_directory_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let entropy = SeededEntropy::new(1);
        let looked = identify(dir.path(), None, false, &entropy).unwrap();
        assert!(looked.id.is_empty() && !dir.path().join(MARKER).exists());
        let first = identify(dir.path(), None, true, &entropy).unwrap();
        assert!(first.is_new && first.id.len() == 32);
        let again = identify(dir.path(), Some(&first.id), true, &entropy).unwrap();
        assert_eq!((again.id, again.is_new), (first.id.clone(), false));
        let other = identify(dir.path(), Some("another"), true, &entropy);
        assert!(matches!(other, Err(OpenError::MarkerDiffers { .. })));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary is left"
        );
    }

    /// An unmounted disk leaves an empty directory, in which every object is missing: zeros.
    #[test]
    fn an_unmounted_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let gone = identify(dir.path(), Some("served"), true, &SeededEntropy::new(1));
        assert!(matches!(gone, Err(OpenError::MarkerGone { .. })));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "and not marked"
        );
    }
}
