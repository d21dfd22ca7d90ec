//! A node is stopped while an OSD is away and a guest's write waits for it: without force it says which
//! pool that is, and goes on; by force it ends, and nothing of it lands later.

use super::clients::{kill_endpoint, lacks};
use super::deaths::is_down;
use super::{name, node_on, start, vlmc};
use client::{Client, Hint, Volume};
use config::Endpoint;
use rados_lab::{Lab, Options};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use system_tests::real::{RealNode, state_of};
use xseg::join::observe;
use xseg::report::Report;
use xseg::word::State;

const PATIENCE: Duration = Duration::from_secs(120);

/// Until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many requests a role has under way.
fn under_way(node: &RealNode, role: &str) -> u32 {
    let observed = observe(&node.socket()).unwrap();
    let alive = |seat| observed.alive.contains(seat);
    let report = Report::new(&observed.public, observed.private.as_ref(), &alive);
    let seats = report.members.iter().filter(|m| m.alive && m.name == role);
    let slots = seats.flat_map(|m| report.regions.iter().filter_map(|r| r.seats.get(&m.seat)));
    slots
        .filter_map(|slots| slots.serves.get(&State::Serving))
        .sum()
}

/// Writes a block over and over until that fails, for the node is gone.
fn write_until_the_end(node: &RealNode, volume: &'static str) -> (JoinHandle<()>, Arc<AtomicU64>) {
    let (socket, ports, written) = (node.socket(), node.ports(), Arc::<AtomicU64>::default());
    let count = written.clone();
    let guest = std::thread::spawn(move || {
        let client = Client::connect(&socket, ports, "guest").unwrap();
        let volume = Volume::open(&client, name(volume), Hint::default()).unwrap();
        while volume.write_at(&[7; 4096], 0).is_ok() {
            count.fetch_add(1, SeqCst);
        }
    });
    (guest, written)
}

/// Until blockerb has something under way and nothing was written for a second: what was let through
/// before all knew that the OSD is dead has ended.
fn await_stuck(node: &RealNode, written: &AtomicU64) {
    let (mut since, mut before) = (Instant::now(), 0);
    until("writes do not wait", || {
        let now = written.load(SeqCst);
        if now != before || under_way(node, "blockerb") == 0 {
            (since, before) = (Instant::now(), now);
        }
        since.elapsed() > Duration::from_secs(1)
    });
}

fn archipelago(node: &RealNode, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = node.run("archipelago", arguments).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    println!(
        "{arguments:?}: {status}, {}{}",
        text(&stdout),
        text(&stderr)
    );
    (status.code(), text(&stdout), text(&stderr))
}

/// The addresses in `RUN_DIR` of the instance that blockerb is.
fn addresses(node: &RealNode) -> Vec<String> {
    let file = node.config.archipelago.run_dir.join("blockerb.rados");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let addresses = record["addresses"].as_array().unwrap().iter();
    addresses.map(|a| a.as_str().unwrap().to_owned()).collect()
}

fn is_blocklisted(lab: &Lab, address: &str) -> bool {
    let list = r#"{"prefix":"osd blocklist ls"}"#;
    let said = lab.mon_commands(&[list.into()]).unwrap().remove(0);
    let bare = address.trim_start_matches("v1:").trim_start_matches("v2:");
    said.contains(bare)
}

/// `archipelago stop` gave up after 15 s with no word about why, and so did `stop -f`: its process
/// lived on, and the segment with it.
fn is_stopped_by_force_only(lab: &Lab, node: &mut RealNode) {
    let (status, out, err) = archipelago(node, &["stop"]);
    assert_eq!(status, Some(255));
    assert!(out.contains("FAILED"), "{out}");
    // A process is called by its first role; of several the last one is stopped first.
    let first = match node.config.roles[0].process {
        Some(_) => "blockerb",
        None => "vlmcd",
    };
    let sentence = format!(
        "Failed to stop peer {first}. blockerb has 1 request under way at the pool blocks; \
         `archipelago stop -f` kills what does not end\n"
    );
    assert!(err.ends_with(&sentence), "{err}");
    let process = node.pid_of("blockerb").expect("it lives");
    let dead = addresses(node);
    assert!(!dead.is_empty());

    let (status, out, _) = archipelago(node, &["stop", "-f"]);
    assert_eq!(status, Some(0));
    assert!(out.contains("KILLED"), "{out}");
    assert!(matches!(state_of(process), None | Some('Z' | 'X')));
    assert_eq!(node.pid_of("blockerb"), None);
    assert_eq!(addresses(node), dead, "its successor has to know");
    assert!(!dead.iter().any(|address| is_blocklisted(lab, address)));

    node.restart().unwrap();
    assert!(dead.iter().all(|address| is_blocklisted(lab, address)));
}

