//! Lock files: what is in them, and who may take them.

use crate::rig::{Files, SETTINGS, Setting, files, name, pump};
use driver::{Detail, Driver, Errno, LockHolder, LockReply, Op, OpId};
use filed::Config;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

pub(crate) const VOLUME: &str = "goldvol1";

impl Files {
    pub(crate) fn acquire(&mut self) -> Result<LockReply, Errno> {
        lock(self.ask(Op::Acquire { name: name(VOLUME) }))
    }
    pub(crate) fn holder(&mut self) -> LockHolder {
        let name = name(VOLUME);
        let info = lock(self.ask(Op::LockInfo { name }));
        info.unwrap().holder.expect("somebody holds it")
    }
    pub(crate) fn release(&mut self, force: bool) -> Result<LockReply, Errno> {
        lock(self.ask(Op::Release {
            name: name(VOLUME),
            force,
        }))
    }
}

fn lock(answer: Result<driver::Reply, Errno>) -> Result<LockReply, Errno> {
    match answer?.detail {
        Detail::Lock(reply) => Ok(*reply),
        other => panic!("{other:?}"),
    }
}

/// A directory with a flat lock directory beside it.
pub(crate) struct Place {
    setting: Setting,
    data: TempDir,
    pub(crate) locks: TempDir,
}

impl Place {
    pub(crate) fn new(setting: Setting) -> Place {
        Place {
            setting,
            data: setting.dir(),
            locks: setting.dir(),
        }
    }
    pub(crate) fn open(&self, owner: &str) -> Files {
        self.open_varied(owner, |_| {})
    }
    pub(crate) fn open_varied(&self, owner: &str, vary: impl FnOnce(&mut Config)) -> Files {
        let mut config = self.setting.config(self.data.path(), owner);
        config.lock_dir = Some(self.locks.path().to_owned());
        vary(&mut config);
        Files::open(config)
    }
    pub(crate) fn file(&self) -> PathBuf {
        self.locks.path().join("goldvol1_lock")
    }
}

#[test]
fn the_content_is_the_owner_as_the_original_writes_it() {
    for setting in SETTINGS {
        let place = Place::new(setting);
        let mut it = place.open("refhost_1002");
        it.acquire().unwrap();
        let padded = it.driver.capabilities().size_multiple > 1;
        let mut expected = b"refhost_1002".to_vec();
        expected.resize(if padded { 512 } else { 12 }, 0);
        assert_eq!(fs::read(place.file()).unwrap(), expected);
        assert_eq!(
            files(place.locks.path()),
            [Path::new("goldvol1_lock")],
            "no temporary"
        );
        it.release(false).unwrap();
        assert!(files(place.locks.path()).is_empty());
    }
}

#[test]
fn without_a_lock_directory_it_lies_hashed() {
    let setting = SETTINGS[1];
    let dir = setting.dir();
    let mut it = Files::open(setting.config(dir.path(), "node_1"));
    it.acquire().unwrap();
    // printf goldvol1_lock | sha256sum
    assert_eq!(files(dir.path()), [Path::new(HASHED_LOCK)]);
    it.release(false).unwrap();
}

const HASHED_LOCK: &str = "d2/20/5d/goldvol1_lock";

/// The original's locks have no process beside them: the text alone decides, all of it (B8).
#[test]
fn locks_of_the_original() {
    let place = Place::new(SETTINGS[0]);
    let mut it = place.open("node_100");
    for (content, ours) in [
        (&b"node_100"[..], true),
        (&[&b"node_100"[..], &[0; 504]].concat(), true),
        (b"node_1002", false),
        (b"node_10", false),
        (b"", false),
    ] {
        fs::write(place.file(), content).unwrap();
        if ours {
            let reply = it.acquire().unwrap();
            assert!(reply.already_ours && reply.ended.is_none(), "{reply:?}");
            assert_eq!(fs::read(place.file()).unwrap()[..8], *b"node_100");
            it.release(false).unwrap();
            continue;
        }
        assert_eq!(it.acquire(), Err(Errno::BUSY));
        assert_eq!(it.release(false), Err(Errno::PERM));
        assert_eq!(fs::read(place.file()).unwrap(), content, "untouched");
        let broken = it.release(true).unwrap();
        assert_eq!(broken.ended.unwrap().owner, content);
    }
}

