//! The lock of a volume broken from another node while its holder's guests write: nothing of the
//! old holder lands afterwards, its guests hear of it, and its other volumes go on.

use super::clients::{Mapped, lacks};
use super::{name, node_on, shared, vlmc};
use client::{Client, Error, ErrorKind, Hint, Volume};
use config::Endpoint;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use system_tests::real::RealNode;

const LOST: &str = "broken-away";
const KEPT: &str = "not-concerned";
const PATIENCE: Duration = Duration::from_secs(90);

fn open(client: &Client, volume: &str) -> Volume {
    Volume::open(client, name(volume), Hint::default()).unwrap()
}

/// Writes the same four blocks until told to stop, or to the first error, in a thread that nobody
/// waits for: it ends with the node if with nothing else.
struct Guest {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    end: Receiver<Option<Error>>,
}

impl Guest {
    fn start(node: &RealNode, volume: &'static str) -> Guest {
        let (socket, ports) = (node.socket(), node.ports());
        let (said, end) = channel();
        let guest = Guest {
            written: Arc::default(),
            stop: Arc::default(),
            end,
        };
        let (written, stop) = (guest.written.clone(), guest.stop.clone());
        std::thread::spawn(move || {
            let client = Client::connect(&socket, ports, "guest").unwrap();
            let volume = open(&client, volume);
            let mut error = None;
            while error.is_none() && !stop.load(SeqCst) {
                let at = written.load(SeqCst) % 4 * 4096;
                error = volume.write_at(&[b'o'; 4096], at).err();
                written.fetch_add(1, SeqCst);
            }
            // Nobody listens any more where the test has failed.
            let _ = said.send(error);
        });
        guest
    }

    fn await_writes(&self, more: u64) {
        await_writes(&self.written, more);
    }

    /// What ended it.
    fn end(self) -> Option<Error> {
        self.end.recv_timeout(PATIENCE).expect("a guest that ends")
    }
}

