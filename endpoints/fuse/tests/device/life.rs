//! From map to unmap.

use crate::mapped::{self, Mapped, pidfd, run, wait_end};
use serde_json::json;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::process::Command;

#[test]
fn bytes_come_back() {
    let Some(lab) = mapped::lab("bytes_come_back") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 64 << 20, &[]);
    let pattern: Vec<u8> = (0..3 << 20).map(|i: u32| (i * 7 >> 3) as u8).collect();
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
    mapped.signal(nix::sys::signal::Signal::SIGTERM);
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
    mapped.signal(nix::sys::signal::Signal::SIGTERM);
    user.write_all_at(b"last words", 0).unwrap();
    user.sync_all().unwrap();
    drop(user);
    wait_end(&process);
    let again = Mapped::existing(&lab, "volume", &[]);
    assert_eq!(again.read(0, 10), b"last words");
    again.unmap();
}

/// The process has the file of its own filesystem open. While the end of that file was announced
/// to the filesystem, a killed process waited for itself, and could not be killed any more.
#[test]
fn a_killed_process_does_not_wait_for_itself() {
    let Some(lab) = mapped::lab("a_killed_process_does_not_wait_for_itself") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 8 << 20, &[]);
    let process = pidfd(mapped.pid());
    mapped.signal(nix::sys::signal::Signal::SIGKILL);
    wait_end(&process);
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
