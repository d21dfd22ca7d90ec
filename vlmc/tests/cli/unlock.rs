//! `vlmc unlock -f`: when it has returned, nothing that the old holder wrote lands any more.

use crate::lab::{Lab, Storage};
use client::{Client, Hint, Name, Volume};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

// The others are about lock files. A lock in a pool cuts its holder off by itself: `rados`, and the
// system tests `rados::breaking`.
on_each!(files, rados => a_node_may_break_its_own_lock);

const SIZE: usize = 1 << 20;
/// What the old holder writes, and what the new one does.
const OLD: u8 = 0xa5;
const NEW: u8 = 0x5b;

fn open(client: &Client) -> Volume {
    Volume::open(client, Name::try_from("volume").unwrap(), Hint::default()).unwrap()
}

/// Two nodes of this host over one storage; the first has the volume open.
fn two_nodes(shared: bool) -> (Lab, Lab) {
    let old = Lab::started(shared);
    let new = Lab::beside(&old);
    old.vlmc("create volume -s 600").says("");
    open(&old.client()).write_at(&[OLD; SIZE], 0).unwrap();
    new.vlmc("open volume").fails("vlmc open failed");
    (old, new)
}

/// Writes the volume over and over through `node` until that fails, and returns why.
fn write_on(node: &Lab, count: &AtomicU64) -> client::Error {
    let client = node.client();
    let volume = open(&client);
    loop {
        for at in (0..SIZE).step_by(4096) {
            if let Err(why) = volume.write_at(&[OLD; 4096], at as u64) {
                return why;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Until `count` has grown: the writer is at work.
fn await_more(count: &AtomicU64) {
    let goal = count.load(Ordering::Relaxed) + 50;
    while count.load(Ordering::Relaxed) < goal {
        thread::yield_now();
    }
}

/// How many bytes of the volume are not the new holder's.
fn foreign(volume: &Volume) -> usize {
    let mut read = vec![0; SIZE];
    volume.read_at(&mut read, 0).unwrap();
    read.iter().filter(|&&byte| byte != NEW).count()
}

#[test]
fn a_living_node_of_this_host_gives_up_at_once() {
    let (old, new) = two_nodes(true);
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(&old, &count));
        await_more(&count);
        new.vlmc("unlock -f volume").says("Volume unlocked\n");
        let client = new.client();
        let volume = open(&client);
        volume.write_at(&[NEW; SIZE], 0).unwrap();
        let why = writer.join().unwrap();
        assert_eq!(why.errno, libc::ESTALE, "{why:?}");
        assert_eq!(
            foreign(&volume),
            0,
            "after {} writes",
            count.load(Ordering::Relaxed)
        );
    });
    old.vlmc("status volume");
    assert_eq!(old.archipelago("status").status, 0, "the node serves on");
}

/// The old node hangs with writes under way, and goes on when the new one has written.
#[test]
fn a_hung_node_of_this_host_is_ended() {
    let (old, new) = two_nodes(true);
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(&old, &count));
        await_more(&count);
        let hung = Pid::from_raw(old.pid("blockerb"));
        kill(hung, Signal::SIGSTOP).unwrap();
        let said = new.vlmc("unlock -f volume");
        assert_eq!((said.status, &*said.out), (0, "Volume unlocked\n"));
        assert!(said.err.ends_with("its blockers were killed\n"), "{said:?}");
        let client = new.client();
        let volume = open(&client);
        volume.write_at(&[NEW; SIZE], 0).unwrap();
        // Its successor knows that the lock was its own, and does not take it again in silence.
        let why = writer.join().unwrap();
        assert_eq!(why.errno, libc::ESTALE, "{why:?}");
        assert_eq!(
            foreign(&volume),
            0,
            "after {} writes",
            count.load(Ordering::Relaxed)
        );
        old.vlmc("open volume").fails("vlmc open failed");
        old.vlmc("close volume").fails("vlmc close failed");
        new.vlmc("close volume").says("Volume closed\n");
        old.vlmc("open volume").says("Volume opened\n");
    });
}

/// Where nobody has written yet, and no mapping is known: further than vlmcd asks at once.
const FAR: u64 = 400 << 20;

