//! How a directory is driven, and why it may not be.

use std::io;
use std::path::PathBuf;

/// Settings of one blocker over files (`spec/cli.md` section 3, `file_blocker`).
#[derive(Debug, Clone)]
pub struct Config {
    /// `archip_dir`: where the objects lie. Must exist.
    pub dir: PathBuf,
    /// `lock_dir`: where lock files lie, flat; without it they lie hashed beside the objects.
    pub lock_dir: Option<PathBuf>,
    /// `unique_str`: the owner's text in lock files, by default HOSTNAME_PORT.
    pub owner: String,
    /// `RUN_DIR` of this node, to be found through our locks by who breaks one on this host.
    pub run_dir: Option<PathBuf>,
    /// Where the locks are noted that were taken and not given back, so that a successor of this
    /// process knows one that was broken. A directory of this driver's own that a reboot may empty.
    pub held_dir: Option<PathBuf>,
    /// `direct`: O_DIRECT. Where the filesystem cannot, buffered I/O with a warning.
    pub direct: bool,
    /// `fdcache`: how many descriptors are kept open when nothing uses them.
    pub fdcache: usize,
    /// `pithos_migrate`: move objects of the old layouts when they are first met.
    pub pithos_migrate: bool,
    /// The directory's id, when this node has served it before: another, or none, is refused,
    /// because an unmounted disk must not turn volumes into zeros.
    pub expected_id: Option<String>,
    /// Whether a directory without an id is given one; not by who only looks.
    pub mark: bool,
}

impl Config {
    /// `dir` with the defaults of everything else.
    pub fn new(dir: impl Into<PathBuf>, owner: impl Into<String>) -> Config {
        Config {
            dir: dir.into(),
            lock_dir: None,
            owner: owner.into(),
            run_dir: None,
            held_dir: None,
            direct: true,
            fdcache: 512,
            pithos_migrate: false,
            expected_id: None,
            mark: true,
        }
    }
}

/// Why a directory is not driven.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened.
    #[error("cannot open the directory {}", dir.display())]
    Dir {
        /// `archip_dir` or `lock_dir`.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This node has served it, and its marker is gone.
    #[error(
        "{} holds no .archipelago any more, though this node has served it (is its disk mounted?)",
        dir.display()
    )]
    MarkerGone {
        /// `archip_dir`.
        dir: PathBuf,
    },
    /// It is another directory than the one that this node has served.
    #[error("{} is not the directory that this node has served: its id is {found}, not {expected}",
        dir.display())]
    MarkerDiffers {
        /// `archip_dir`.
        dir: PathBuf,
        /// The id in it.
        found: String,
        /// The id that was expected.
        expected: String,
    },
    /// There is no more to hash with.
    #[error("cannot prepare the threads that hash")]
    Hashers(#[source] io::Error),
    /// The owner's text cannot stand in a lock file's name.
    #[error("unique_str must have 1 to 100 bytes, none of them '/' or NUL")]
    Owner,
}
