//! Writes that wait for another node's lock, on real nodes over files: what ends the wait, and
//! that nothing else waits with them.

use client::{Client, Error, ErrorKind, Hint, Volume};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use system_tests::golden::name;
use system_tests::halt::halt;
use system_tests::real::{RealNode, program, state_of};

const VOLUME: &str = "theirs";
const PATIENCE: Duration = Duration::from_secs(60);

/// A node, and a volume that another host has.
fn node(shape: Option<&str>, endpoint: config::Endpoint) -> RealNode {
    let target = program("archipelago").parent().unwrap().to_owned();
    let vary = |params: &mut config::SampleParams| {
        params.process = shape.map(str::to_owned);
        params.endpoint = endpoint;
    };
    let node = RealNode::start(&target, vary).unwrap();
    let client = node.client();
    client.create(name(VOLUME), 1 << 20).unwrap();
    client.create(name("our-own"), 1 << 20).unwrap();
    std::fs::write(lock_file(&node), "otherhost_1002").unwrap();
    node
}

fn lock_file(node: &RealNode) -> PathBuf {
    node.dir().join("locks").join(format!("{VOLUME}_lock"))
}

type Answer = Result<(), Error>;

/// Asks something in a thread of its own which nobody waits for: it ends with the node if with
/// nothing else.
fn ask(node: &RealNode, ask: impl FnOnce(&Client) -> Answer + Send + 'static) -> Receiver<Answer> {
    let (said, heard) = channel();
    let (socket, ports) = (node.socket(), node.ports());
    std::thread::spawn(move || {
        let client = Client::connect(&socket, ports, "asker").unwrap();
        // Nobody listens any more where the test has failed.
        let _ = said.send(ask(&client));
    });
    heard
}

/// A write. Returns when it waits.
fn write(node: &RealNode) -> Receiver<Answer> {
    let heard = ask(node, |client| {
        let volume = Volume::open(client, name(VOLUME), Hint::default())?;
        volume.write_at(b"later", 0)
    });
    await_waiting(&node.client());
    heard
}

fn await_waiting(client: &Client) {
    let patience = Instant::now() + PATIENCE;
    loop {
        let mapperd = client.ports().mapperd;
        let said = client.status(mapperd, client::Name::EMPTY, Hint::default());
        let status: serde_json::Value = serde_json::from_slice(&said.unwrap()).unwrap();
        if status["waiting_for_locks"] == 1 {
            return;
        }
        assert!(Instant::now() < patience, "no write waits: {status}");
        std::thread::yield_now();
    }
}

fn was_given_up(write: &Receiver<Answer>) {
    let error = write.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
}

/// With a process for each role vlmcd is stopped first, and waited for the write that mapperd kept;
/// the node could not be stopped before the other one had closed.
#[test]
fn a_node_stops_while_a_write_waits() {
    for shape in [None, Some("node")] {
        let node = node(shape, config::Endpoint::Auto);
        let write = write(&node);
        let stopped = node.run("archipelago", &["stop"]).unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
        was_given_up(&write);
        let dir = node.stop_and_keep().unwrap();
        let lock = dir.path().join("locks").join(format!("{VOLUME}_lock"));
        assert_eq!(std::fs::read(lock).unwrap(), b"otherhost_1002");
    }
}

/// A migration that is called off: the target's guest is gone, and so must be its write, or it
/// would land when the source closes the volume one day.
#[test]
fn a_close_ends_a_write_that_waits() {
    let node = node(None, config::Endpoint::Auto);
    let write = write(&node);
    let close = ask(&node, |client| client.close(name(VOLUME), Hint::default()));
    let closed = close.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(
        closed.kind(),
        ErrorKind::Invalid,
        "it was not open: {closed}"
    );
    was_given_up(&write);
    std::fs::remove_file(lock_file(&node)).unwrap();
    let client = node.client();
    let volume = Volume::open(&client, name(VOLUME), Hint::default()).unwrap();
    let mut seen = [1; 5];
    volume.read_at(&mut seen, 0).unwrap();
    assert_eq!(seen, [0; 5]);
    drop((volume, client));
    assert!(node.stop().unwrap().success());
}

/// mapperd looked at the lock each second; that look was never answered once its blocker was gone,
/// and a mapperd of which something is outstanding does not end: SIGTERM had no effect.
#[test]
fn mapperd_ends_while_its_blocker_is_gone_and_a_write_waits() {
    let node = node(None, config::Endpoint::Auto);
    let write = write(&node);
    let (blockerm, mapperd) = (pid_of(&node, "blockerm"), pid_of(&node, "mapperd"));
    // Nobody starts them again.
    let supervisor = halt(node.supervisor_pid());
    kill(blockerm, Signal::SIGKILL).unwrap();
    await_end(blockerm);
    // For longer than one wait lasts: the next is asked of nobody.
    let answer = write.recv_timeout(Duration::from_millis(1500));
    assert_eq!(answer, Err(RecvTimeoutError::Timeout));
    kill(mapperd, Signal::SIGTERM).unwrap();
    await_end(mapperd);
    drop(supervisor);
    // Their successors go on with it.
    std::fs::remove_file(lock_file(&node)).unwrap();
    write.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(node.stop().unwrap().success());
}

fn pid_of(node: &RealNode, role: &str) -> Pid {
    Pid::from_raw(node.pid_of(role).unwrap())
}

/// Until a process is dead, buried or not.
fn await_end(pid: Pid) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !matches!(state_of(pid.as_raw()), None | Some('Z')) {
        assert!(Instant::now() < patience, "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `stop -f` freezes a mapped device although its write waits, and that write is not failed: it is
/// asked for again after the start.
#[test]
fn a_device_is_frozen_while_its_write_waits() {
    let test = "a_device_is_frozen_while_its_write_waits";
    if !Path::new("/usr/bin/qemu-io").exists() {
        let line = format!("SKIP {test}: needs qemu-io\n");
        // Where even that cannot be written nobody would read it.
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let mut node = node(Some("node"), config::Endpoint::Nbd);
    let mapped = node.run("vlmc", &["map", VOLUME]).unwrap();
    let device = String::from_utf8(mapped.stdout).unwrap();
    let guest = Command::new("qemu-io")
        .args(["-f", "raw", "-c", "write -P 7 0 4096", "-c", "flush"])
        .arg(device.trim_end())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let guest = Guest(Some(guest));
    await_waiting(&node.client());
    let stopped = node.run("archipelago", &["stop", "-f"]).unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    std::fs::remove_file(lock_file(&node)).unwrap();
    node.restart().unwrap();
    let said = guest.end();
    assert!(said.contains("wrote 4096/4096 bytes"), "{said}");
    let client = node.client();
    let volume = Volume::open(&client, name(VOLUME), Hint::default()).unwrap();
    let mut seen = [0; 4096];
    volume.read_at(&mut seen, 0).unwrap();
    assert_eq!(seen, [7; 4096]);
    drop((volume, client));
    assert_eq!(node.unmap(device.trim_end()).unwrap(), "");
    assert!(node.stop().unwrap().success());
}

/// A program that is killed when the test fails.
struct Guest(Option<Child>);

impl Guest {
    /// Waits for its end; what it said.
    fn end(mut self) -> String {
        let child = self.0.take().expect("it ends once");
        let output = child.wait_with_output().unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
