//! Objects leave the places of older layouts (`pithos_migrate`): met one by one, or swept.

use crate::rig::{Files, SETTINGS, Setting, files, hash_name, name, put};
use driver::{Detail, Errno, HashAlgorithm, MoveReply, Op, Tag};
use filed::Config;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tempfile::TempDir;

const MAP: &str = "archip_legacyv1b";
const OLD_MAP: &str = "le/ga/cy/archip_legacyv1b";

fn config(setting: Setting, dir: &TempDir) -> Config {
    Config {
        pithos_migrate: true,
        ..setting.config(dir.path(), "node_1")
    }
}

/// Where an old release has the object `hash_name`.
fn old_path() -> String {
    format!("01/23/45/{}", hash_name())
}

fn migrate(it: &mut Files, cursor: u64, max: usize, look: bool) -> Result<MoveReply, Errno> {
    match it.ask(Op::Migrate { cursor, max, look })?.detail {
        Detail::Moved(reply) => Ok(*reply),
        other => panic!("{other:?}"),
    }
}

/// All pages; their sum.
fn sweep(it: &mut Files, max: usize, look: bool) -> MoveReply {
    let mut sum = MoveReply::default();
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        let page = migrate(it, at, max, look).unwrap();
        assert!(page.permille >= sum.permille, "it goes on");
        sum.moved += page.moved;
        sum.directories += page.directories;
        sum.left.extend(page.left);
        sum.permille = page.permille;
        cursor = page.next;
    }
    assert_eq!(sum.permille, 1000);
    sum
}

/// All directories below `dir`, relative to it.
fn directories(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                found.insert(entry.path().strip_prefix(dir).unwrap().to_owned());
                todo.push(entry.path());
            }
        }
    }
    found
}

/// A tree as it is: directories, files and their inodes.
fn picture(dir: &Path) -> (BTreeSet<PathBuf>, Vec<(PathBuf, u64, u64)>) {
    let file = |path: PathBuf| {
        let meta = fs::symlink_metadata(dir.join(&path)).unwrap();
        (path, meta.ino(), meta.nlink())
    };
    (directories(dir), files(dir).into_iter().map(file).collect())
}

#[test]
fn what_is_met_moves() {
    for setting in SETTINGS {
        let dir = setting.dir();
        put(dir.path(), &old_path(), b"a block");
        put(dir.path(), OLD_MAP, b"a map");
        let old = fs::metadata(dir.path().join(OLD_MAP)).unwrap();
        let mut it = Files::open(config(setting, &dir));
        let info = it.ask(Op::Info {
            name: name(&hash_name()),
        });
        let info = info.unwrap();
        assert!(matches!(info.detail, Detail::Size(7)), "{info:?}");
        // Who has asked for it finds it moved; who has read it need not wait for that.
        assert!(!dir.path().join(old_path()).exists());
        assert_eq!(it.read(MAP, 0, 5).unwrap(), b"a map");
        it.settle();
        let after = files(dir.path());
        assert_eq!(after.len(), 2, "{after:?}");
        assert!(
            after
                .iter()
                .all(|path| !path.starts_with("01") && !path.starts_with("le"))
        );
        let moved = after.iter().find(|path| path.ends_with(MAP)).unwrap();
        let moved = fs::metadata(dir.path().join(moved)).unwrap();
        assert_eq!(
            (moved.ino(), moved.nlink()),
            (old.ino(), 1),
            "linked, not copied"
        );
        assert_eq!(it.read(&hash_name(), 0, 7).unwrap(), b"a block");
    }
}

/// A node was killed between the link and the unlink: its work was never finished, so that the
/// block lay in both places for ever.
#[test]
fn a_half_done_move_is_finished_by_whoever_meets_it() {
    let setting = SETTINGS[0];
    let dir = setting.dir();
    put(dir.path(), &old_path(), b"a block");
    let mut first = Files::open(config(setting, &dir));
    assert_eq!(first.read(&hash_name(), 0, 7).unwrap(), b"a block");
    first.settle();
    let new = dir.path().join(files(dir.path()).remove(0));
    fs::hard_link(&new, dir.path().join(old_path())).unwrap();
    // A node that moves nothing takes it as it is.
    let mut still = Files::open(setting.config(dir.path(), "node_1"));
    assert_eq!(still.read(&hash_name(), 0, 7).unwrap(), b"a block");
    assert_eq!(fs::metadata(&new).unwrap().nlink(), 2);
    let mut second = Files::open(config(setting, &dir));
    assert_eq!(second.read(&hash_name(), 0, 7).unwrap(), b"a block");
    second.settle();
    assert_eq!(fs::metadata(&new).unwrap().nlink(), 1);
    assert!(!dir.path().join(old_path()).exists());
}

