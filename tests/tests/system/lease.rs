//! `lock_ttl`: how long a real node goes on after its lock was broken from elsewhere.

use client::{Hint, Name, Volume};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use system_tests::real::{RealNode, program};

/// The lock file of `volume` somewhere below `dir`.
fn lock_file(dir: &Path, volume: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if let Some(found) = lock_file(&path, volume) {
                return Some(found);
            }
        } else if path.ends_with(format!("{volume}_lock")) {
            return Some(path);
        }
    }
    None
}

/// Writes until one is refused, and returns how long that took after the lock was broken.
fn survives(ttl: &str) -> Duration {
    let target = program("archipelago").parent().unwrap().to_owned();
    let node = RealNode::start_varied(
        &target,
        |params| params.process = None,
        |text| {
            text.replace(
                "lock_dir = locks\n",
                &format!("lock_dir = locks\nlock_ttl = {ttl}\n"),
            )
        },
    )
    .unwrap();
    let name = Name::try_from("volume").unwrap();
    node.client().create(name, 1 << 20).unwrap();
    node.client().open(name, Hint::default()).unwrap();
    let volume = Volume::open(&node.client(), name, Hint::default()).unwrap();
    volume.write_at(b"ours", 0).unwrap();
    let lock = lock_file(&node.dir().join("locks"), "volume").expect("an open volume is locked");
    std::fs::remove_file(lock).unwrap();
    let broken = Instant::now();
    let refused = loop {
        if let Err(why) = volume.write_at(b"ours?", 0) {
            break why;
        }
        let patience = broken.elapsed() < Duration::from_secs(60);
        assert!(
            patience,
            "a node with a lock_ttl of {ttl} s goes on for a minute"
        );
    };
    let took = broken.elapsed();
    println!("lock_ttl {ttl}: refused after {took:?}: {refused}");
    drop(volume);
    assert!(node.stop().unwrap().success());
    took
}

/// `lock_ttl` was read and checked, and every lease lasted 30 s all the same.
#[test]
fn a_short_lease_ends_a_broken_lock_soon() {
    // One lease, then the half of one after which the lock is looked at: 1.5 s and the noise of
    // a busy machine; with 30 s it is 15 s at least.
    let took = survives("1");
    assert!(took < Duration::from_secs(12), "{took:?}");
}
