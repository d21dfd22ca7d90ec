//! Breaking a lock: nothing of its holder, nor of any other client of its node, lands afterwards.

use crate::rig::{Pool, blocklisted, config, go_on, lab, name, pump, run_dir, stop, tag_of, write};
use crate::victim::{BYTES, OBJECTS, Victim};
use driver::{Buf, Detail, Driver, Errno, Op, OpId, Tag};
use rados_lab::{Lab, Options};
use std::time::{Duration, Instant};

/// Rounds of the fencing story; `ARCHIPELAGO_FENCES` asks for more.
fn rounds() -> usize {
    let asked = std::env::var("ARCHIPELAGO_FENCES").ok();
    asked.map_or(5, |text| text.parse().expect("a number"))
}

/// A stopped node has writes in flight; its lock is broken; the other node writes; it goes on.
#[test]
fn no_late_write_lands() {
    if rados_lab::skip("no_late_write_lands") {
        return;
    }
    let lab = lab(Options::with_osds(2));
    let here = run_dir();
    let mut maps = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let ours_config = config(&lab, "blocks", "here", here.path());
    let mut slowest = Duration::ZERO;
    for round in 0..rounds() {
        let there = run_dir();
        let theirs_maps = config(&lab, "maps", "there", there.path());
        let theirs_blocks = config(&lab, "blocks", "there", there.path());
        let mut writer = Victim::write(&theirs_blocks);
        let holder = Victim::hold(&theirs_maps, "volume");
        stop(writer.pid());
        stop(holder.pid());

        let begin = Instant::now();
        let volume = name("volume");
        let force = Op::Release {
            name: volume,
            force: true,
        };
        maps.ask(force).unwrap();
        slowest = slowest.max(begin.elapsed());
        maps.ask(Op::Acquire { name: volume }).unwrap();
        let mut blocks = Pool::open(ours_config.clone()).unwrap();
        let ours = vec![round as u8; 4 * 4096];
        let writes = (0..OBJECTS).map(|i| write(&format!("object-{i}"), 0, &ours));
        let done = blocks.ask_all(writes.collect());
        assert!(done.iter().all(|done| done.result.is_ok()), "{done:?}");

        go_on(writer.pid());
        go_on(holder.pid());
        while !writer.has_ended() {
            let seen = content(&lab, "blocks", "object-0");
            assert!(seen == ours, "a late write landed in round {round}");
        }
        let why = writer.expect(" lost");
        assert!(why.contains("blocklisted this client"), "{why}");
        holder.kill();
        for object in 0..OBJECTS {
            let content = content(&lab, "blocks", &format!("object-{object}"));
            assert!(content == ours, "a late write landed in round {round}");
        }
        assert_eq!(
            maps.ask(Op::Release {
                name: volume,
                force: false
            })
            .map(drop),
            Ok(())
        );
    }
    eprintln!("{} rounds; the slowest break took {slowest:?}", rounds());
    assert_ne!(BYTES[0], rounds() as u8, "nobody writes the same");
}

fn content(lab: &Lab, pool: &str, object: &str) -> Vec<u8> {
    let file = lab.dir().join("content");
    lab.rados(&["-p", pool, "get", object, file.to_str().unwrap()])
        .unwrap();
    std::fs::read(file).unwrap()
}