/// A driver that died left its lock; its successor has it at once, and says what it found.
#[test]
fn locks_of_the_dead_are_taken_over() {
    let place = Place::new(SETTINGS[0]);
    let mut dead = place.open("node_1");
    dead.acquire().unwrap();
    drop(dead);
    let mut same = place.open("node_1");
    assert!(same.acquire().unwrap().already_ours);
    drop(same);
    let mut other = place.open("node_2");
    let reply = other.acquire().unwrap();
    assert!(!reply.already_ours);
    assert_eq!(reply.ended.unwrap().owner, b"node_1");
    assert_eq!(fs::read(place.file()).unwrap()[..6], *b"node_2");
    drop(other);
    assert!(
        place.open("node_3").release(false).is_err(),
        "the dead's is not ours to release"
    );
}

/// Two segments of one host with one owner's text: the second gets nothing while the first lives.
#[test]
fn the_same_text_is_not_ours_while_its_process_lives() {
    let place = Place::new(SETTINGS[0]);
    let (mut one, mut two) = (place.open("node_1"), place.open("node_1"));
    one.acquire().unwrap();
    assert_eq!(two.acquire(), Err(Errno::BUSY));
    assert_eq!(two.release(false), Err(Errno::PERM));
    assert!(one.driver.lock_is_held(&name(VOLUME)));
}

/// B18: a temporary file left by a crash made the lock impossible for its operation's number.
#[test]
fn stale_temporaries_are_in_nobodys_way() {
    let place = Place::new(SETTINGS[0]);
    for slot in ["_aa", "_ab", "_ba"] {
        fs::write(
            place
                .locks
                .path()
                .join(format!("goldvol1_locknode_1{slot}")),
            "node_1",
        )
        .unwrap();
    }
    let mut it = place.open("node_1");
    for _ in 0..3 {
        it.acquire().unwrap();
        it.release(false).unwrap();
    }
}

/// A node killed while it took a lock left its prepared file in `lock_dir`, one for each kill, for
/// ever. Its next start removes them, but nothing that may be somebody's.
#[test]
fn what_the_killed_prepared_goes_at_the_next_start() {
    let place = Place::new(SETTINGS[0]);
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    let put = |name: &str, changed: SystemTime| {
        let file = File::create(place.locks.path().join(name)).unwrap();
        file.set_modified(changed).unwrap();
    };
    put("goldvol1_locknode_1_0123456789abcdef", old);
    let kept = [
        "goldvol1_lock",
        "goldvol1_locknode_10_0123456789abcdef",
        "goldvol1_locknode_1_0123456789abcdeX",
        "goldvol1_locknode_1_aa",
    ];
    kept.iter().for_each(|name| put(name, old));
    put("young_locknode_1_0123456789abcdef", SystemTime::now());
    drop(place.open("node_1"));
    let entries = fs::read_dir(place.locks.path()).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with(".archipelago"))
        .collect();
    found.sort();
    let mut expected = kept.to_vec();
    expected.push("young_locknode_1_0123456789abcdef");
    assert_eq!(found, expected);
}

#[test]
fn an_unlinked_lock_is_seen_as_broken() {
    let place = Place::new(SETTINGS[0]);
    let mut it = place.open("node_1");
    it.acquire().unwrap();
    fs::remove_file(place.file()).unwrap();
    assert!(!it.driver.lock_is_held(&name(VOLUME)));
    assert_eq!(it.release(false), Err(Errno::NOENT));
    assert!(
        !it.acquire().unwrap().already_ours,
        "it was lost in between"
    );
}