#[test]
fn a_sweep_leaves_nothing_at_old_places() {
    for setting in SETTINGS {
        let dir = setting.dir();
        let algorithm = HashAlgorithm::Sha256;
        let blocks: Vec<String> = (0..100u32)
            .map(|n| algorithm.digest(&n.to_le_bytes()).to_string())
            .collect();
        for hash in &blocks {
            let (a, b, c) = (&hash[..2], &hash[2..4], &hash[4..6]);
            put(dir.path(), &format!("{a}/{b}/{c}/{hash}"), hash.as_bytes());
        }
        put(dir.path(), OLD_MAP, b"a map");
        // What was emptied before.
        fs::create_dir_all(dir.path().join("ff/ff/ff")).unwrap();
        fs::create_dir_all(dir.path().join("00/11")).unwrap();
        let before = picture(dir.path());
        let mut it = Files::open(config(setting, &dir));
        assert_eq!(sweep(&mut it, 7, true).moved, 101);
        assert_eq!(picture(dir.path()), before, "a look changes nothing");
        let swept = sweep(&mut it, 7, false);
        assert_eq!((swept.moved, swept.left.len()), (101, 0), "{swept:?}");
        assert!(swept.directories > 101);
        for hash in &blocks {
            assert_eq!(it.read(hash, 0, 64).unwrap(), hash.as_bytes());
        }
        assert_eq!(files(dir.path()).len(), 101);
        let parents: BTreeSet<PathBuf> = files(dir.path())
            .iter()
            .flat_map(|path| path.ancestors().skip(1).map(Path::to_owned))
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        assert_eq!(directories(dir.path()), parents, "no empty directory");
        assert_eq!(sweep(&mut it, 1000, false).moved, 0, "again");
    }
}

#[test]
fn a_sweep_needs_pithos_migrate() {
    let setting = SETTINGS[0];
    let dir = setting.dir();
    put(dir.path(), &old_path(), b"a block");
    let mut it = Files::open(setting.config(dir.path(), "node_1"));
    assert_eq!(migrate(&mut it, 0, 10, false), Err(Errno::PERM));
    assert_eq!(migrate(&mut it, 0, 10, true).unwrap().moved, 1);
    assert!(dir.path().join(old_path()).exists());
}

/// What can't be moved is named, stays as it is, and hinders nothing else.
#[test]
fn what_stays_is_named() {
    let setting = SETTINGS[0];
    let dir = setting.dir();
    let mut it = Files::open(config(setting, &dir));
    // At the new place there is another file of that name already.
    it.write(&hash_name(), 0, b"new").unwrap();
    put(dir.path(), &old_path(), b"old");
    let hash = |digit: &str| digit.repeat(64);
    let old = |digit: &str| {
        let two = digit.repeat(2);
        format!("{two}/{two}/{two}/{}", hash(digit))
    };
    fs::create_dir_all(dir.path().join(old("a"))).unwrap();
    fs::create_dir_all(dir.path().join("bb/bb/bb")).unwrap();
    symlink("nowhere", dir.path().join(old("b"))).unwrap();
    put(dir.path(), &format!("12/34/56/{}", hash("c")), b"astray");
    put(dir.path(), &old("d"), b"a block");
    let before = picture(dir.path());
    let swept = sweep(&mut it, 100, false);
    let mut left: Vec<String> = swept
        .left
        .iter()
        .map(|left| format!("{}: {}", left.path, left.reason))
        .collect();
    left.sort();
    let there = "a8/ae/6e";
    assert_eq!(
        left,
        [
            format!(
                "{}: another file of this name lies at {there}/{}",
                old_path(),
                hash_name()
            ),
            format!(
                "12/34/56/{}: no release looks for that name there",
                hash("c")
            ),
            format!("{}: it is no regular file", old("a")),
            format!("{}: it is no regular file", old("b")),
        ]
    );
    assert_eq!(swept.moved, 1, "the one that is nothing but a block");
    let after = picture(dir.path());
    let missing: Vec<_> = before
        .1
        .iter()
        .filter(|one| !after.1.contains(one))
        .collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    // What is asked for by name says why too.
    assert_eq!(it.read(&hash("a"), 0, 1), Err(Errno(libc::EISDIR)));
    assert_eq!(it.read(&hash("b"), 0, 1), Err(Errno(libc::ELOOP)));
    assert_eq!(it.read(&hash_name(), 0, 3).unwrap(), b"new");
}

