//! `SANDBOX = True`: real peers are confined, and do everything as before.

use crate::lab::{Lab, Storage};
use crate::old_tree::{OldTree, old_path};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const ROLES: [&str; 4] = ["blockerb", "blockerm", "mapperd", "vlmcd"];

on_each! {
    files, rados =>
        confined_peers_do_everything_and_survive_everything,
        a_confined_peer_makes_no_file_outside,
}

/// What it must still know after a reboot is elsewhere, as on a real host.
fn sandboxed(storage: &Storage, shared: bool) -> Lab {
    let mut lab = storage.lab(shared);
    lab.add_lines(&[
        ("ARCHIPELAGO", "SANDBOX = True"),
        ("ARCHIPELAGO", "STATE_DIR = state"),
    ]);
    if !storage.is_rados() {
        lab.add_lines(&[
            ("blockerb", "pithos_migrate = True"),
            ("blockerm", "pithos_migrate = True"),
        ]);
    }
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

/// Nothing was refused that a peer asked for, and nothing was missing.
#[track_caller]
fn assert_unhindered(lab: &Lab) {
    let logs = lab.logs();
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

/// What release 0.3 left moves.
fn migrate(lab: &Lab) {
    OldTree(lab).volume("of-zero-three", old_path, b"old");
    let moved = lab.vlmc("migrate --all");
    assert!(
        moved.out.contains("mapperd: 1 maps upgraded\n"),
        "{moved:?}"
    );
    assert_eq!(moved.status, 0, "{moved:?}");
}

fn info_is_right(lab: &Lab) {
    lab.vlmc("info volume")
        .says("Volume volume: size: 67108864\n");
}

/// Where librados is in a process its files are confined, but not its system calls (decision 0013).
fn layers_of(storage: &Storage, shared: bool, role: &str) -> (String, String) {
    let librados = storage.is_rados() && (shared || role.starts_with("blocker"));
    ("1".to_owned(), if librados { "0" } else { "2" }.to_owned())
}

fn confined_peers_do_everything_and_survive_everything(storage: &Storage) {
    for shared in [true, false] {
        storage.empty();
        let lab = sandboxed(storage, shared);
        for role in ROLES {
            let layers = layers(lab.pid(role));
            let confined = layers_of(storage, shared, role);
            assert!(layers.iter().all(|layer| *layer == confined), "{layers:?}");
            assert!(layers.len() > 1, "the log's thread is one of them");
        }
        main_job(&lab);
        if !storage.is_rados() {
            migrate(&lab);
        }

        // A rotated log is opened anew.
        let log = lab
            .config
            .role("blockerb")
            .unwrap()
            .logfile
            .clone()
            .unwrap();
        fs::rename(&log, log.with_extension("1")).unwrap();
        kill(Pid::from_raw(lab.pid("blockerb")), Signal::SIGUSR1).unwrap();
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

/// How often the thread of a process that obeys signals has gone to sleep; `None`: it has no name
/// yet, is awake, or waits for a disk.
fn naps_of_the_log_thread(pid: i32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // Some threads come and go.
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let mut logs = status.filter(|text| text.starts_with("Name:\tlog\n"));
    let log = logs.next()?;
    let field = |name| log.lines().find_map(|line| line.strip_prefix(name));
    let asleep = field("State:").is_some_and(|state| state.trim().starts_with('S'));
    let naps = field("voluntary_ctxt_switches:").expect("a count");
    asleep.then(|| naps.trim().parse().unwrap())
}

/// Waits until it sleeps, and has done so more often than `before`.
fn await_nap(pid: i32, before: Option<u64>) -> Option<u64> {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let naps = naps_of_the_log_thread(pid);
        if naps > before {
            return naps;
        }
        assert!(Instant::now() < patience, "it does not obey");
        std::thread::yield_now();
    }
}

/// Has a node's blocker open its log anew where a link leads out of its directories, and then where
/// it is its own. Whether the file outside came to be.
fn makes_a_file_outside(lab: &Lab) -> bool {
    let role = lab.config.role("blockerb").unwrap();
    let (log, outside) = (role.logfile.clone().unwrap(), lab.path("outside"));
    let pid = lab.pid("blockerb");
    let open_anew = || kill(Pid::from_raw(pid), Signal::SIGUSR1).unwrap();
    fs::rename(&log, log.with_extension("1")).unwrap();
    std::os::unix::fs::symlink(&outside, &log).unwrap();
    let naps = await_nap(pid, None);
    open_anew();
    await_nap(pid, naps);
    fs::remove_file(&log).unwrap();
    open_anew();
    await_file(&log);
    outside.exists()
}

/// A peer over RADOS as well, where Landlock is the only layer.
fn a_confined_peer_makes_no_file_outside(storage: &Storage) {
    let lab = sandboxed(storage, true);
    assert!(!makes_a_file_outside(&lab));
    info_of_nothing(&lab);
    drop(lab);
    assert!(
        makes_a_file_outside(&storage.started(true)),
        "unconfined it may"
    );
}

/// It serves.
fn info_of_nothing(lab: &Lab) {
    lab.vlmc("info nothing").fails("vlmc info failed");
}

#[test]
fn without_the_key_nothing_is_confined() {
    let lab = Lab::started(true);
    let layers = layers(lab.pid("vlmcd"));
    let free = ("0".to_owned(), "0".to_owned());
    assert!(layers.iter().all(|layer| *layer == free), "{layers:?}");
}
