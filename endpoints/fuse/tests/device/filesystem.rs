//! A filesystem on a mapped volume.

use crate::mapped::{self, Mapped, has, run};
use client::{Hint, Name};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted filesystem; unmounted whatever happens.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    pub(crate) fn new(device: &str, at: &Path) -> Mounted {
        std::fs::create_dir(at).unwrap();
        run("mount", &[device, at.to_str().unwrap()]);
        Mounted(at.to_owned())
    }

    pub(crate) fn unmount(self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Unmounted already, where all went well.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Bytes of objects that the node keeps.
fn stored(dir: &Path) -> u64 {
    let text = run("du", &["-s", "--block-size=1", dir.to_str().unwrap()]);
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_filesystem_lives_on_a_volume() {
    let test = "a_filesystem_lives_on_a_volume";
    let Some(lab) = mapped::lab(test) else { return };
    if !has(test, "mkfs.ext4", "-V") || !has(test, "fstrim", "--version") {
        return;
    }
    let mapped = Mapped::new(&lab, "volume", 256 << 20, &[]);
    run("mkfs.ext4", &["-q", &mapped.device]);
    let mounted = Mounted::new(&mapped.device, &lab.dir().join("mnt"));
    let copy = mounted.0.join("include");
    run("cp", &["-a", "/usr/include", copy.to_str().unwrap()]);
    run("sync", &["-f", mounted.0.to_str().unwrap()]);
    let why = "Device is mounted. Cannot unmap device.";
    assert_eq!(mapped.ask("unmap"), json!({"error": why}));
    mounted.unmount();
    run("e2fsck", &["-fn", &mapped.device]);
    mapped.drop_cache();

    let again = Mounted(lab.dir().join("mnt"));
    run("mount", &[&mapped.device, again.0.to_str().unwrap()]);
    run(
        "diff",
        &[
            "-r",
            "--no-dereference",
            "/usr/include",
            copy.to_str().unwrap(),
        ],
    );
    let blocks = lab.dir().join("blocks");
    let before = stored(&blocks);
    std::fs::remove_dir_all(&copy).unwrap();
    run("sync", &["-f", again.0.to_str().unwrap()]);
    run("fstrim", &[again.0.to_str().unwrap()]);
    let after = stored(&blocks);
    assert!(after < before / 2, "fstrim left {after} of {before} bytes");
    again.unmount();
    run("e2fsck", &["-fn", &mapped.device]);
    mapped.unmap();
}

/// The clone of a mounted volume's snapshot mounts and compares equal while the original changes.
#[test]
fn a_clone_keeps_what_the_original_loses() {
    let test = "a_clone_keeps_what_the_original_loses";
    let Some(lab) = mapped::lab(test) else { return };
    if !has(test, "mkfs.ext4", "-V") {
        return;
    }
    let original = Mapped::new(&lab, "original", 256 << 20, &[]);
    run("mkfs.ext4", &["-q", &original.device]);
    let mounted = Mounted::new(&original.device, &lab.dir().join("mnt"));
    let copy = mounted.0.join("include");
    run("cp", &["-a", "/usr/include", copy.to_str().unwrap()]);
    run("sync", &["-f", mounted.0.to_str().unwrap()]);
    let name = |text: &str| Name::try_from(text).unwrap();
    let client = lab.client();
    client
        .snapshot(name("original"), name("snapshot"), Hint::default())
        .unwrap();
    client
        .clone_volume(name("snapshot"), name("clone-1"), 0, Hint::default())
        .unwrap();
    std::fs::remove_dir_all(&copy).unwrap();
    let noise = format!("of={}", mounted.0.join("noise").display());
    let mut writer = Command::new("dd")
        .args(["if=/dev/urandom", &noise, "bs=1M", "count=96", "conv=fsync"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let clone = Mapped::existing(&lab, "clone-1", &[]);
    let cloned = Mounted::new(&clone.device, &lab.dir().join("cloned"));
    let kept = cloned.0.join("include");
    run(
        "diff",
        &[
            "-r",
            "--no-dereference",
            "/usr/include",
            kept.to_str().unwrap(),
        ],
    );
    assert!(writer.wait().unwrap().success());
    assert!(!copy.exists());
    cloned.unmount();
    mounted.unmount();
    run("e2fsck", &["-fn", &clone.device]);
    run("e2fsck", &["-fn", &original.device]);
    clone.unmap();
    original.unmap();
}
