//! `SANDBOX = True`: real peers are confined, and do everything as before.

use crate::lab::Lab;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const ROLES: [&str; 4] = ["blockerb", "blockerm", "mapperd", "vlmcd"];

fn sandboxed(shared: bool) -> Lab {
    let lab = Lab::new(shared);
    let text = fs::read_to_string(&lab.config.file).unwrap();
    let text = text.replace("[XSEG]", "SANDBOX = True\n\n[XSEG]");
    fs::write(&lab.config.file, text).unwrap();
    assert_eq!(lab.archipelago("start").status, 0);
    lab
}

/// `NoNewPrivs` and `Seccomp` of each thread of a process, but for the kernel's own.
fn layers(pid: i32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let texts = tasks.filter_map(|task| {
        let path = task.unwrap().path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let status = fs::read_to_string(path.join("status")).ok()?;
        (!name.starts_with("iou-")).then_some(status)
    });
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    texts
        .map(|text| (field(&text, "NoNewPrivs:"), field(&text, "Seccomp:")))
        .collect()
}

fn logs(lab: &Lab) -> String {
    let files = fs::read_dir(lab.path("log")).unwrap();
    files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

/// Nothing was refused that a peer asked for, and nothing was missing.
#[track_caller]
fn assert_unhindered(lab: &Lab) {
    let logs = logs(lab);
    let told: Vec<&str> = logs.lines().filter(|l| l.contains("SANDBOX")).collect();
    assert!(told.is_empty(), "{told:?}");
}

fn await_file(path: &Path) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !path.exists() {
        assert!(Instant::now() < patience, "{} is missing", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Create, import, snapshot, clone, hash, export, rename, resize, check, remove.
fn main_job(lab: &Lab) {
    let content: Vec<u8> = (0..2_500_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(lab.path("content"), &content).unwrap();
    lab.vlmc("create volume -s 64").says("");
    assert_eq!(lab.vlmc("import --existing content volume").status, 0);
    lab.vlmc("snapshot volume volume-snap")
        .says("Snapshot name: volume-snap\n");
    lab.vlmc("create volume-clone --snap volume-snap").says("");
    let hashed = lab.vlmc("hash volume-snap");
    assert!(hashed.out.starts_with("Hash name: "), "{hashed:?}");
    lab.vlmc("export volume-clone exported").says("");
    let exported = fs::read(lab.path("exported")).unwrap();
    assert!(exported.starts_with(&content));
    lab.vlmc("rename volume-clone another")
        .says("Renamed volume-clone to another\n");
    lab.vlmc("resize another -s 128").says("");
    lab.vlmc("lock free-name").says("Volume locked\n");
    lab.vlmc("unlock free-name").says("Volume unlocked\n");
    assert_eq!(lab.vlmc("check another").status, 0);
    lab.vlmc("remove another").says("");
}

fn info_is_right(lab: &Lab) {
    lab.vlmc("info volume")
        .says("Volume volume: size: 67108864\n");
}

#[test]
fn confined_peers_do_everything_and_survive_everything() {
    for shared in [true, false] {
        let lab = sandboxed(shared);
        for role in ROLES {
            let layers = layers(lab.pid(role));
            let confined = ("1".to_owned(), "2".to_owned());
            assert!(layers.iter().all(|layer| *layer == confined), "{layers:?}");
            assert!(layers.len() > 1, "the log's thread is one of them");
        }
        main_job(&lab);

        // A rotated log is opened anew.
        let log = lab
            .config
            .role("blockerb")
            .unwrap()
            .logfile
            .clone()
            .unwrap();
        fs::rename(&log, log.with_extension("1")).unwrap();
        let pid = nix::unistd::Pid::from_raw(lab.pid("blockerb"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
        await_file(&log);

        assert_eq!(lab.archipelago("stop -f").status, 0);
        assert_eq!(lab.archipelago("start").status, 0);
        info_is_right(&lab);
        for role in ROLES {
            lab.kill_and_await_successor(role);
            info_is_right(&lab);
        }
        let before = ROLES.map(|role| lab.pid(role));
        lab.kill_supervisor();
        assert_eq!(lab.archipelago("start").status, 0);
        assert_eq!(ROLES.map(|role| lab.pid(role)), before, "they were adopted");
        info_is_right(&lab);
        assert_eq!(lab.archipelago("stop").status, 0);
        let left = ROLES.map(|role| lab.run_dir().join(format!("{role}.pid")).exists());
        assert_eq!(left, [false; 4]);
        assert_unhindered(&lab);
    }
}

#[test]
fn without_the_key_nothing_is_confined() {
    let lab = Lab::started(true);
    let layers = layers(lab.pid("vlmcd"));
    let free = ("0".to_owned(), "0".to_owned());
    assert!(layers.iter().all(|layer| *layer == free), "{layers:?}");
}