/// A mapped volume, and a write to it as a virtual machine would do it. Both processes are gone when
/// it is dropped.
struct Writer {
    run_dir: PathBuf,
    device: String,
    process: Option<Child>,
}

impl Writer {
    fn map(node: &RealNode, volume: &str) -> Writer {
        Writer {
            run_dir: node.config.archipelago.run_dir.clone(),
            device: vlmc(node, &["map", volume]).trim_end().to_owned(),
            process: None,
        }
    }

    fn write(&mut self) {
        let process = Command::new("qemu-io")
            .args(["-f", "raw", &self.device, "-c", "write -P 7 0 4k"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// Waits for the write; whether it worked.
    fn has_written(&mut self) -> bool {
        let process = self.process.as_mut().unwrap();
        until("the write does not end", || {
            process.try_wait().unwrap().is_some()
        });
        process.wait().unwrap().success()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
        kill_endpoint(&self.run_dir, &self.device);
    }
}

/// Freezing waited for what the pool does not answer, for ever.
fn is_stopped_under_a_mapped_volume(node: &mut RealNode) {
    let (status, out, err) = archipelago(node, &["stop"]);
    assert_eq!(status, Some(255));
    assert!(err.contains("Mapped volumes exist"), "{out}{err}");
    let (status, out, _) = archipelago(node, &["stop", "-f"]);
    assert_eq!(status, Some(0));
    let freezing = out.lines().find(|line| line.starts_with("Freezing"));
    assert!(freezing.unwrap().contains("WAITS"), "{out}");
    assert_eq!(node.pid_of("blockerb"), None);
    node.restart().unwrap();
}

/// A volume of that name, and a write to it that worked.
fn make(node: &RealNode, volume: &str) {
    let client = node.client();
    client.create(name(volume), 1 << 20).unwrap();
    let volume = Volume::open(&client, name(volume), Hint::default()).unwrap();
    volume.write_at(&[1; 4096], 0).unwrap();
}

#[test]
fn a_node_whose_pool_does_not_answer_is_stopped_by_force() {
    let test = "a_node_whose_pool_does_not_answer_is_stopped_by_force";
    if rados_lab::skip(test) || lacks(test, &["qemu-io"]) {
        return;
    }
    let mut lab = start(Options {
        min_size: Some(2),
        ..Options::with_osds(2)
    });
    let node = |shape: Option<&str>| {
        node_on(&lab, |params| {
            params.process = shape.map(str::to_owned);
            params.endpoint = Endpoint::Nbd;
        })
    };
    let (mut one, mut other, mut mapping) = (node(None), node(Some("node")), node(Some("node")));
    for (node, volume) in [
        (&one, "volume-1"),
        (&other, "volume-2"),
        (&mapping, "volume-3"),
    ] {
        make(node, volume);
    }
    let guests =
        [(&one, "volume-1"), (&other, "volume-2")].map(|(node, v)| write_until_the_end(node, v));
    let mut writer = Writer::map(&mapping, "volume-3");
    lab.kill_osd(1);
    until("the dead OSD is noticed", || is_down(&lab, 1));
    await_stuck(&one, &guests[0].1);
    await_stuck(&other, &guests[1].1);
    writer.write();
    await_stuck(&mapping, &AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| is_stopped_by_force_only(&lab, &mut one));
        scope.spawn(|| is_stopped_by_force_only(&lab, &mut other));
        scope.spawn(|| is_stopped_under_a_mapped_volume(&mut mapping));
    });
    guests
        .into_iter()
        .for_each(|(guest, _)| guest.join().unwrap());
    lab.start_osd(1).unwrap();
    assert!(writer.has_written(), "the write of a frozen guest");
    assert_eq!(mapping.unmap(&writer.device).unwrap(), "");
    drop(writer);
    for (node, volume) in [
        (one, "volume-1"),
        (other, "volume-2"),
        (mapping, "volume-3"),
    ] {
        let client = node.client();
        let volume = Volume::open(&client, name(volume), Hint::default()).unwrap();
        volume.write_at(&[8; 4096], 4096).unwrap();
        drop((volume, client));
        assert!(node.stop().unwrap().success());
    }
}
