//! The moments at which a death hurts most, as the files themselves tell them: an object got its new
//! name, or lost its old one, or a header was written over a map's start; a lock was taken, broken or
//! given back.

use super::old::Tree;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;
use std::path::Path;

/// How long a moment is waited for before somebody is asked whether one may still come.
const LOOK_MS: u8 = 2;

/// Tells of the moments of one round.
pub(super) struct Moments(Inotify);

impl Moments {
    /// Those of a tree that was laid below `dir` and that nobody has been asked about.
    pub(super) fn of(dir: &Path, tree: &Tree) -> Moments {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        let watch = |path: &Path, what| inotify.add_watch(path, what);
        let locks = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        watch(&dir.join("locks"), locks | AddWatchFlags::IN_DELETE).unwrap();
        for path in tree.old_paths() {
            // What is watched is the file, under whichever name: these tell of its links.
            let links = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MODIFY;
            match watch(&dir.join(&path), links) {
                // A sweep that an earlier round began has moved it already.
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(why) => panic!("{}: {why}", path.display()),
            }
        }
        Moments(inotify)
    }

    /// Returns after `count` of them, or when `over` says so.
    pub(super) fn pass(&self, count: usize, over: impl Fn() -> bool) {
        let mut seen = 0;
        while seen <= count && !over() {
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(LOOK_MS)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(why) => panic!("moments can't be waited for: {why}"),
            }
            match self.0.read_events() {
                Ok(events) => seen += events.len(),
                Err(Errno::EAGAIN) => {}
                Err(why) => panic!("moments can't be read: {why}"),
            }
        }
    }
}