fn await_writes(written: &AtomicU64, more: u64) {
    let (goal, patience) = (written.load(SeqCst) + more, Instant::now() + PATIENCE);
    while written.load(SeqCst) < goal {
        assert!(Instant::now() < patience, "a guest is stuck");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Breaks the lock from the other node, and writes there; how long each took.
fn take_away(other: &RealNode, owner: &str) -> (Duration, Duration) {
    let shown = vlmc(other, &["lock", "--show", LOST]);
    assert!(shown.contains(owner), "{owner} is not named: {shown}");
    let begin = Instant::now();
    vlmc(other, &["unlock", "-f", LOST]);
    let broken = begin.elapsed();
    let client = other.client();
    let new = vec![b'n'; 4 * 4096];
    open(&client, LOST).write_at(&new, 0).unwrap();
    (broken, begin.elapsed() - broken)
}

/// The old holder's log and `vlmc status` name the volume, who has it now, and what is to be done.
fn says_what_happened(one: &RealNode, other: &RealNode) {
    let log = std::fs::read_to_string(one.dir().join("log/mapperd.log")).unwrap();
    let sentence = log
        .lines()
        .find(|line| line.contains(&format!("the lock of volume {LOST} was broken")));
    let holder = format!("process {} ", other.pid_of("blockerm").unwrap());
    let sentence = sentence.unwrap_or_else(|| panic!("nothing is said: {log}"));
    // It may have been noticed before the new owner took it.
    let said = [&*holder, "nobody holds it now"];
    assert!(
        said.iter().any(|part| sentence.contains(part)),
        "{sentence}"
    );
    assert!(sentence.contains("closed and opened again"), "{sentence}");
    let status = vlmc(one, &["status", LOST]);
    assert!(
        status.contains("until it is closed and opened again"),
        "{status}"
    );
    assert!(status.contains(&holder), "{status}");
    let status = vlmc(other, &["status", LOST]);
    assert!(!status.contains("closed and opened"), "{status}");
}

#[test]
fn a_lock_that_is_broken_under_load_lets_nothing_land_late() {
    let Some(lab) = shared("a_lock_that_is_broken_under_load_lets_nothing_land_late") else {
        return;
    };
    let one = node_on(lab, |params| params.process = None);
    let other = node_on(lab, |_| ());
    for volume in [LOST, KEPT] {
        one.client().create(name(volume), 1 << 20).unwrap();
    }
    let blockerm = one.config.role("blockerm").unwrap().owner();
    let (lost, kept) = (Guest::start(&one, LOST), Guest::start(&one, KEPT));
    lost.await_writes(50);
    kept.await_writes(50);
    let took = take_away(&other, &blockerm);
    kept.await_writes(50);
    let why = lost.end().expect("an error");
    println!(
        "broken in {:?}, written {:?} later; the guests of the old holder: {why}",
        took.0, took.1
    );
    assert_eq!(why.kind(), ErrorKind::LostLock, "{why}");
    says_what_happened(&one, &other);
    kept.stop.store(true, SeqCst);
    assert_eq!(kept.end(), None, "the other volume is not concerned");
    let client = other.client();
    let mut bytes = vec![0; 4 * 4096];
    open(&client, LOST).read_at(&mut bytes, 0).unwrap();
    let copy = one.dir().join("object");
    let object = format!("{LOST}_0000000000000001_0000000000000000");
    lab.rados(&["-p", "blocks", "get", &object, copy.to_str().unwrap()])
        .unwrap();
    let stored = std::fs::read(copy).unwrap();
    for seen in [&bytes, &stored] {
        assert!(
            seen[..4 * 4096].iter().all(|byte| *byte == b'n'),
            "a late write landed"
        );
    }
    drop(client);
    assert!(one.stop().unwrap().success());
    assert!(other.stop().unwrap().success());
}

/// Runs qemu-io's `command` on a device; what it said.
fn qemu_io(device: &str, command: &str) -> String {
    let arguments = ["60", "qemu-io", "-f", "raw", "-c", command, device];
    let output = Command::new("timeout").args(arguments).output().unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A guest behind NBD gets I/O errors, its endpoint's log says why, and it is well again when the
/// volume was unmapped and mapped.
#[test]
fn a_guest_gets_errors_until_its_volume_is_mapped_anew() {
    let test = "a_guest_gets_errors_until_its_volume_is_mapped_anew";
    let Some(lab) = shared(test) else { return };
    if lacks(test, &["qemu-io"]) {
        return;
    }
    const VOLUME: &str = "of-a-guest";
    let one = node_on(lab, |params| params.endpoint = Endpoint::Nbd);
    let other = node_on(lab, |_| ());
    one.client().create(name(VOLUME), 1 << 20).unwrap();
    let mapped = Mapped::new(&one, VOLUME);
    let device = mapped.device.clone();
    let wrote = "wrote 4096/4096 bytes";
    assert!(qemu_io(&device, "write -P 1 0 4096").contains(wrote));
    vlmc(&other, &["unlock", "-f", VOLUME]);
    let client = other.client();
    open(&client, VOLUME).write_at(&[2; 4096], 0).unwrap();
    for _ in 0..2 {
        let said = qemu_io(&device, "write -P 3 0 4096");
        assert!(said.contains("Input/output error"), "{said}");
    }
    let files = std::fs::read_dir(one.dir().join("log")).unwrap();
    let logs = files
        .flatten()
        .map(|file| std::fs::read_to_string(file.path()).unwrap());
    let logs: String = logs.collect();
    let sentence = format!("the lock of volume \"{VOLUME}\" was broken");
    assert_eq!(logs.matches(&sentence).count(), 1, "said once: {logs}");
    // It is unmapped, but what was not flushed is lost, and that is said.
    let said = mapped.end();
    assert!(
        said.contains(VOLUME) && said.contains("another node holds it"),
        "{said}"
    );

    client.close(name(VOLUME), Hint::default()).unwrap();
    let again = Mapped::new(&one, VOLUME);
    assert!(qemu_io(&again.device, "read -P 2 0 4096").contains("read 4096/4096 bytes"));
    assert!(qemu_io(&again.device, "write -P 4 0 4096").contains(wrote));
    again.unmap();
    drop(client);
    assert!(one.stop().unwrap().success());
    assert!(other.stop().unwrap().success());
}
