//! A loss of power, for real: an ext4 of its own on a loop device, whose image is copied while it
//! is in use. What the kernel had not sent to the device by then is missing in the copy.
//!
//! The filesystem commits by itself only every ten minutes, so that nothing is durable by chance;
//! the first test makes sure of that. Mounts end with their thread's namespace, and the loop
//! devices with the mounts.

use crate::rig::{Files, files, hash_name, name, pump, put, write};
use driver::{Buf, Driver, Op, OpId, Tag};
use filed::Config;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Disk {
    dir: TempDir,
}

/// Runs `story` with a disk, in a thread of its own; or says why it cannot.
fn with_disk(story: impl FnOnce(&Disk) + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| match Disk::mounted() {
            Ok(disk) => story(&disk),
            Err(why) => eprintln!("skipped: a filesystem of its own needs root and loop: {why}"),
        });
    });
}

impl Disk {
    fn mounted() -> Result<Disk, String> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| errno.to_string())?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|errno| errno.to_string())?;
        let dir = TempDir::new().map_err(|error| error.to_string())?;
        let disk = Disk { dir };
        for part in ["disk", "left"] {
            fs::create_dir(disk.path(part)).map_err(|error| error.to_string())?;
        }
        let image = fs::File::create(disk.path("image")).map_err(|error| error.to_string())?;
        image.set_len(16 << 20).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F"], &[&disk.path("image")])?;
        disk.mount("image", "disk")?;
        Ok(disk)
    }

    fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }

    fn mount(&self, image: &str, at: &str) -> Result<(), String> {
        let options = ["-o", "loop,commit=600"];
        run("mount", &options, &[&self.path(image), &self.path(at)])
    }

    fn open(&self) -> Files {
        let config = Config {
            direct: false,
            ..Config::new(self.path("disk"), "node_1")
        };
        Files::open(config)
    }

    /// What a loss of power at this moment leaves: the names of the files, and their contents.
    fn left(&self) -> Vec<(String, Vec<u8>)> {
        fs::copy(self.path("image"), self.path("copy")).unwrap();
        self.mount("copy", "left").unwrap();
        let left = files(&self.path("left"))
            .into_iter()
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read(self.path("left").join(path)).unwrap())
            })
            .collect();
        self.unmount_left();
        left
    }

    /// Another test's new process may have our files open, until it runs its program.
    fn unmount_left(&self) {
        let patience = Instant::now() + Duration::from_secs(10);
        while let Err(why) = run("umount", &[], &[&self.path("left")]) {
            let busy = why.contains("busy") && Instant::now() < patience;
            assert!(busy, "{why}");
        }
    }

    fn is_left(&self, object: &str) -> bool {
        self.left().iter().any(|(name, _)| name == object)
    }

    fn content_left(&self, object: &str) -> Option<Vec<u8>> {
        let mut left = self.left().into_iter();
        left.find(|(name, _)| name == object)
            .map(|(_, content)| content)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for part in ["left", "disk"] {
            // Not mounted, if it did not come to that.
            let _ = umount2(&self.path(part), MntFlags::MNT_DETACH);
        }
    }
}

