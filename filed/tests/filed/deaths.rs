//! Locks of who died: what a death leaves, and who may take it for what.

use crate::locking::{Place, VOLUME};
use crate::rig::{SETTINGS, name};
use driver::{Driver, Errno, Mark};
use filed::DrainLock;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A node that was killed while it gave a lock back left the note of a lock that nobody had: its
/// successor took that for a lock that was broken, and an innocent reader heard ESTALE. So the note
/// goes before the lock does.
#[test]
fn a_lock_is_not_noted_any_more_when_it_is_given_back() {
    let place = Place::new(SETTINGS[1]);
    let held = tempfile::tempdir().unwrap();
    let mut it = place.open_varied("node_1", |config| {
        config.held_dir = Some(held.path().to_owned());
    });
    it.acquire().unwrap();
    assert!(held.path().join(VOLUME).exists());
    let gone = Deletions::of([held.path(), place.locks.path()]);
    it.release(false).unwrap();
    assert_eq!(gone.first_two(), [VOLUME, "goldvol1_lock"]);
}

/// Two nodes of one host have one owner's text, unless they are told another. When a blocker of one
/// died, the other took its locks for its own: a volume that it had never opened was open there, and
/// stayed so, or was closed by a CLOSE of it; and the node whose lock it was heard that it was broken
/// by nobody. A predecessor has the same `RUN_DIR`.
#[test]
fn a_lock_of_another_dead_node_with_our_text_is_not_ours() {
    let place = Place::new(SETTINGS[1]);
    let of = |dir: &str| place.open_varied("node_1", |config| config.run_dir = Some(dir.into()));
    of("/run/one").acquire().unwrap();
    assert!(!of("/run/one").holder().foreign);
    let mut other = of("/run/other");
    assert!(other.holder().foreign);
    assert_eq!(other.release(false), Err(Errno::PERM));
    let reply = other.acquire().unwrap();
    assert!(!reply.already_ours);
    assert_eq!(reply.ended.unwrap().run_dir, Some("/run/one".into()));
    drop(other);
    assert!(of("/run/other").acquire().unwrap().already_ours);
    assert!(of("/run/other").release(false).is_ok());
}

/// A node that was killed in the midst of a takeover left its prepared lock for an hour, and then
/// until the next start. Its mark says at once that it is nobody's any more.
#[test]
fn a_prepared_lock_of_a_dead_process_goes_at_the_next_start() {
    let place = Place::new(SETTINGS[0]);
    let prepared = place
        .locks
        .path()
        .join("goldvol1_locknode_1_0123456789abcdef");
    let mut it = place.open("node_1");
    it.acquire().unwrap();
    std::fs::rename(place.file(), &prepared).unwrap();
    drop(place.open("node_1"));
    assert!(prepared.exists(), "its driver lives");
    drop(it);
    drop(place.open("node_1"));
    assert!(!prepared.exists());
}

/// The blocker of maps of a node died, and until its successor came another node of this host took
/// its locks for a dead node's. The first one's guests heard ESTALE; and for as long as a lease lasts
/// its other blocker went on writing into what was another's by then.
#[test]
fn a_lock_of_a_living_nodes_dead_blocker_stays() {
    let place = Place::new(SETTINGS[1]);
    let theirs = tempfile::tempdir().unwrap();
    let of = |owner: &str, dir: &Path| {
        place.open_varied(owner, |config| config.run_dir = Some(dir.to_owned()))
    };
    of("node_1", theirs.path()).acquire().unwrap();
    let mut other = of("node_2", Path::new("/run/other"));

    let drain = theirs.path().join("blockerb.drain");
    let writes = DrainLock::acquire(&drain).unwrap();
    assert_eq!(other.acquire().map(drop), Err(Errno::BUSY));
    drop(writes);
    let socket = theirs.path().join("supervisor.sock");
    let supervisor = UnixListener::bind(&socket).unwrap();
    assert_eq!(other.acquire().map(drop), Err(Errno::BUSY));
    assert!(of("node_1", theirs.path()).acquire().unwrap().already_ours);
    // What nobody listens at, and nobody locks, is left of a node that is dead.
    drop(supervisor);
    assert!(socket.exists() && drain.exists());
    let ended = other.acquire().unwrap().ended.unwrap();
    assert_eq!(ended.owner, b"node_1");
}

