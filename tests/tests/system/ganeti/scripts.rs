//! Every script and what it leaves.

use super::driver::{Ganeti, Variable};
use client::{Hint, Volume};
use config::Endpoint;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use system_tests::golden::name;
use system_tests::golden::tree::files;
use system_tests::real::RealNode;
use tempfile::TempDir;

/// A disk's id, as Ganeti makes it.
pub(super) const ID: &str = "5a0b7a43-2fd3-4f0e-9b1f-6a8e3c1d2e3f.ext.disk0";
const MIB: u64 = 1 << 20;

/// A node that presents volumes so.
pub(super) fn node(parent: &TempDir, endpoint: Endpoint) -> RealNode {
    edited(parent, endpoint, |text| text)
}

/// The same, with a last word about its configuration.
pub(super) fn edited(
    parent: &TempDir,
    endpoint: Endpoint,
    edit: impl FnOnce(String) -> String,
) -> RealNode {
    let vary = |params: &mut config::SampleParams| {
        params.endpoint = endpoint;
        // Temporary folders may lie on a filesystem without O_DIRECT.
        params.direct = false;
    };
    RealNode::start_varied(parent.path(), vary, edit).unwrap()
}

/// Whether a loop device is to be had; if not, says so.
pub(super) fn can_loop(test: &str) -> bool {
    let devices = ["/dev/fuse", "/dev/loop-control"];
    let can =
        nix::unistd::geteuid().is_root() && devices.iter().all(|device| Path::new(device).exists());
    if !can {
        eprintln!("skipped: {test}: this needs root, /dev/fuse and loop devices");
    }
    can
}

#[test]
fn the_life_of_a_disk_over_nbd() {
    life(Endpoint::Nbd);
}

#[test]
fn the_life_of_a_disk_on_a_block_device() {
    if can_loop("the_life_of_a_disk_on_a_block_device") {
        life(Endpoint::Fuse);
    }
}