/// One role of the old node hangs. When it was blockerb, the object that mapperd had asked it to make
/// was made anew by its successor, over what the new owner had written there. When it was mapperd,
/// its blockers alone were killed and this was waited for a minute and then failed, because it could
/// not be told that it was over.
#[test]
fn a_hung_role_of_this_host_lets_nothing_land_late() {
    for role in ["blockerb", "blockerm", "mapperd", "vlmcd"] {
        let (old, new) = two_nodes(false);
        let count = AtomicU64::new(0);
        thread::scope(|scope| {
            let writer = scope.spawn(|| write_on(&old, &count));
            await_more(&count);
            let hung = Pid::from_raw(old.pid(role));
            kill(hung, Signal::SIGSTOP).unwrap();
            let far = scope.spawn(|| open(&old.client()).write_at(&[OLD; 4096], FAR));
            assert_eq!(new.vlmc("unlock -f volume").status, 0);
            let client = new.client();
            let volume = open(&client);
            volume.write_at(&[NEW; SIZE], 0).unwrap();
            volume.write_at(&[NEW; 4096], FAR).unwrap();
            // It may have been killed, and buried.
            let _ = kill(hung, Signal::SIGCONT);
            for why in [writer.join().unwrap(), far.join().unwrap().unwrap_err()] {
                assert_eq!(why.errno, libc::ESTALE, "{role}: {why:?}");
            }
            let mut read = [0; 4096];
            volume.read_at(&mut read, FAR).unwrap();
            let ours = read.iter().all(|byte| *byte == NEW);
            assert!(
                ours,
                "{role} hung, and later the far block begins {:?}",
                &read[..4]
            );
            assert_eq!(foreign(&volume), 0, "{role} hung");
            let status = old.vlmc("status volume").out;
            assert!(status.contains("closed and opened again"), "{status}");
            new.vlmc("close volume").says("Volume closed\n");
            old.vlmc("close volume").fails("vlmc close failed");
            old.vlmc("open volume").says("Volume opened\n");
        });
    }
}

/// A node that breaks its own lock has lost the volume like any other.
fn a_node_may_break_its_own_lock(storage: &Storage) {
    let lab = storage.started(true);
    lab.vlmc("create volume -s 1").says("");
    let client = lab.client();
    let volume = open(&client);
    volume.write_at(&[OLD; SIZE], 0).unwrap();
    lab.vlmc("unlock -f volume").says("Volume unlocked\n");
    let why = volume.write_at(&[OLD; 4096], 0).unwrap_err();
    assert_eq!(why.errno, libc::ESTALE, "{why:?}");
    lab.vlmc("unlock -f volume").fails("vlmc unlock failed");
}

/// The lock file of a node of the original on another host.
fn lock_from_elsewhere(lab: &Lab) {
    lab.vlmc("create volume -s 1").says("");
    fs::write(lab.path("locks/volume_lock"), "node-7_1002").unwrap();
    lab.vlmc("open volume").fails("vlmc open failed");
}

#[test]
fn leases_of_another_host_are_waited_for() {
    let ttl = [("blockerb", "lock_ttl = 1"), ("blockerm", "lock_ttl = 1")];
    let lab = Lab::with_lines(&ttl);
    lock_from_elsewhere(&lab);
    let begin = std::time::Instant::now();
    lab.vlmc("unlock -f volume").is(
        0,
        "Volume unlocked\n",
        "waiting 1.5 s until the leases of node-7 have ended\n\
         a write that node-7 had begun and that hangs there may still land; only a fence_command \
         rules that out\n",
    );
    assert!(begin.elapsed() >= Duration::from_millis(1500));
    lab.vlmc("open volume").says("Volume opened\n");
}

#[test]
fn another_host_is_cut_off_where_that_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let (out, works) = (folder.path().join("said"), folder.path().join("works"));
    let command = format!(
        "fence_command = test -e {} && echo >>{}",
        works.display(),
        out.display()
    );
    let lab = Lab::with_lines(&[("ARCHIPELAGO", &command)]);
    lock_from_elsewhere(&lab);
    lab.vlmc("unlock -f volume")
        .fails("vlmc unlock failed: fence_command did not cut node-7 off");
    assert!(
        lab.path("locks/volume_lock").exists(),
        "the lock is as it was"
    );
    fs::write(&works, "").unwrap();
    lab.vlmc("unlock -f volume").says("Volume unlocked\n");
    assert_eq!(fs::read_to_string(&out).unwrap(), "node-7\n");
    lab.vlmc("open volume").says("Volume opened\n");
}
