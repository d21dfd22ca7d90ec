//! A driver is killed with writes in its ring: nothing lands after its successor has the drain lock.

use crate::rig::{Files, Setting, name};
use driver::{Buf, Driver, Op, OpId, Tag};
use filed::DrainLock;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const DIR: &str = "FILED_CRASH_DIR";
const OBJECT: &str = "written-while-killed";
const PIECE: usize = 256 << 10;
const PIECES: u64 = 256;

fn setting() -> Setting {
    Setting {
        memory: false,
        direct: true,
    }
}

/// The process that is killed; run by the test below, and by nothing else.
#[test]
#[ignore = "the child of the test below"]
fn the_child_writes_until_it_is_killed() {
    let dir = std::env::var_os(DIR).expect("run by its parent");
    let dir = Path::new(&dir);
    let mut files = Files::open(setting().config(dir, "node_1"));
    let lock = DrainLock::try_acquire(&dir.join("drain")).unwrap().unwrap();
    lock.register(&files.reactor.ring).unwrap();
    files
        .write(OBJECT, 0, &vec![0; PIECE * PIECES as usize])
        .unwrap();
    let mut round = 0u64;
    for piece in 0..PIECES {
        files.driver.submit(OpId(piece), write(piece, round));
    }
    println!("writing");
    let mut done = Vec::new();
    loop {
        files.driver.poll(&mut done);
        for done in done.drain(..) {
            done.result.unwrap();
            round += 1;
            files.driver.submit(done.id, write(done.id.0, round));
        }
        crate::rig::pump(&files.reactor);
    }
}

fn write(piece: u64, round: u64) -> Op {
    Op::Write {
        name: name(OBJECT),
        offset: piece * PIECE as u64,
        buf: Buf::from_bytes(&(round | 1 << 63).to_le_bytes().repeat(PIECE / 8)),
        tag: Tag(1),
        fresh: false,
        durable: false,
    }
}

#[test]
fn nothing_lands_after_the_drain() {
    let (mut rounds, mut outlived) = (0, 0);
    // More rounds only where this thread was late each time.
    while rounds < 4 || (outlived == 0 && rounds < 30) {
        rounds += 1;
        let dir = setting().dir();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("crash::the_child_writes_until_it_is_killed")
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let writes = lines.any(|line| line.unwrap().ends_with("writing"));
        assert!(writes, "the child begins");
        let drain = dir.path().join("drain");
        assert!(
            DrainLock::try_acquire(&drain).unwrap().is_none(),
            "it holds its lock"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        // Its descriptors are closed; what still holds the lock is its ring.
        outlived += usize::from(DrainLock::try_acquire(&drain).unwrap().is_none());

        let lock = DrainLock::acquire(&drain).unwrap();
        // The successor writes where the dead one wrote; nothing of that may be overwritten.
        let mut successor = Files::open(setting().config(dir.path(), "node_1"));
        lock.register(&successor.reactor.ring).unwrap();
        let ours = (0..PIECES).map(|piece| write(piece, u64::MAX)).collect();
        assert!(
            successor
                .ask_all(ours)
                .iter()
                .all(|done| done.result.is_ok())
        );
        drop(successor);
        // Free again only when both rings have ended: had the dead one's not, it has now.
        let _lock = DrainLock::acquire(&drain).unwrap();
        let content = fs::read(object_path(dir.path())).unwrap();
        let late = content.iter().filter(|byte| **byte != 0xff).count();
        assert_eq!(late, 0, "bytes that landed late");
    }
    assert!(
        outlived > 0,
        "the lock never outlived its process: is it in the ring?"
    );
}

fn object_path(dir: &Path) -> std::path::PathBuf {
    let found = crate::rig::files(dir);
    dir.join(found.iter().find(|path| path.ends_with(OBJECT)).unwrap())
}