/// From create to remove, each step as often as Ganeti may take it.
fn life(endpoint: Endpoint) {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, endpoint);
    let ganeti = Ganeti::on(&node);
    let disk: &[Variable<'_>] = &[("VOL_NAME", ID), ("VOL_UUID", "an-uuid")];
    let with = |more: &[Variable<'static>]| [disk, more].concat();

    let size = with(&[("VOL_SIZE", "8")]);
    let creating = format!("Creating volume '{ID}' of size '8'\n");
    ganeti.call("create", &size).says(&creating);
    assert_eq!(size_of(&node, ID), 8 * MIB);

    let first = ganeti.attach(disk);
    assert_eq!(first.device.is_some(), endpoint == Endpoint::Fuse);
    assert_eq!(
        ganeti.attach(disk),
        first,
        "what is mapped stays where it is"
    );
    let said = ganeti.call("attach", disk);
    assert_eq!((said.status, said.log.as_str()), (0, ""), "{said:?}");
    let uri = first.kvm().to_owned();
    assert_eq!(qemu_size(&uri), Some(8 * MIB));

    for _ in 0..2 {
        let open = with(&[("VOL_OPEN_EXCLUSIVE", "True")]);
        ganeti.call("open", &open).says("");
    }
    assert!(is_ours(&node, ID));
    let metadata = with(&[("VOL_METADATA", "originstname+web1.example.org")]);
    ganeti.call("setinfo", &metadata).says("");
    ganeti.call("verify", disk).says("");

    let grow = with(&[("VOL_SIZE", "8"), ("VOL_NEW_SIZE", "12")]);
    for _ in 0..2 {
        let growing = format!("Resizing '{ID}'. New size '12'\n");
        ganeti.call("grow", &grow).says(&growing);
        assert_eq!(qemu_size(&uri), Some(12 * MIB), "the mapped disk has grown");
    }
    if let Some(device) = &first.device {
        let name = device.file_name().unwrap().to_str().unwrap();
        let sectors = fs::read_to_string(format!("/sys/class/block/{name}/size")).unwrap();
        assert_eq!(sectors.trim().parse(), Ok(12 * MIB / 512));
    }

    let snapshot = with(&[
        ("VOL_SNAPSHOT_NAME", "snf-snap-7-1"),
        ("VOL_SNAPSHOT_SIZE", "12"),
    ]);
    let freezing = format!("Creating snapshot 'snf-snap-7-1' from '{ID}'\n");
    ganeti.call("snapshot", &snapshot).says(&freezing);
    assert_eq!(size_of(&node, "snf-snap-7-1"), 12 * MIB);

    let device = first
        .device
        .as_ref()
        .map_or(uri.clone(), |d| d.display().to_string());
    ganeti.call("remove", disk).fails(&format!(
        "Archipelago error: Volume {ID} mapped on device {device}\n"
    ));
    for _ in 0..2 {
        ganeti.call("detach", disk).says("");
        assert!(ganeti.mapped(ID).is_none());
        ganeti.call("close", disk).says("");
    }
    assert!(!is_ours(&node, ID));
    let grow = with(&[("VOL_SIZE", "12"), ("VOL_NEW_SIZE", "16")]);
    let growing = format!("Resizing '{ID}'. New size '16'\n");
    ganeti.call("grow", &grow).says(&growing);
    assert_eq!(size_of(&node, ID), 16 * MIB);
    ganeti
        .call("remove", disk)
        .says(&format!("Deleting '{ID}'\n"));
    assert!(node.client().info(name(ID), Hint::default()).is_err());
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}

pub(super) fn size_of(node: &RealNode, volume: &str) -> u64 {
    node.client().info(name(volume), Hint::default()).unwrap()
}

/// Whether the node has the lock of a volume.
pub(super) fn is_ours(node: &RealNode, volume: &str) -> bool {
    let lock = node.client().lock_info(name(volume)).unwrap();
    let lock: serde_json::Value = serde_json::from_slice(&lock).unwrap();
    lock["owner"].is_string() && lock["ours"] == true
}

/// The size that QEMU sees where KVM is told to look; `None`, and a word, without qemu-img.
fn qemu_size(uri: &str) -> Option<u64> {
    let mut command = Command::new("qemu-img");
    command.args(["info", "--output=json", "-f", "raw", "-U", uri]);
    let output = match command.output() {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: a look by qemu-img, which is not installed");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{output:?}");
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    info["virtual-size"].as_u64()
}

/// A mapped disk stays as it is while the node is stopped with force and started again: Ganeti
/// may call attach at any moment, also then.
#[test]
fn where_nothing_is_to_be_done_no_node_is_needed() {
    let parent = tempfile::tempdir().unwrap();
    let mut node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let disk = [("VOL_NAME", ID)];
    let other = [("VOL_NAME", "another.ext.disk0")];
    let size = [("VOL_NAME", ID), ("VOL_SIZE", "1")];
    assert_eq!(ganeti.call("create", &size).status, 0);
    let mapped = ganeti.attach(&disk);
    let stopped = node.run("archipelago", &["stop", "-f"]).unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(ganeti.attach(&disk), mapped);
    ganeti.call("detach", &other).says("");
    let frozen = ganeti.call("detach", &disk);
    assert_eq!(frozen.status, 1, "{frozen:?}");
    assert!(
        frozen.log.ends_with("it is frozen; start the node first\n"),
        "{frozen:?}"
    );
    let nobody = ganeti.call("attach", &other);
    assert!(nobody.log.contains("nobody listens at"), "{nobody:?}");
    node.restart().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while ganeti.mapped(ID).unwrap().is_frozen() {
        assert!(Instant::now() < patience, "the disk is not thawed");
        std::thread::sleep(Duration::from_millis(1));
    }
    ganeti.call("detach", &disk).says("");
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}

/// A disk is opened by one node, and by nobody else until that has closed it. It can be attached,
/// and opened shared, everywhere.
#[test]
fn one_node_opens_a_disk_and_any_node_attaches_it() {
    let parent = tempfile::tempdir().unwrap();
    let one = node(&parent, Endpoint::Nbd);
    let other = beside(&parent, &one);
    let (first, second) = (Ganeti::on(&one), Ganeti::on(&other));
    let disk = [("VOL_NAME", ID)];
    let size = [("VOL_NAME", ID), ("VOL_SIZE", "1")];
    let shared = [("VOL_NAME", ID), ("VOL_OPEN_EXCLUSIVE", "False")];
    assert_eq!(first.call("create", &size).status, 0);
    // Without a word about it, as old releases of Ganeti: exclusively.
    first.call("open", &disk).says("");
    first.attach(&disk);
    let held = format!(
        "Archipelago error: vlmc open failed: opening of \"{ID}\": it is locked or in use elsewhere\n"
    );
    let before = files(one.dir());
    second.call("open", &disk).fails(&held);
    second.attach(&disk);
    second.call("open", &shared).says("");
    second.call("close", &disk).says("");
    assert_eq!(files(one.dir()), before);
    assert!(is_ours(&one, ID) && !is_ours(&other, ID));
    first.call("close", &disk).says("");
    second.call("open", &disk).says("");
    assert!(is_ours(&other, ID) && !is_ours(&one, ID));
    for ganeti in [&first, &second] {
        ganeti.call("detach", &disk).says("");
    }
    drop((first, second));
    assert!(one.stop().unwrap().success() && other.stop().unwrap().success());
}

/// Another host's node over the storage of `first`.
pub(super) fn beside(parent: &TempDir, first: &RealNode) -> RealNode {
    edited(parent, Endpoint::Nbd, |text| {
        let here = |part: &str| first.dir().join(part).display().to_string();
        let text = text
            .replace(
                "archip_dir = blocks",
                &format!("archip_dir = {}", here("blocks")),
            )
            .replace(
                "archip_dir = maps",
                &format!("archip_dir = {}", here("maps")),
            );
        let locks = format!("lock_dir = {}\nunique_str = another-host_2", here("locks"));
        text.replace("lock_dir = locks", &locks)
    })
}

/// How long Ganeti waits for `attach` of a mapped disk, from the start of the process to its end.
/// The figure that counts is that of a release build on a quiet machine: `cargo xtask bench`.
#[test]
fn attach_of_a_mapped_disk_asks_nobody() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let disk = [("VOL_NAME", ID), ("VOL_CNAME", ID)];
    let size = [("VOL_NAME", ID), ("VOL_SIZE", "1")];
    assert_eq!(ganeti.call("create", &size).status, 0);
    ganeti.attach(&disk);
    let mut times: Vec<Duration> = (0..51).map(|_| attach_time(&ganeti, &disk)).collect();
    times.sort();
    println!(
        "attach of a mapped disk: median {:?}, slowest {:?} of {}",
        times[25],
        times[50],
        times.len()
    );
    // It connects nowhere, so it can't wait for a node.
    let calls = strace(&ganeti, &disk);
    if let Some(calls) = calls {
        assert!(!calls.contains("/archipelago.sock"), "{calls}");
        assert!(calls.contains("mapped/0/info.json"), "{calls}");
    }
    ganeti.call("detach", &disk).says("");
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}

