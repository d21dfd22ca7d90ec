//! `archip-nbd` before a real node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::node_lab::Lab;
use crate::tools::{run, run_within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_archip-nbd");
const SIZE: usize = 32 << 20;

/// A mapped volume: its address. The process is killed when a test fails.
struct Mapped {
    uri: String,
    info: PathBuf,
}

impl Mapped {
    fn new(lab: &Lab) -> Self {
        let output = lab.map(PROGRAM, "volume", &[]);
        let said = String::from_utf8(output.stdout).unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{complained}");
        let uri = said.strip_suffix('\n').unwrap().to_owned();
        assert!(uri.starts_with("nbd+unix:///volume?socket=/"), "{uri}");
        Self {
            uri,
            info: lab.place("0").join("info.json"),
        }
    }

    fn unmap(self, lab: &Lab) {
        assert_eq!(lab.ask("0", "unmap"), json!({"ok": true}));
        assert!(!lab.place("0").exists());
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let Ok(text) = fs::read(&self.info) else {
            return;
        };
        let info: serde_json::Value = serde_json::from_slice(&text).unwrap();
        // With its keeper, at once: each would replace the other.
        let pid = Pid::from_raw(info["pid"].as_i64().unwrap() as i32);
        if let Ok(group) = nix::unistd::getpgid(Some(pid)) {
            let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
        }
    }
}

/// A file of `SIZE` bytes that differ in every block.
fn image(lab: &Lab) -> (String, Vec<u8>) {
    let mut bytes = vec![0; SIZE];
    for (index, block) in bytes.chunks_mut(512).enumerate() {
        block.fill((index % 251) as u8);
        block[..8].copy_from_slice(&(index as u64).to_le_bytes());
    }
    let path = lab.dir().join("image");
    fs::write(&path, &bytes).unwrap();
    (path.to_str().unwrap().to_owned(), bytes)
}

/// What the volume holds, as nbdcopy reads it.
fn content(lab: &Lab, uri: &str) -> Vec<u8> {
    let copy = lab.dir().join("copy");
    run("nbdcopy", &[uri, copy.to_str().unwrap()]).unwrap();
    fs::read(copy).unwrap()
}

#[test]
fn a_volume_is_written_read_trimmed_and_mapped_again() {
    let lab = Lab::start();
    lab.create("volume", SIZE as u64);
    let mapped = Mapped::new(&lab);
    let info = lab.info("0");
    assert_eq!(
        (&info["kind"], &info["device"]),
        (&json!("nbd"), &json!(mapped.uri))
    );
    let Some(holes) = run("nbdinfo", &["--map", "--json", &mapped.uri]) else {
        return;
    };
    let holes: serde_json::Value = serde_json::from_str(&holes).unwrap();
    assert_eq!(
        (&holes[0]["length"], &holes[0]["type"]),
        (&json!(SIZE), &json!(3))
    );

    let (path, mut bytes) = image(&lab);
    run("nbdcopy", &["--flush", &path, &mapped.uri]).unwrap();
    assert!(content(&lab, &mapped.uri) == bytes);
    let commands = [
        "-c",
        "write -z 1M 1M",
        "-c",
        "discard 8M 4M",
        "-c",
        "write -f -P 7 3000 5000",
    ];
    run(
        "qemu-io",
        &[&["-f", "raw"], &commands[..], &[&mapped.uri]].concat(),
    )
    .unwrap();
    bytes[1 << 20..2 << 20].fill(0);
    bytes[8 << 20..12 << 20].fill(0);
    bytes[3000..8000].fill(7);
    assert!(content(&lab, &mapped.uri) == bytes);
    mapped.unmap(&lab);

    let again = Mapped::new(&lab);
    assert!(content(&lab, &again.uri) == bytes);
    again.unmap(&lab);
}

/// fio keeps 32 requests under way and reads back what it wrote, all the time; a few seconds long,
/// or as many as `ARCHIPELAGO_NBD_SECONDS` says. The milestone's run is a minute.
#[test]
fn fio_verifies_a_volume_at_depth_32() {
    let seconds = std::env::var("ARCHIPELAGO_NBD_SECONDS");
    let seconds: u64 = seconds.map_or(3, |text| text.parse().expect("a number of seconds"));
    let lab = Lab::start();
    lab.create("volume", SIZE as u64);
    let mapped = Mapped::new(&lab);
    let (uri, runtime) = (
        format!("--uri={}", mapped.uri),
        format!("--runtime={seconds}"),
    );
    let arguments = [
        "--name=verify",
        "--ioengine=nbd",
        &uri,
        "--rw=randwrite",
        "--bsrange=4k-64k",
        "--size=32M",
        "--iodepth=32",
        "--time_based",
        &runtime,
        "--verify=crc32c",
        "--verify_backlog=256",
        "--verify_fatal=1",
        "--fsync=256",
        "--verify_state_save=0",
        "--output-format=json",
    ];
    if let Some(said) = run_within(seconds + 60, "fio", &arguments) {
        // Its engine says besides that it is connected.
        let json = said.find('{').map_or("", |at| &said[at..]);
        let said: serde_json::Value = serde_json::from_str(json).expect(&said);
        let job = &said["jobs"][0];
        let (wrote, verified) = (&job["write"]["total_ios"], &job["read"]["total_ios"]);
        let (error, took) = (&job["error"], &job["job_runtime"]);
        let mib = |way: &str| job[way]["io_kbytes"].as_u64().unwrap_or(0) >> 10;
        println!(
            "fio at depth 32, {took} ms: error {error}, {wrote} writes ({} MiB), \
             {verified} reads to verify them ({} MiB)",
            mib("write"),
            mib("read")
        );
        assert_eq!(error, 0);
        assert!(
            wrote.as_u64() > Some(0) && verified.as_u64() > Some(0),
            "{job}"
        );
        assert!(took.as_u64() >= Some(seconds * 1000), "{job}");
    }
    mapped.unmap(&lab);
}

#[test]
fn an_address_in_use_is_not_taken_away() {
    let lab = Lab::start();
    lab.create("volume", SIZE as u64);
    let mapped = Mapped::new(&lab);
    let client = Command::new("qemu-io")
        .args(["-f", "raw", &mapped.uri])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut client) = client else {
        eprintln!("skipped: qemu-io is not installed");
        return mapped.unmap(&lab);
    };
    // Its prompt says that it is connected.
    let mut prompt = [0; 8];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut prompt).unwrap();
    assert_eq!(
        lab.ask("0", "unmap"),
        json!({"error": "busy", "pids": [client.id()]})
    );
    drop(client.stdin.take());
    client.wait().unwrap();
    // The server hears of the end of a client a moment later.
    while lab.ask("0", "unmap") != json!({"ok": true}) {
        std::thread::yield_now();
    }
}