/// Runs a tool; Err: what it said.
fn run(tool: &str, options: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output = Command::new(tool)
        .args(options)
        .args(paths)
        .output()
        .map_err(|error| format!("{tool}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Without this the tests below would hold on storage that loses nothing.
#[test]
fn what_was_not_synced_is_lost_here() {
    with_disk(|disk| {
        let mut it = disk.open();
        it.write("first-object", 0, &[1; 4096]).unwrap();
        it.ask(write("volatile-object", 0, &[2; 4096], Tag(1)))
            .unwrap();
        assert_eq!(
            disk.content_left("first-object"),
            Some(vec![1; 4096]),
            "durable when answered"
        );
        assert!(!disk.is_left("volatile-object"));
        it.ask(Op::Sync { tag: Tag(1) }).unwrap();
        assert_eq!(disk.content_left("volatile-object"), Some(vec![2; 4096]));
    });
}

/// B4: a copy was answered that was on no disk yet, while the map entry that followed was.
#[test]
fn a_copy_is_durable_when_answered() {
    with_disk(|disk| {
        let mut it = disk.open();
        it.write("copy-source", 0, &[3; 20_000]).unwrap();
        let copy = Op::Copy {
            src: Box::new(name("copy-source")),
            dst: name("copy-target"),
            max: 1 << 22,
            tag: Tag(1),
            durable: true,
        };
        it.ask(copy).unwrap();
        assert_eq!(disk.content_left("copy-target"), Some(vec![3; 20_000]));
    });
}

/// B9: what was removed came back, because its directory was not synced.
#[test]
fn a_removal_is_durable_when_answered_or_synced() {
    with_disk(|disk| {
        let mut it = disk.open();
        for (object, durable) in [("first-object", true), ("second-object", false)] {
            it.write(object, 0, &[4; 512]).unwrap();
            let name = name(object);
            it.ask(Op::Delete { name, durable }).unwrap();
            assert_eq!(disk.is_left(object), !durable, "{object}");
        }
        it.ask(Op::Sync { tag: Tag(7) }).unwrap();
        assert!(!disk.is_left("second-object"));
    });
}

/// B9: a content's name was lost, though the map that names it was not.
#[test]
fn a_content_has_its_name_when_its_hash_is_answered() {
    with_disk(|disk| {
        let mut it = disk.open();
        it.write("hashed-object", 0, b"content").unwrap();
        let op = Op::Hash {
            name: name("hashed-object"),
            offset: 0,
            size: 4096,
            algorithm: driver::HashAlgorithm::Sha256,
        };
        it.ask(op).unwrap();
        let hash = driver::HashAlgorithm::Sha256.digest(b"content").to_string();
        assert_eq!(disk.content_left(&hash), Some(b"content".to_vec()));
    });
}

/// B9: a lock that was taken vanished, and one that was given back stood again.
#[test]
fn locks_are_durable_both_ways() {
    with_disk(|disk| {
        let mut it = disk.open();
        // The directories that lead to the lock file are made once.
        for _ in 0..2 {
            let name = name("locked-volume");
            it.ask(Op::Acquire { name }).unwrap();
            let left = disk.content_left("locked-volume_lock");
            assert_eq!(left.as_deref(), Some(&b"node_1"[..]));
            it.ask(Op::Release { name, force: false }).unwrap();
            assert!(!disk.is_left("locked-volume_lock"), "given back");
        }
    });
}

/// A block of Pithos was linked to its new place and removed from the old one, and the power failed
/// before the link was on the disk. At every moment of a move one of its names is there.
#[test]
fn an_object_that_moves_is_never_gone() {
    with_disk(|disk| {
        let root = disk.path("disk");
        for digit in ["a", "b", "c", "d", "e", "f"] {
            let hash = hash_name().replace('0', digit);
            let old = format!("{}/{}/{}/{hash}", &hash[..2], &hash[2..4], &hash[4..6]);
            put(&root, &old, b"a block");
            nix::unistd::syncfs(fs::File::open(&root).unwrap()).unwrap();
            let mut it = Files::open(Config {
                direct: false,
                pithos_migrate: true,
                ..Config::new(&root, "node_1")
            });
            let read = Op::Read {
                name: name(&hash),
                offset: 0,
                buf: Buf::new(7),
            };
            it.driver.submit(OpId(1), read);
            let mut done = Vec::new();
            while done.is_empty() || it.driver.moving() > 0 {
                pump(&it.reactor);
                it.driver.poll(&mut done);
                assert_eq!(disk.content_left(&hash), Some(b"a block".to_vec()));
            }
            it.ask(Op::Sync { tag: Tag(1) }).unwrap();
            assert!(!root.join(&old).exists());
            assert_eq!(disk.content_left(&hash), Some(b"a block".to_vec()));
        }
    });
}
