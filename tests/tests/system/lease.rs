//! `lock_ttl`: how long a real node goes on after its lock was broken from elsewhere.

use client::{Hint, Name, Volume};
use std::time::{Duration, Instant};
use system_tests::real::{RealNode, program};
use system_tests::storage::Storage;

// On RADOS a holder is cut off when its lock is broken, whatever its lease (`rados::breaking`).
on_each!(files => a_short_lease_ends_a_broken_lock_soon);

/// Writes until one is refused, and returns how long that took after the lock was broken.
fn survives(storage: &Storage, ttl: &str) -> Duration {
    let target = program("archipelago").parent().unwrap().to_owned();
    let node = RealNode::start_varied(
        &target,
        |params| {
            params.process = None;
            storage.place().vary(params);
        },
        |text| {
            let blocker = "type = file_blocker\n";
            text.replace(blocker, &format!("{blocker}lock_ttl = {ttl}\n"))
        },
    )
    .unwrap();
    let name = Name::try_from("volume").unwrap();
    node.client().create(name, 1 << 20).unwrap();
    node.client().open(name, Hint::default()).unwrap();
    let volume = Volume::open(&node.client(), name, Hint::default()).unwrap();
    volume.write_at(b"ours", 0).unwrap();
    storage.place().break_lock(node.dir(), "volume");
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
fn a_short_lease_ends_a_broken_lock_soon(storage: &Storage) {
    // One lease, then the half of one after which the lock is looked at: 1.5 s and the noise of
    // a busy machine; with 30 s it is 15 s at least.
    let took = survives(storage, "1");
    assert!(took < Duration::from_secs(12), "{took:?}");
}