/// B8: between the original's look at a lock and its unlink somebody else could get the lock, and
/// lost it then. Here the lock file changes hands just after it was opened to be looked at, by a
/// release of ours, and by an acquire that finds a lock of our dead predecessor.
#[test]
fn what_changes_hands_after_a_look_is_left_alone() {
    let (name, force) = (name(VOLUME), false);
    let place = Place::new(SETTINGS[0]);
    let mut it = place.open("node_1");
    it.acquire().unwrap();
    changes_hands_during(&place, &mut it, Op::Release { name, force });
    fs::write(place.file(), "node_1").unwrap();
    changes_hands_during(&place, &mut it, Op::Acquire { name });
}

fn changes_hands_during(place: &Place, it: &mut Files, op: Op) {
    // Whoever replaces a lock file holds a flock on the one that was there.
    let before = File::open(place.file()).unwrap();
    before.lock().unwrap();
    let opened = Opens::of(&place.file());
    it.driver.submit(OpId(1), op);
    pump(&it.reactor);
    opened.wait();
    let other = place.data.path().join("prepared");
    fs::write(&other, "node_2").unwrap();
    fs::rename(&other, place.file()).unwrap();
    drop(before);
    let mut done = Vec::new();
    while done.is_empty() {
        pump(&it.reactor);
        it.driver.poll(&mut done);
    }
    assert!(done[0].result.is_err(), "{done:?}");
    assert_eq!(
        fs::read(place.file()).unwrap(),
        b"node_2",
        "the other's lock stays"
    );
}

/// Tells when somebody opens a file.
struct Opens(File);

impl Opens {
    fn of(path: &Path) -> Opens {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
        assert!(fd >= 0, "inotify");
        // SAFETY: the kernel just made this descriptor for us.
        let opens = Opens(unsafe { File::from_raw_fd(fd) });
        // SAFETY: the path is a C string that lives until after the call.
        let watch = unsafe { libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_OPEN) };
        assert!(watch >= 0, "inotify watches the lock file");
        opens
    }

    fn wait(mut self) {
        let mut event = [0; 512];
        assert!(self.0.read(&mut event).unwrap() > 0);
    }
}

/// Many drivers want one lock that a dead one left: exactly one gets it.
#[test]
fn a_lock_of_the_dead_goes_to_one() {
    for _ in 0..10 {
        let place = Place::new(SETTINGS[2]);
        place.open("node_0").acquire().unwrap();
        let start = std::sync::Barrier::new(4);
        let end = std::sync::Barrier::new(4);
        let taken: usize = std::thread::scope(|scope| {
            let one = |i: usize| {
                let (place, start, end) = (&place, &start, &end);
                scope.spawn(move || {
                    let mut it = place.open(&format!("node_{i}"));
                    start.wait();
                    let got = it.acquire().is_ok();
                    end.wait();
                    usize::from(got && it.driver.lock_is_held(&name(VOLUME)))
                })
            };
            let threads: Vec<_> = (1..5).map(one).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(taken, 1);
    }
}

/// A lock that was broken while a successor was about to come: it heard EBUSY while the new owner had
/// the volume, and let its guests wait for it, as if they had never had it.
#[test]
fn what_was_broken_is_said_to_be_so_whoever_has_it() {
    let place = Place::new(SETTINGS[1]);
    let held = place.setting.dir();
    let noting = |config: &mut Config| config.held_dir = Some(held.path().join("held"));
    let ours = || place.open_varied("node_1", noting);
    ours().acquire().unwrap();
    let mut other = place.open("node_2");
    other.release(true).unwrap();
    other.acquire().unwrap();
    let mut successor = ours();
    assert_eq!(successor.acquire(), Err(Errno::STALE));
    other.release(false).unwrap();
    assert_eq!(successor.acquire(), Err(Errno::STALE));
    assert_eq!(successor.release(false), Err(Errno::NOENT));
    other.acquire().unwrap();
    assert_eq!(successor.acquire(), Err(Errno::BUSY), "as for everybody");
    other.release(false).unwrap();
    assert!(!successor.acquire().unwrap().already_ours);
}
