//! The cluster itself: it keeps what it was given, and leaves nothing.

use rados_lab::{Lab, Options, borrow, skip};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn lab(options: Options) -> Lab {
    let begin = Instant::now();
    let lab = Lab::start(&std::env::temp_dir(), options).unwrap();
    eprintln!("a cluster in {:.2} s", begin.elapsed().as_secs_f64());
    lab
}

#[test]
fn what_was_written_survives_every_kill() {
    if skip("what_was_written_survives_every_kill") {
        return;
    }
    let mut lab = lab(Options::default());
    let dir = lab.dir().to_owned();
    let put = r#"
import rados, sys
with rados.Rados(conffile=sys.argv[1], rados_id="archip") as cluster:
    io = cluster.open_ioctx("blocks")
    for i in range(50):
        io.write_full("object-%d" % i, b"x" * 4096)
"#;
    lab.python(put, &[], b"").unwrap();
    lab.kill_osd(0);
    lab.kill_mon();
    lab.start_mon().unwrap();
    lab.start_osd(0).unwrap();
    lab.wait_usable().unwrap();
    let listed = lab.rados(&["-p", "blocks", "ls"]).unwrap().out;
    assert_eq!(listed.lines().count(), 50);
    drop(lab);
    assert!(!dir.exists(), "nothing is left");
}

/// Set in the copy of this program that is to be killed.
const VICTIM: &str = "ARCHIPELAGO_TEST_LAB_VICTIM";

#[test]
fn a_killed_process_leaves_nothing() {
    if skip("a_killed_process_leaves_nothing") {
        return;
    }
    if std::env::var_os(VICTIM).is_some() {
        let lab = lab(Options::with_osds(2));
        println!("dir {}", lab.dir().display());
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_leaves_nothing", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let dir = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("dir ").map(|(_, dir)| PathBuf::from(dir)))
        .expect("the victim has a cluster");
    let pids = ["mon.a", "osd.0", "osd.1"].map(|name| {
        let text = std::fs::read_to_string(dir.join(format!("run/{name}.pid"))).unwrap();
        text.parse::<u32>().unwrap()
    });
    victim.kill().unwrap();
    victim.wait().unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    while dir.exists() || pids.iter().any(|pid| runs(*pid)) {
        assert!(
            Instant::now() < patience,
            "{} is still there",
            dir.display()
        );
        std::thread::yield_now();
    }
}

/// A zombie, which may stay for seconds when its reaper is slow, runs no more.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Tests that run at the same time must not see each other's objects, nor those of tests that were.
#[test]
fn borrowed_pools_are_empty_and_nobody_elses() {
    let Some(one) = borrow("borrowed_pools_are_empty_and_nobody_elses") else {
        return;
    };
    let other = borrow("the same").unwrap();
    assert_ne!((&one.blocks, &one.maps), (&other.blocks, &other.maps));
    let mut stranger = one.stranger();
    stranger.put(&one.blocks, "object", b"content\0\0").unwrap();
    stranger.lock(&one.maps, "volume", "").unwrap();
    let facts = one.facts().unwrap();
    assert_eq!(facts.len(), 2, "{facts:?}");
    assert_eq!(facts["blocks/object"].len, 9);
    let holder = facts["maps/volume_lock"].locker.clone();
    assert_eq!(holder, Some(stranger.name().unwrap()));
    let info = ["-p", &one.maps, "lock", "info", "volume_lock", "RadosLock"];
    let seen = one.lab().rados(&info).unwrap().out;
    assert!(seen.contains(&holder.unwrap()), "{seen}");
    assert!(other.facts().unwrap().is_empty());
    let tree = tempfile::tempdir().unwrap();
    one.take(tree.path()).unwrap();
    other.fill(tree.path()).unwrap();
    let copied = other.outsider().get(&other.blocks, "object").unwrap();
    assert_eq!(copied.as_deref(), Some(&b"content\0\0"[..]));
    let lab = one.lab();
    drop((one, other));
    // One of the two is lent again; each is empty.
    let again = borrow("the same").unwrap();
    assert!(again.facts().unwrap().is_empty());
    assert!(
        std::ptr::eq(again.lab(), lab),
        "one cluster for the process"
    );
}
