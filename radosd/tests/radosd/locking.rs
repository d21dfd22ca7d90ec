//! Locks as others see them, and waiting for them.

use crate::rig::{Pool, blocklisted, config, lab, name, pump, run_dir};
use driver::{Detail, Driver, Errno, LockReply, Name, Op};
use rados_lab::{Lab, Options};
use std::time::{Duration, Instant};

fn ask(pool: &mut Pool, op: Op) -> Result<LockReply, Errno> {
    match pool.ask(op)?.detail {
        Detail::Lock(lock) => Ok(*lock),
        other => panic!("{other:?}"),
    }
}

fn acquire(pool: &mut Pool, volume: &Name) -> Result<LockReply, Errno> {
    ask(pool, Op::Acquire { name: *volume })
}

fn release(pool: &mut Pool, volume: &Name, force: bool) -> Result<LockReply, Errno> {
    let name = *volume;
    ask(pool, Op::Release { name, force })
}

/// Type, tag and cookies of a lock, as the `rados` tool sees them.
fn seen(lab: &Lab, object: &str) -> String {
    let info = ["-p", "maps", "lock", "info", object, "RadosLock"];
    let said = lab.rados(&info).unwrap().out;
    let lock: serde_json::Value = serde_json::from_str(&said).unwrap();
    let lockers = lock["lockers"].as_array().unwrap();
    let cookies: Vec<_> = lockers.iter().map(|locker| &locker["cookie"]).collect();
    format!("{} {} {cookies:?}", lock["type"], lock["tag"])
}

/// `spec/protocol.md` section 2: object `NAME_lock`, lock `RadosLock`, cookie `foo`, no tag.
#[test]
fn a_lock_is_the_originals() {
    if rados_lab::skip("a_lock_is_the_originals") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let mut ours = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let volume = name("volume");
    acquire(&mut ours, &volume).unwrap();
    assert_eq!(
        seen(&lab, "volume_lock"),
        r#""exclusive" "" [String("foo")]"#
    );
    release(&mut ours, &volume, false).unwrap();
    assert_eq!(seen(&lab, "volume_lock"), r#""exclusive" "" []"#);
    let listed = lab.rados(&["-p", "maps", "ls"]).unwrap().out;
    assert_eq!(listed.trim(), "volume_lock", "and nothing else is left");
}

/// The original's lock says nothing but its client; it is respected, named, and broken by force,
/// which cuts that client off.
#[test]
fn a_lock_of_the_original_is_respected() {
    if rados_lab::skip("a_lock_of_the_original_is_respected") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let mut ours = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let volume = name("volume");
    let script = r#"
import rados, sys
cluster = rados.Rados(conffile=sys.argv[1], rados_id="archip")
cluster.connect()
io = cluster.open_ioctx("maps")
io.lock_exclusive("volume_lock", "RadosLock", "foo", flags=1)
print("client.%d" % cluster.get_instance_id(), flush=True)
sys.stdin.readline()
try:
    io.write_full("late", b"late")
    print("written", flush=True)
except Exception as why:
    print(why.errno, flush=True)
"#;
    let mut original = lab.start_python(script, &[]).unwrap();
    let client = original.read_line().unwrap();
    assert_eq!(acquire(&mut ours, &volume), Err(Errno::BUSY));
    assert_eq!(release(&mut ours, &volume, false), Err(Errno::PERM));
    let info = ask(&mut ours, Op::LockInfo { name: volume }).unwrap();
    let holder = info.holder.unwrap();
    assert_eq!(
        (String::from_utf8(holder.owner).unwrap(), holder.ours),
        (client, false)
    );
    assert_eq!(holder.addresses.len(), 1);
    let broken = release(&mut ours, &volume, true).unwrap();
    assert_eq!(broken.ended.unwrap().addresses, holder.addresses);
    assert_eq!(blocklisted(&lab), holder.addresses);
    original.write_line("go on").unwrap();
    assert_eq!(original.read_line().unwrap(), "108", "EBLOCKLISTED");
    assert!(!acquire(&mut ours, &volume).unwrap().already_ours);
}

fn watchers(lab: &Lab, object: &str) -> usize {
    let said = lab.rados(&["-p", "maps", "listwatchers", object]);
    said.map_or(0, |said| said.out.lines().count())
}

fn freed(pool: &mut Pool) -> Vec<Name> {
    let mut volumes = Vec::new();
    let patience = Instant::now() + Duration::from_secs(20);
    while volumes.is_empty() {
        assert!(Instant::now() < patience, "nothing was heard");
        pool.driver.poll(&mut Vec::new());
        pool.driver.freed_locks(&mut volumes);
        if volumes.is_empty() {
            pump(&pool.reactor);
        }
    }
    volumes
}

/// B14: a release between the look and the watch was missed, and watches were left behind.
#[test]
fn a_waiter_hears_of_a_release() {
    if rados_lab::skip("a_waiter_hears_of_a_release") {
        return;
    }
    let lab = lab(Options::default());
    let (here, there) = (run_dir(), run_dir());
    let mut ours = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let mut theirs = Pool::open(config(&lab, "maps", "there", there.path())).unwrap();
    let volume = name("volume");
    acquire(&mut theirs, &volume).unwrap();
    assert_eq!(acquire(&mut ours, &volume), Err(Errno::BUSY));
    ours.driver.await_lock(&volume);
    ours.driver.await_lock(&volume);
    while watchers(&lab, "volume_lock") == 0 {
        ours.driver.poll(&mut Vec::new());
        ours.reactor.turn().unwrap();
    }
    let begin = Instant::now();
    release(&mut theirs, &volume, false).unwrap();
    assert_eq!(freed(&mut ours), [volume]);
    eprintln!("heard after {:?}", begin.elapsed());
    acquire(&mut ours, &volume).unwrap();
    // It was given back before anybody watched.
    release(&mut ours, &volume, false).unwrap();
    theirs.driver.await_lock(&volume);
    assert_eq!(freed(&mut theirs), [volume]);
    // Ends of watches that nobody waits for.
    let patience = Instant::now() + Duration::from_secs(20);
    while watchers(&lab, "volume_lock") > 0 {
        assert!(Instant::now() < patience, "a watch is left");
        for pool in [&mut ours, &mut theirs] {
            pool.driver.poll(&mut Vec::new());
            pool.reactor.turn().unwrap();
        }
    }
    // A driver that ends while it waits leaves no watch either.
    acquire(&mut theirs, &volume).unwrap();
    ours.driver.await_lock(&volume);
    while watchers(&lab, "volume_lock") == 0 {
        ours.driver.poll(&mut Vec::new());
        ours.reactor.turn().unwrap();
    }
    drop(ours);
    assert_eq!(watchers(&lab, "volume_lock"), 0);
}