/// Copies the image to the volume while `disturb` goes on; the copy must succeed, and be right.
fn survive(disturb: impl Fn(&mut Lab)) {
    let mut lab = Lab::start();
    lab.create("volume", SIZE as u64);
    let mapped = Mapped::new(&lab);
    let uri = &mapped.uri;
    let (path, bytes) = image(&lab);
    std::thread::scope(|scope| {
        let copy = || {
            let arguments = ["--requests=4", "--connections=1", "--flush", &path, uri];
            (0..4).all(|_| run("nbdcopy", &arguments).is_some())
        };
        let copying = scope.spawn(copy);
        for _ in 0..4 {
            disturb(&mut lab);
            // Answered only when the node serves again, so the copy gets on in between.
            run("nbdinfo", &["--map", uri]);
        }
        if !copying.join().unwrap() {
            return;
        }
        assert!(content(&lab, uri) == bytes);
    });
    mapped.unmap(&lab);
}

#[test]
fn a_copy_goes_on_when_the_node_dies() {
    survive(|lab| {
        lab.kill();
        lab.bring_up();
    });
}

#[test]
fn a_copy_goes_on_after_a_freeze() {
    survive(|lab| {
        assert_eq!(lab.ask("0", "freeze"), json!({"ok": true}));
        lab.kill();
        lab.bring_up();
        assert_eq!(lab.ask("0", "thaw"), json!({"ok": true}));
    });
}

/// A client that connects again, as QEMU does for its guests, sees a slow request when the process
/// that serves it is killed, and its bytes are there.
#[test]
fn a_client_that_reconnects_survives_the_death_of_the_endpoint() {
    const WRITES: usize = 512;
    const LEN: usize = SIZE / WRITES;
    let lab = Lab::start();
    lab.create("volume", SIZE as u64);
    let mapped = Mapped::new(&lab);
    let socket = lab.place("0").join("nbd");
    let image = format!(
        "driver=nbd,server.type=unix,server.path={},export=volume,reconnect-delay=30",
        socket.display()
    );
    let all = |verb: &str| -> Vec<String> {
        let one = |index| {
            let (pattern, at) = (index % 251 + 1, index * LEN);
            ["-c".into(), format!("{verb} -P {pattern} {at} {LEN}")]
        };
        (0..WRITES).flat_map(one).collect()
    };
    let mut writer = Command::new("qemu-io");
    writer.args(["--image-opts", &image]).args(all("write"));
    let Ok(mut writer) = writer.stdout(Stdio::piped()).spawn() else {
        eprintln!("skipped: qemu-io is not installed");
        return mapped.unmap(&lab);
    };
    let (mut kills, mut writes) = (0, 0);
    for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
        writes += usize::from(line.unwrap().starts_with("wrote "));
        if writes > kills * WRITES / 6 && kills < 5 {
            let pid = lab.info("0")["pid"].as_i64().unwrap() as i32;
            kills += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        }
    }
    assert!(writer.wait().unwrap().success());
    assert_eq!((kills, writes), (5, WRITES));
    // Each read fails if it finds another pattern.
    let mut reader = Command::new("qemu-io");
    let read = reader.args(["--image-opts", &image]).args(all("read"));
    let said = read.output().unwrap();
    let words = String::from_utf8_lossy(&said.stdout);
    assert!(
        said.status.success() && !words.contains("failed"),
        "{words}"
    );
    while lab.ask("0", "unmap") != json!({"ok": true}) {
        std::thread::yield_now();
    }
}
