//! Which locks were broken, as their directory tells: who finds the holder of a lock dead renames its
//! own over it, and nobody else does that. So who hears ESTALE while no lock was broken hears it
//! wrongly.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Mutex;

/// The locks below a directory that were broken since they are watched.
pub(super) struct Broken {
    inotify: Inotify,
    files: Mutex<HashSet<OsString>>,
}

impl Broken {
    pub(super) fn watch(locks: &Path) -> Broken {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        inotify
            .add_watch(locks, AddWatchFlags::IN_MOVED_TO)
            .unwrap();
        Broken {
            inotify,
            files: Mutex::default(),
        }
    }

    /// Whether the lock of `volume` was broken until now.
    pub(super) fn has(&self, volume: &str) -> bool {
        let mut files = self.files.lock().unwrap();
        loop {
            match self.inotify.read_events() {
                Ok(events) => files.extend(events.into_iter().filter_map(|event| event.name)),
                Err(Errno::EAGAIN) => break,
                Err(why) => panic!("the locks' directory can't be watched: {why}"),
            }
        }
        files.contains(OsStr::new(&format!("{volume}_lock")))
    }
}
