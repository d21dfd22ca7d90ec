//! The world's clients on volumes over RADOS: libnbd's and qemu's tools, and a filesystem.

use super::{name, node_on, shared, vlmc};
use config::Endpoint;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid, getpgid};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use system_tests::real::RealNode;

const SIZE: usize = 32 << 20;

/// A mapped volume; its endpoint is killed when a test fails.
pub(super) struct Mapped<'a> {
    node: &'a RealNode,
    pub(super) device: String,
    unmapped: bool,
}

impl<'a> Mapped<'a> {
    pub(super) fn new(node: &'a RealNode, volume: &str) -> Mapped<'a> {
        let device = vlmc(node, &["map", volume]).trim_end().to_owned();
        Mapped {
            node,
            device,
            unmapped: false,
        }
    }

    pub(super) fn unmap(self) {
        assert_eq!(self.end(), "");
    }

    /// Unmaps it; what was said about that.
    pub(super) fn end(mut self) -> String {
        let said = self.node.unmap(&self.device).unwrap();
        assert!(!vlmc(self.node, &["showmapped"]).contains(&self.device));
        self.unmapped = true;
        said
    }
}

/// Kills the endpoint of a device, if there is one.
pub(super) fn kill_endpoint(run_dir: &Path, device: &str) -> Option<()> {
    for entry in std::fs::read_dir(run_dir.join("mapped")).ok()?.flatten() {
        let Ok(text) = std::fs::read(entry.path().join("info.json")) else {
            continue;
        };
        let info: serde_json::Value = serde_json::from_slice(&text).ok()?;
        if info["device"] == *device {
            // With its keeper, at once: each would replace the other.
            let pid = Pid::from_raw(info["pid"].as_i64()? as i32);
            killpg(getpgid(Some(pid)).ok()?, Signal::SIGKILL).ok()?;
        }
    }
    Some(())
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        if !self.unmapped {
            // The test fails already, and says why.
            kill_endpoint(&self.node.config.archipelago.run_dir, &self.device);
        }
    }
}

/// Whether a program that a test needs is missing; says so.
pub(super) fn lacks(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).collect();
    let missing = programs
        .iter()
        .find(|program| !dirs.iter().any(|dir| dir.join(program).exists()));
    missing.inspect(|program| skip(test, program)).is_some()
}

/// Not captured, so that it is seen.
fn skip(test: &str, needs: &str) {
    let line = format!("SKIP {test}: needs {needs}\n");
    // Where even that cannot be written nobody would read it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Runs a program, which must succeed.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new("timeout")
        .args(["120", program])
        .args(arguments)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {out}{err}"
    );
}

fn content(device: &str, at: &Path) -> Vec<u8> {
    run("nbdcopy", &[device, at.to_str().unwrap()]);
    std::fs::read(at).unwrap()
}

#[test]
fn nbd_clients_over_rados() {
    let test = "nbd_clients_over_rados";
    let Some(lab) = shared(test) else { return };
    if lacks(test, &["nbdcopy", "qemu-io", "qemu-img"]) {
        return;
    }
    let node = node_on(lab, |params| params.endpoint = Endpoint::Nbd);
    node.client()
        .create(name("nbd-volume"), SIZE as u64)
        .unwrap();
    let mapped = Mapped::new(&node, "nbd-volume");
    let (image, copy) = (node.dir().join("image"), node.dir().join("copy"));
    let mut bytes = vec![0; SIZE];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut bytes);
    std::fs::write(&image, &bytes).unwrap();
    let image = image.to_str().unwrap();
    run("nbdcopy", &["--flush", image, &mapped.device]);
    assert!(content(&mapped.device, &copy) == bytes);
    let commands = ["write -z 1M 1M", "discard 8M 4M", "write -f -P 7 3000 5000"];
    let mut arguments = vec!["-f", "raw", &mapped.device];
    commands.iter().for_each(|c| arguments.extend(["-c", c]));
    run("qemu-io", &arguments);
    bytes[1 << 20..2 << 20].fill(0);
    bytes[8 << 20..12 << 20].fill(0);
    bytes[3000..8000].fill(7);
    assert!(content(&mapped.device, &copy) == bytes);
    mapped.unmap();

    let again = Mapped::new(&node, "nbd-volume");
    let copy = copy.to_str().unwrap();
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", copy, &again.device],
    );
    again.unmap();
    assert!(node.stop().unwrap().success());
}

/// A mounted filesystem; unmounted whatever happens.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(device: &str, at: &Path) -> Mounted {
        std::fs::create_dir_all(at).unwrap();
        run("mount", &[device, at.to_str().unwrap()]);
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            // What keeps it busy may go on until it ends.
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
}

#[test]
fn a_filesystem_over_rados() {
    let test = "a_filesystem_over_rados";
    let Some(lab) = shared(test) else { return };
    let has = |path: &str| std::fs::File::open(path).is_ok();
    if !geteuid().is_root() || !has("/dev/fuse") || !has("/dev/loop-control") {
        return skip(test, "root, /dev/fuse and loop devices");
    }
    if lacks(test, &["mkfs.ext4", "e2fsck"]) {
        return;
    }
    let node = node_on(lab, |params| params.endpoint = Endpoint::Fuse);
    node.client().create(name("filesystem"), 128 << 20).unwrap();
    let mapped = Mapped::new(&node, "filesystem");
    run("mkfs.ext4", &["-q", &mapped.device]);
    let (original, at) = ("/usr/include/linux", node.dir().join("mnt"));
    let copy = at.join("copy");
    let copy = copy.to_str().unwrap();
    let mounted = Mounted::new(&mapped.device, &at);
    run("cp", &["-a", original, copy]);
    drop(mounted);
    run("e2fsck", &["-fn", &mapped.device]);
    mapped.unmap();

    // Mapped anew, nothing of it is in the kernel any more.
    let again = Mapped::new(&node, "filesystem");
    let mounted = Mounted::new(&again.device, &at);
    run("diff", &["-r", "--no-dereference", original, copy]);
    drop(mounted);
    run("e2fsck", &["-fn", &again.device]);
    again.unmap();
    assert!(node.stop().unwrap().success());
}