/// A client of the holder's node that comes later is named in the lock before it writes.
#[test]
fn a_client_writes_only_when_every_lock_names_it() {
    if rados_lab::skip("a_client_writes_only_when_every_lock_names_it") {
        return;
    }
    let lab = lab(Options::default());
    let there = run_dir();
    let holder = Victim::hold(&config(&lab, "maps", "there", there.path()), "volume");
    for _ in 0..3 {
        // It has written when it is there, and dies with writes in flight.
        Victim::write(&config(&lab, "blocks", "there", there.path())).kill();
        let record = std::fs::read_to_string(there.path().join("blocker-blocks.rados")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let address = record["addresses"][0].as_str().unwrap();
        let info = lab.rados(&["-p", "maps", "lock", "info", "volume_lock", "RadosLock"]);
        let info = info.unwrap().out;
        assert!(info.contains(address), "{address} is not named: {info}");
    }
    // Each cut off its predecessor; the last one lives on in the cluster's eyes.
    assert_eq!(blocklisted(&lab).len(), 2);
    holder.dismiss();
}

/// A dead blocker's successor cuts it off and has its locks, without an administrator.
#[test]
fn a_successor_takes_over_what_its_predecessor_held() {
    if rados_lab::skip("a_successor_takes_over_what_its_predecessor_held") {
        return;
    }
    let lab = lab(Options::default());
    let there = run_dir();
    let config = config(&lab, "maps", "there", there.path());
    Victim::hold(&config, "volume").kill();
    let mut successor = Pool::open(config.clone()).unwrap();
    assert_eq!(blocklisted(&lab).len(), 1);
    let volume = name("volume");
    let reply = successor.ask(Op::Acquire { name: volume }).unwrap();
    let Detail::Lock(lock) = reply.detail else {
        panic!("{reply:?}")
    };
    assert!(lock.already_ours && lock.ended.is_none(), "{lock:?}");
    assert!(successor.driver.lock_is_held(&volume));
    drop(successor);
    // What ended in good order is not cut off: its successor has the lock all the same.
    let mut third = Pool::open(config).unwrap();
    let reply = third.ask(Op::Acquire { name: volume }).unwrap();
    assert!(matches!(reply.detail, Detail::Lock(lock) if lock.already_ours));
    assert_eq!(blocklisted(&lab).len(), 1);
}

/// The story of a bug: a lock was broken, both clients of its node were cut off, and their
/// successors, which nobody had cut off, went on: blockerb got a new mapping from a mapperd that had
/// not looked at its lock for some seconds, and wrote into the volume of its new owner.
#[test]
fn a_successor_changes_nothing_of_a_volume_whose_lock_is_lost() {
    if rados_lab::skip("a_successor_changes_nothing_of_a_volume_whose_lock_is_lost") {
        return;
    }
    let lab = lab(Options::default());
    let (here, there) = (run_dir(), run_dir());
    let theirs_maps = config(&lab, "maps", "there", there.path());
    let theirs_blocks = config(&lab, "blocks", "there", there.path());
    let holder = Victim::hold(&theirs_maps, "volume");
    let mut blocks = Pool::open(theirs_blocks.clone()).unwrap();
    let tag = Tag(tag_of(b"volume"));
    let of_volume = |bytes: &[u8], tag| Op::Write {
        name: name("object"),
        offset: 0,
        buf: Buf::from_bytes(bytes),
        tag,
        fresh: false,
        durable: false,
    };
    blocks.ask(of_volume(b"theirs", tag)).unwrap();

    let mut ours = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let volume = name("volume");
    let force = true;
    ours.ask(Op::Release {
        name: volume,
        force,
    })
    .unwrap();
    ours.ask(Op::Acquire { name: volume }).unwrap();
    blocks.driver.submit(OpId(0), of_volume(b"late 1", tag));
    while blocks.driver.lost().is_none() {
        blocks.driver.poll(&mut Vec::new());
        pump(&blocks.reactor);
    }
    drop(blocks);
    holder.kill();
    // blockerb comes back first; it waits for blockerm to say what is lost.
    let mut blocks = Pool::open(theirs_blocks).unwrap();
    blocks.driver.submit(OpId(0), of_volume(b"late 2", tag));
    let mut maps = Pool::open(theirs_maps).unwrap();
    let mut done = Vec::new();
    while done.is_empty() {
        for pool in [&mut blocks, &mut maps] {
            pool.driver.poll(&mut done);
            pool.reactor.turn().unwrap();
        }
    }
    assert_eq!(done.remove(0).result.unwrap_err(), Errno::STALE);
    assert_eq!(content(&lab, "blocks", "object"), b"theirs");
    // Another volume is not concerned; and this one not any more when it is taken again.
    blocks
        .ask(of_volume(b"other!", Tag(tag_of(b"other"))))
        .unwrap();
    ours.ask(Op::Release {
        name: volume,
        force: false,
    })
    .unwrap();
    let acquire = || Op::Acquire { name: volume };
    assert_eq!(maps.ask(acquire()).unwrap_err(), Errno::STALE);
    let given_up = maps.ask(Op::Release {
        name: volume,
        force: false,
    });
    assert_eq!(given_up.unwrap_err(), Errno::NOENT);
    maps.ask(acquire()).unwrap();
    blocks.ask(of_volume(b"again!", tag)).unwrap();
    assert_eq!(content(&lab, "blocks", "object"), b"again!");
}

/// The story of a bug: the guests of a node whose lock was broken had it again, a tenth of a second
/// later, before whoever had broken it could take it; or when the new owner gave it back, and wrote
/// on over what that had written.
#[test]
fn a_broken_lock_is_not_taken_again_in_silence() {
    if rados_lab::skip("a_broken_lock_is_not_taken_again_in_silence") {
        return;
    }
    let lab = lab(Options::default());
    let (here, there) = (run_dir(), run_dir());
    let theirs = config(&lab, "maps", "there", there.path());
    let volume = name("volume");
    let holder = Victim::hold(&theirs, "volume");
    let mut ours = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let force = true;
    ours.ask(Op::Release {
        name: volume,
        force,
    })
    .unwrap();
    holder.kill();
    let mut successor = Pool::open(theirs).unwrap();
    let acquire = || Op::Acquire { name: volume };
    assert_eq!(successor.ask(acquire()).unwrap_err(), Errno::STALE);
    ours.ask(acquire()).unwrap();
    let force = false;
    let release = || Op::Release {
        name: volume,
        force,
    };
    ours.ask(release()).unwrap();
    assert_eq!(successor.ask(acquire()).unwrap_err(), Errno::STALE);
    // Until whoever believed to hold it has given it up.
    assert_eq!(successor.ask(release()).unwrap_err(), Errno::NOENT);
    successor.ask(acquire()).unwrap();
    // Other locks are free for all.
    let other = name("other-volume");
    successor.ask(Op::Acquire { name: other }).unwrap();
}

/// Another owner's lock is not taken over, whether its process lives or not; it has to be broken.
#[test]
fn the_lock_of_another_nodes_dead_process_is_kept_for_its_successor() {
    if rados_lab::skip("the_lock_of_another_nodes_dead_process_is_kept_for_its_successor") {
        return;
    }
    let lab = lab(Options::default());
    let (here, there) = (run_dir(), run_dir());
    let theirs = config(&lab, "maps", "there", there.path());
    Victim::hold(&theirs, "volume").kill();
    let mut ours = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let volume = name("volume");
    assert_eq!(
        ours.ask(Op::Acquire { name: volume }).unwrap_err(),
        Errno::BUSY
    );
    let reply = ours.ask(Op::LockInfo { name: volume }).unwrap();
    let Detail::Lock(lock) = reply.detail else {
        panic!("{reply:?}")
    };
    let holder = lock.holder.unwrap();
    assert_eq!(
        (&holder.owner[..], holder.alive),
        (&b"there"[..], Some(false))
    );
    assert!(holder.host.is_some() && holder.since_s.is_some() && holder.addresses.len() == 1);
}

/// Without the capability nothing is broken, and whoever may not cut off its dead predecessor does
/// not serve in its place.
#[test]
fn who_may_not_blocklist_is_told_how_to() {
    if rados_lab::skip("who_may_not_blocklist_is_told_how_to") {
        return;
    }
    let options = Options {
        may_blocklist: false,
        ..Options::default()
    };
    let lab = lab(options);
    let (here, there) = (run_dir(), run_dir());
    let theirs = config(&lab, "maps", "there", there.path());
    let holder = Victim::hold(&theirs, "volume");
    let mut ours = Pool::open(config(&lab, "maps", "here", here.path())).unwrap();
    let volume = name("volume");
    let force = || Op::Release {
        name: volume,
        force: true,
    };
    assert_eq!(ours.ask(force()).unwrap_err(), Errno::ACCES);
    assert_eq!(
        ours.ask(Op::Acquire { name: volume }).unwrap_err(),
        Errno::BUSY
    );
    holder.kill();
    let refused = Pool::open(theirs.clone()).err().unwrap().to_string();
    assert!(
        refused.contains("ceph auth caps client.archip mon 'allow r, allow command"),
        "{refused}"
    );
    lab.set_capabilities("archip", true, "allow rwx pool=maps")
        .unwrap();
    Pool::open(theirs).unwrap();
    ours.ask(Op::Acquire { name: volume }).unwrap_err();
}
