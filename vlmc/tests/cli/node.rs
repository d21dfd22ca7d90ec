//! archipelago: what it prints, and how it exits.

use crate::lab::{Lab, Storage};
use std::fs;

fn lines(verb: &str, roles: [&str; 4]) -> String {
    let line = |role| format!("{:<23}{:<23}\n", format!("{verb} {role} "), "OK");
    roles.map(line).concat()
}

fn banner(words: &str) -> String {
    let line = "=".repeat(20);
    format!("{line}\n{words}\n{line}\n\n")
}

const ORDER: [&str; 4] = ["blockerb", "blockerm", "mapperd", "vlmcd"];
const REVERSE: [&str; 4] = ["vlmcd", "mapperd", "blockerm", "blockerb"];

fn statuses(state: impl Fn(&str) -> &'static str) -> String {
    REVERSE
        .map(|role| format!("{role:<23}{:<23}\n", state(role)))
        .concat()
}

const NONE_MAPPED: &str = "No volumes mapped\n\n";

fn a_node_starts_and_stops_in_the_originals_words(storage: &Storage) {
    for shared in [true, false] {
        let lab = storage.lab(shared);
        let down = statuses(|_| "not running");
        lab.archipelago("status").is(3, &down, NONE_MAPPED);
        let started = banner("Starting archipelago") + &lines("Starting", ORDER);
        lab.archipelago("start").says(&started);
        lab.archipelago("status")
            .is(0, &statuses(|_| "running"), NONE_MAPPED);
        lab.archipelago("start")
            .fails("Cannot start. Try stopping first");
        let stopped = banner("Stoping archipelago") + &lines("Stopping", REVERSE);
        lab.archipelago("restart")
            .says(&(stopped.clone() + &started));
        lab.archipelago("stop").says(&stopped);
        lab.archipelago("status").is(3, &down, NONE_MAPPED);
        let idle = REVERSE
            .map(|role| format!("{role:<23}{:<23}\n", "Not running"))
            .concat();
        lab.archipelago("stop")
            .says(&(banner("Stoping archipelago") + &idle));
    }
}

on_each! {
    files, rados =>
        a_node_starts_and_stops_in_the_originals_words,
        roles_of_a_shared_process_go_together,
        a_listing_without_a_node_leaves_nothing,
}

#[test]
fn roles_stop_and_start_alone() {
    let lab = Lab::started(false);
    lab.archipelago("stop mapperd")
        .says(&format!("{:<23}{:<23}\n", "Stopping mapperd ", "OK"));
    let state = |role: &str| {
        if role == "mapperd" {
            "not running"
        } else {
            "running"
        }
    };
    lab.archipelago("status")
        .is(1, &statuses(state), NONE_MAPPED);
    lab.archipelago("stop mapperd")
        .says(&format!("{:<23}{:<23}\n", "mapperd", "Not running"));
    lab.archipelago("start mapperd")
        .says(&format!("{:<23}{:<23}\n", "Starting mapperd ", "OK"));
    lab.archipelago("start mapperd")
        .fails("Cannot start peer mapperd. Peer already running");
    for verb in ["start", "stop", "restart"] {
        lab.archipelago(&format!("{verb} nobody"))
            .fails("there is no role nobody in this configuration");
    }
}

fn roles_of_a_shared_process_go_together(storage: &Storage) {
    let lab = storage.started(true);
    let pid = lab.pid("vlmcd");
    assert!(ORDER.iter().all(|role| lab.pid(role) == pid));
    lab.archipelago("stop mapperd")
        .says(&lines("Stopping", REVERSE));
    lab.archipelago("start vlmcd")
        .says(&lines("Starting", ORDER));
}

#[test]
fn a_stale_pid_file_is_removed_with_a_line() {
    let lab = Lab::new(false);
    let file = lab.config.role("mapperd").unwrap().pidfile.clone().unwrap();
    fs::write(&file, "999999999").unwrap();
    let said = lab.archipelago("status");
    assert!(
        said.out
            .contains("Has valid pidfile but does not seem to be active"),
        "{said:?}"
    );
    let said = lab.archipelago("start");
    let line = format!("Removed the stale pid file {}\n", file.display());
    assert!(said.status == 0 && said.out.contains(&line), "{said:?}");
}

#[test]
fn a_failed_start_says_why_stops_everything_and_is_told_apart() {
    let lab = Lab::new(false);
    // Nobody can make a segment's socket where a directory lies.
    let broken = lab.config.role("vlmcd").unwrap().pidfile.clone().unwrap();
    fs::create_dir(&broken).unwrap();
    let said = lab.archipelago("start");
    assert_eq!(said.status, 255, "{said:?}");
    assert!(said.out.contains("FAILED"), "{said:?}");
    assert!(said.err.contains("vlmcd: "), "{said:?}");
    fs::remove_dir(&broken).unwrap();
    assert_eq!(lab.archipelago("status").status, 3);
    assert_eq!(lab.archipelago("start").status, 0);
}

