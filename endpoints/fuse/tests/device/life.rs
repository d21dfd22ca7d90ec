//! From map to unmap.

use crate::mapped::{self, Mapped, pidfd, run, wait_end};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn bytes_come_back() {
    let Some(lab) = mapped::lab("bytes_come_back") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 64 << 20, &[]);
    let pattern: Vec<u8> = (0..3 << 20).map(|i: u32| ((i * 7) >> 3) as u8).collect();
    mapped.write(1 << 20, &pattern);
    mapped.write(40 << 20, &pattern[..4096]);
    mapped.drop_cache();
    assert!(mapped.read(1 << 20, pattern.len()) == pattern);
    assert!(mapped.read(40 << 20, 4096) == pattern[..4096]);
    assert!(mapped.read(20 << 20, 1 << 20).iter().all(|&b| b == 0));
    mapped.unmap();
    let again = Mapped::existing(&lab, "volume", &["--readonly"]);
    assert!(again.read(1 << 20, pattern.len()) == pattern);
    again.unmap();
}

#[test]
fn the_registry_says_what_is_there() {
    let Some(lab) = mapped::lab("the_registry_says_what_is_there") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    let info = lab.info(&mapped.id);
    assert_eq!(info["id"].as_u64().unwrap().to_string(), mapped.id);
    assert_eq!(info["volume"], json!("volume"));
    assert_eq!(info["device"], json!(mapped.device));
    assert_eq!(info["kind"], json!("fuse"));
    assert_eq!(info["readonly"], json!(false));
    assert_eq!(info["state"], json!("running"));
    let status = mapped.ask("status");
    assert_eq!(status["ok"], json!(true));
    assert_eq!(status["pid"], info["pid"]);
    assert!(mapped.ask("dance")["error"].is_string());
    assert_eq!(mapped.size(), 8 << 20);
    mapped.unmap();
}

#[test]
fn what_can_not_be_mapped_is_said_in_a_sentence() {
    let Some(mut lab) = mapped::lab("what_can_not_be_mapped_is_said_in_a_sentence") else {
        return;
    };
    let refused = |lab: &crate::lab::Lab| {
        let output = lab.map(mapped::PROGRAM, "nowhere", &[]);
        assert_eq!(output.status.code(), Some(255));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        refused(&lab),
        "volume \"nowhere\": there is no such volume\n"
    );
    lab.kill();
    assert!(refused(&lab).starts_with("Archipelago is not running"));
    assert!(!lab.place("0").exists());
}

#[test]
fn a_device_in_use_is_not_taken_away() {
    let Some(lab) = mapped::lab("a_device_in_use_is_not_taken_away") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    let mut user = Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(File::options().append(true).open(&mapped.device).unwrap())
        .spawn()
        .unwrap();
    assert_eq!(
        mapped.ask("unmap"),
        json!({"error": "busy", "pids": [user.id()]})
    );
    mapped.write(0, b"it goes on");
    drop(user.stdin.take());
    user.wait().unwrap();
    mapped.unmap();
}

#[test]
fn a_read_only_device_refuses_writes() {
    let Some(lab) = mapped::lab("a_read_only_device_refuses_writes") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &["--readonly"]);
    let refused = File::options()
        .write(true)
        .open(&mapped.device)
        .and_then(|device| {
            device.write_all_at(b"no", 0)?;
            device.sync_all()
        });
    let kind = refused.unwrap_err().kind();
    assert!(matches!(
        kind,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    ));
    assert!(mapped.read(0, 4096).iter().all(|&b| b == 0));
    mapped.unmap();
}

#[test]
fn a_device_grows_with_its_volume() {
    let Some(lab) = mapped::lab("a_device_grows_with_its_volume") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    mapped.write(0, b"before");
    lab.client()
        .resize(client::Name::new(b"volume").unwrap(), 24 << 20, false)
        .unwrap();
    assert_eq!(mapped.ask("resize"), json!({"ok": true}));
    assert_eq!(mapped.size(), 24 << 20);
    mapped.write(20 << 20, b"after");
    mapped.drop_cache();
    assert_eq!(mapped.read(20 << 20, 5), b"after");
    assert_eq!(mapped.read(0, 6), b"before");
    mapped.unmap();
}

#[test]
fn term_takes_an_unused_device_down() {
    let Some(lab) = mapped::lab("term_takes_an_unused_device_down") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    mapped.write(0, b"kept");
    let process = pidfd(mapped.pid());
    mapped.signal(Signal::SIGTERM);
    wait_end(&process);
    assert!(!lab.place(&mapped.id).exists());
    let again = Mapped::existing(&lab, "volume", &[]);
    assert_eq!(again.read(0, 4), b"kept");
    again.unmap();
}