/// A deleted block came back from its second name, or could not be deleted because another node had
/// moved it since it was opened.
#[test]
fn what_is_deleted_is_gone_wherever_it_lies() {
    let setting = SETTINGS[0];
    let delete = || Op::Delete {
        name: name(&hash_name()),
        durable: true,
    };
    for migrates in [false, true] {
        let dir = setting.dir();
        put(dir.path(), &old_path(), b"a block");
        let mut slow = Files::open(Config {
            pithos_migrate: migrates,
            ..setting.config(dir.path(), "node_1")
        });
        slow.read(&hash_name(), 0, 7).unwrap();
        slow.settle();
        let mut other = Files::open(config(setting, &dir));
        sweep(&mut other, 100, false);
        let new = dir.path().join(files(dir.path()).remove(0));
        put(dir.path(), "01/23/45/beside", b"");
        fs::hard_link(&new, dir.path().join(old_path())).unwrap();
        slow.ask(delete()).unwrap();
        assert_eq!(files(dir.path()), [Path::new("01/23/45/beside")]);
        assert_eq!(slow.ask(delete()).unwrap_err(), Errno::NOENT);
        assert_eq!(slow.read(&hash_name(), 0, 1), Err(Errno::NOENT));
    }
}

/// A directory that another node sweeps away between its making and its use is made again.
#[test]
fn objects_are_made_while_directories_are_swept() {
    for setting in SETTINGS {
        let dir = setting.dir();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                let mut it = Files::open(config(setting, &dir));
                let mut sweeps = 0;
                while !ended.load(SeqCst) || sweeps == 0 {
                    sweep(&mut it, 1000, false);
                    sweeps += 1;
                }
                sweeps
            });
            let made = std::panic::catch_unwind(|| make_and_delete(setting, &dir));
            ended.store(true, SeqCst);
            assert!(sweeper.join().unwrap() > 0);
            made.unwrap();
        });
    }
}

fn make_and_delete(setting: Setting, dir: &TempDir) {
    let mut it = Files::open(setting.config(dir.path(), "node_2"));
    for round in 0..60u32 {
        let object = format!("object-{round}");
        it.write(&object, 0, object.as_bytes()).unwrap();
        let hash = it.ask(Op::Hash {
            name: name(&object),
            offset: 0,
            size: 512,
            algorithm: HashAlgorithm::Sha256,
        });
        let Detail::Hash(hash) = hash.unwrap().detail else {
            panic!("HASH answers a hash");
        };
        // Locks lie beside the objects here.
        it.ask(Op::Acquire {
            name: name(&object),
        })
        .unwrap();
        it.ask(Op::Release {
            name: name(&object),
            force: false,
        })
        .unwrap();
        for object in [&object, &hash.to_string()] {
            let delete = Op::Delete {
                name: name(object),
                durable: round % 2 == 0,
            };
            it.ask(delete).unwrap();
        }
        it.ask(Op::Sync { tag: Tag(1) }).unwrap();
    }
}

/// Another node removed an object that was open here: INFO went on telling its size, so that a volume
/// that had moved to its new name seemed to be under the old one too.
#[test]
fn what_another_node_removed_is_not_there() {
    let setting = SETTINGS[0];
    let dir = setting.dir();
    let info = || Op::Info { name: name(MAP) };
    let mut one = Files::open(config(setting, &dir));
    one.write(MAP, 0, b"a map").unwrap();
    let mut other = Files::open(config(setting, &dir));
    assert_eq!(other.read(MAP, 0, 5).unwrap(), b"a map");
    let delete = Op::Delete {
        name: name(MAP),
        durable: true,
    };
    one.ask(delete).unwrap();
    assert_eq!(other.ask(info()).unwrap_err(), Errno::NOENT);
    one.write(MAP, 0, b"another").unwrap();
    let Detail::Size(7) = other.ask(info()).unwrap().detail else {
        panic!("the new one's size");
    };
    assert_eq!(other.read(MAP, 0, 7).unwrap(), b"another");
}