#[test]
fn a_bad_configuration_is_said_in_a_sentence() {
    let lab = Lab::new(true);
    fs::write(&lab.config.file, "[ARCHIPELAGO]\n").unwrap();
    for words in ["start", "stop"] {
        lab.archipelago(words)
            .fails(lab.config.file.to_str().unwrap());
    }
    assert_eq!(lab.archipelago("status").status, 4);
    assert_eq!(lab.archipelago("frobnicate").status, 2);
    assert_eq!(lab.vlmc("--help").status, 0);
    // So that the laboratory can be cleaned up.
    fs::remove_file(&lab.config.file).unwrap();
}

/// (Of pools: `rados`.) What a node had served was remembered in RUN_DIR, which a reboot empties on a real host: a disk
/// that was not mounted then became a new, empty directory, and volumes became zeros.
#[test]
fn an_unmounted_disk_is_refused_after_a_reboot() {
    let lab = Lab::new(true);
    let text = fs::read_to_string(&lab.config.file).unwrap();
    let text = text.replace("RUN_DIR = run\n", "RUN_DIR = run\nSTATE_DIR = state\n");
    fs::write(&lab.config.file, text).unwrap();
    assert_eq!(lab.archipelago("start").status, 0);
    lab.vlmc("create volume -s 8").says("");
    assert_eq!(lab.archipelago("stop").status, 0);

    fs::remove_dir_all(lab.run_dir()).unwrap();
    let (disk, mount_point) = (lab.path("disk"), lab.path("blocks"));
    fs::rename(&mount_point, &disk).unwrap();
    fs::create_dir(&mount_point).unwrap();
    let refused = lab.archipelago("start");
    assert_eq!(refused.status, 255);
    let known = fs::read_dir(lab.path("state/served")).unwrap();
    let mut known = known.map(|entry| entry.unwrap().path());
    let about = format!(" {}\n", mount_point.display());
    let file = known
        .find(|file| fs::read_to_string(file).unwrap().ends_with(&about))
        .expect("the directory is remembered");
    let sentence = format!(
        "blockerb: {} holds no .archipelago any more, though this node has served it (is its disk \
         mounted?); if it is another one on purpose, remove {}\n",
        mount_point.display(),
        file.display()
    );
    assert!(refused.err.contains(&sentence), "{refused:?}");
    assert_eq!(fs::read_dir(&mount_point).unwrap().count(), 0);
    // Nor is it listed as empty, or marked, by a tool that reads it without a node.
    let listed = lab.vlmc("list");
    assert!(listed.err.contains(&sentence), "{listed:?}");
    assert_eq!(fs::read_dir(&mount_point).unwrap().count(), 0);

    fs::remove_dir(&mount_point).unwrap();
    fs::rename(&disk, &mount_point).unwrap();
    assert_eq!(lab.archipelago("start").status, 0);
    lab.vlmc("info volume")
        .says("Volume volume: size: 8388608\n");
    assert_eq!(lab.archipelago("stop").status, 0);

    // Another disk on purpose.
    fs::remove_file(&file).unwrap();
    fs::remove_dir_all(&mount_point).unwrap();
    fs::create_dir(&mount_point).unwrap();
    assert_eq!(lab.archipelago("start").status, 0);
}

/// Root lists the volumes of a node that runs as somebody else: a file that it left would be
/// root's, and keep the node from starting.
fn a_listing_without_a_node_leaves_nothing(storage: &Storage) {
    let lab = storage.lab(true);
    let files = || -> Vec<_> {
        ["run", "blocks", "maps", "locks", "log"]
            .iter()
            .flat_map(|part| fs::read_dir(lab.path(part)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    lab.vlmc("list").says("");
    assert_eq!(files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn status_is_told_to_programs_too() {
    let lab = Lab::started(true);
    let said = lab.archipelago("status --format json");
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["roles"][0]["name"], "blockerb");
    assert_eq!(value["roles"][3]["state"], "running");
    assert_eq!(value["roles"][3]["process"], "node");
    assert_eq!(value["roles"][3]["pid"], lab.pid("vlmcd"));
    assert!(value["supervisor"].is_u64() && value["mapped"].as_array().unwrap().is_empty());
}

#[test]
fn a_foreground_supervisor_tells_systemd_and_stops_on_term() {
    use std::os::unix::net::UnixDatagram;
    let lab = Lab::new(true);
    let socket = UnixDatagram::bind(lab.path("notify")).unwrap();
    let mut command = lab.command("archipelago");
    command
        .arg("-c")
        .arg(&lab.config.file)
        .args(["start", "--foreground"]);
    let mut supervisor = command
        .env("NOTIFY_SOCKET", lab.path("notify"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut word = [0; 64];
    let len = socket.recv(&mut word).unwrap();
    assert_eq!(&word[..len], b"READY=1");
    assert_eq!(lab.archipelago("status").status, 0);
    let pid = nix::unistd::Pid::from_raw(supervisor.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(supervisor.wait().unwrap().success());
    assert_eq!(lab.archipelago("status").status, 3);
}