#[test]
fn term_waits_for_the_last_user() {
    let Some(lab) = mapped::lab("term_waits_for_the_last_user") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    let process = pidfd(mapped.pid());
    let user = File::options()
        .read(true)
        .write(true)
        .open(&mapped.device)
        .unwrap();
    mapped.signal(Signal::SIGTERM);
    user.write_all_at(b"last words", 0).unwrap();
    user.sync_all().unwrap();
    drop(user);
    wait_end(&process);
    let again = Mapped::existing(&lab, "volume", &[]);
    assert_eq!(again.read(0, 10), b"last words");
    again.unmap();
}

/// Kills a process, and returns when it is dead.
fn kill(pid: i32) {
    let process = pidfd(pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_end(&process);
}

/// Waits for a sign of another process.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "{what} did not come about");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_process_is_replaced() {
    let Some(lab) = mapped::lab("a_killed_process_is_replaced") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    mapped.write(0, b"before");
    let first = mapped.pid();
    kill(first);
    mapped.write(4096, b"behind");
    mapped.drop_cache();
    assert_eq!(mapped.read(0, 6), b"before");
    assert_eq!(mapped.read(4096, 6), b"behind");
    assert_ne!(mapped.pid(), first);
    assert_eq!(mapped.ask("status")["state"], json!("running"));
    // What the successor took over can be resized and taken down.
    let volume = client::Name::new(b"volume").unwrap();
    lab.client().resize(volume, 24 << 20, false).unwrap();
    assert_eq!(mapped.ask("resize"), json!({"ok": true}));
    assert_eq!(mapped.size(), 24 << 20);
    kill(mapped.pid());
    mapped.write(20 << 20, b"after");
    mapped.unmap();
}

#[test]
fn a_killed_keeper_is_replaced() {
    let Some(lab) = mapped::lab("a_killed_keeper_is_replaced") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    for round in 0..3_u8 {
        let keeper = mapped.keeper();
        kill(keeper);
        until("another keeper", || {
            let status = mapped.ask("status");
            let now = status["keeper"].as_i64().unwrap() as i32;
            now != 0 && now != keeper
        });
        mapped.ask("resize");
        kill(mapped.pid());
        mapped.write(u64::from(round) << 12, &[round; 4096]);
    }
    let keeper = pidfd(mapped.keeper());
    mapped.unmap();
    wait_end(&keeper);
}

/// A frozen device stays frozen, whoever serves it.
#[test]
fn a_process_killed_while_frozen_is_replaced_by_a_frozen_one() {
    let test = "a_process_killed_while_frozen_is_replaced_by_a_frozen_one";
    let Some(lab) = mapped::lab(test) else { return };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    mapped.write(0, b"before");
    assert_eq!(mapped.ask("freeze"), json!({"ok": true}));
    let first = mapped.pid();
    kill(first);
    until("a successor", || mapped.pid() != first);
    assert_eq!(lab.info(&mapped.id)["state"], json!("frozen"));
    // Its lock was given back, and is not taken before the thaw.
    let taken = || std::fs::read_dir(lab.dir().join("locks")).unwrap().count();
    assert_eq!(taken(), 0);
    let until_it_listens = || UnixStream::connect(lab.place(&mapped.id).join("control")).is_ok();
    until("its socket", until_it_listens);
    assert_eq!(mapped.ask("thaw"), json!({"ok": true}));
    mapped.drop_cache();
    assert_eq!(mapped.read(0, 6), b"before");
    assert_eq!(taken(), 1);
    mapped.unmap();
}

/// The process had the file of its own filesystem open. While the end of that file was announced
/// to the filesystem, a killed process waited for itself, and could not be killed any more.
#[test]
fn killed_with_its_keeper_it_is_gone() {
    let Some(lab) = mapped::lab("killed_with_its_keeper_it_is_gone") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    let processes = [pidfd(mapped.pid()), pidfd(mapped.keeper())];
    let pid = nix::unistd::Pid::from_raw(mapped.pid());
    let group = nix::unistd::getpgid(Some(pid)).unwrap();
    nix::sys::signal::killpg(group, Signal::SIGKILL).unwrap();
    processes.iter().for_each(wait_end);
    let device = File::open(&mapped.device).unwrap();
    assert!(device.read_at(&mut [0; 4096], 0).is_err());
    drop(device);
    run("losetup", &["-d", &mapped.device]);
    // The place of the dead is free for others.
    let again = Mapped::existing(&lab, "volume", &[]);
    again.unmap();
}

/// Whoever asked for a frozen device's attributes used to wait until it was thawed.
#[test]
fn a_frozen_device_can_be_listed() {
    let Some(lab) = mapped::lab("a_frozen_device_can_be_listed") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    mapped.write(0, b"attributes change");
    assert_eq!(mapped.ask("freeze"), json!({"ok": true}));
    let output = Command::new("timeout")
        .args(["10", "losetup", "-a"])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains(&mapped.device));
    assert_eq!(mapped.ask("thaw"), json!({"ok": true}));
    mapped.unmap();
}