fn attach_time(ganeti: &Ganeti, disk: &[Variable<'_>]) -> Duration {
    let mut command = ganeti.command("attach", disk);
    let begin = Instant::now();
    let output = command.output().unwrap();
    let time = begin.elapsed();
    assert!(output.status.success());
    time
}

/// The system calls of an attach that open or connect; `None`, and a word, without strace.
fn strace(ganeti: &Ganeti, disk: &[Variable<'_>]) -> Option<String> {
    let attach = ganeti.command("attach", disk);
    let mut command = Command::new("strace");
    command
        .args(["-f", "-e", "trace=connect,openat,open"])
        .arg(attach.get_program());
    command.env("ARCHIPELAGO_CONF", &ganeti.config);
    command.envs(disk.iter().copied());
    match command.output() {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: a look at system calls: strace is not installed");
            None
        }
        output => Some(String::from_utf8_lossy(&output.unwrap().stderr).into_owned()),
    }
}

/// What is written through one mapping is there through the next.
#[test]
fn a_disk_keeps_its_bytes_from_one_attach_to_the_next() {
    if !can_loop("a_disk_keeps_its_bytes_from_one_attach_to_the_next") {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Fuse);
    let ganeti = Ganeti::on(&node);
    let disk = [("VOL_NAME", ID)];
    let size = [("VOL_NAME", ID), ("VOL_SIZE", "8")];
    assert_eq!(ganeti.call("create", &size).status, 0);
    let written: Vec<u8> = (0..1 << 20).flat_map(u32::to_le_bytes).collect();
    let device = ganeti.attach(&disk).device.unwrap();
    fs::write(&device, &written).unwrap();
    ganeti.call("detach", &disk).says("");
    let device = ganeti.attach(&disk).device.unwrap();
    assert!(fs::read(&device).unwrap().starts_with(&written));
    ganeti.call("detach", &disk).says("");
    let client = node.client();
    let volume = Volume::open(&client, name(ID), Hint::default()).unwrap();
    let mut bytes = vec![0; written.len()];
    volume.read_at(&mut bytes, 0).unwrap();
    assert!(bytes == written);
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}