/// A successor takes its predecessor's lock over by saying in the lock's mark that it lives. Another
/// node that had read the mark before, and got the flock after, broke the lock of the living.
#[test]
fn a_lock_that_a_successor_takes_over_is_not_taken_for_a_dead_ones() {
    const LOOKS: u32 = 1000;
    let place = Place::new(SETTINGS[2]);
    let mut successor = place.open("node_1");
    successor.acquire().unwrap();
    let file = File::open(place.file()).unwrap();
    let alive = get_mark(&file);
    let mut dead = Mark::from_text(&alive).unwrap();
    dead.instance = u64::MAX;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                file.lock().unwrap();
                set_mark(&file, &dead.to_text());
                set_mark(&file, &alive);
                file.unlock().unwrap();
            }
        });
        let mut other = place.open("node_2");
        let taken = (0..LOOKS).position(|_| other.acquire().is_ok());
        over.store(true, Relaxed);
        assert_eq!(taken, None, "it was a dead one's under a flock only");
    });
    assert!(successor.driver.lock_is_held(&name(VOLUME)));
}

const MARK: &std::ffi::CStr = c"user.archipelago.owner";

fn get_mark(file: &File) -> String {
    let mut text = vec![0; driver::MARK_LEN_MAX];
    let (fd, room) = (file.as_raw_fd(), text.len());
    // SAFETY: the name is a C string, and at most the vector's length is written to it.
    let len = unsafe { libc::fgetxattr(fd, MARK.as_ptr(), text.as_mut_ptr().cast(), room) };
    text.truncate(usize::try_from(len).expect("a mark"));
    String::from_utf8(text).unwrap()
}

fn set_mark(file: &File, text: &str) {
    let (fd, bytes) = (file.as_raw_fd(), text.as_ptr().cast());
    // SAFETY: the name is a C string, and the text is read for its own length.
    let set = unsafe { libc::fsetxattr(fd, MARK.as_ptr(), bytes, text.len(), 0) };
    assert_eq!(set, 0, "the mark can be set");
}

/// Tells what goes from directories, in the order in which it does.
struct Deletions(File);

impl Deletions {
    fn of<const N: usize>(dirs: [&Path; N]) -> Deletions {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
        assert!(fd >= 0, "inotify");
        // SAFETY: the kernel just made this descriptor for us.
        let deletions = Deletions(unsafe { File::from_raw_fd(fd) });
        for dir in dirs {
            let path = CString::new(dir.as_os_str().as_bytes()).unwrap();
            // SAFETY: the path is a C string that lives until after the call.
            let watch = unsafe { libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_DELETE) };
            assert!(watch >= 0, "inotify watches {}", dir.display());
        }
        deletions
    }

    /// The names of the first two.
    fn first_two(mut self) -> [String; 2] {
        const HEAD: usize = size_of::<libc::inotify_event>();
        let (mut names, mut events) = (Vec::new(), Vec::new());
        while names.len() < 2 {
            let mut more = [0; 1024];
            let len = self.0.read(&mut more).unwrap();
            events.extend_from_slice(&more[..len]);
            // Number 3 of a head's four is how long the padded name after it is.
            while let Some((head, rest)) = events.split_at_checked(HEAD) {
                let len = u32::from_ne_bytes(head[12..].try_into().unwrap()) as usize;
                let name = rest[..len].split(|byte| *byte == 0).next().unwrap();
                names.push(String::from_utf8(name.to_vec()).unwrap());
                events.drain(..HEAD + len);
            }
        }
        names.truncate(2);
        names.try_into().unwrap()
    }
}
