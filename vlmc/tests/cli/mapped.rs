//! Mapped volumes, with an endpoint that this test plays: it keeps an entry of the registry and
//! answers at its control socket.

use crate::lab::{self, Lab, Storage};
use node::supervisor::pids;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

on_each! {
    files, rados =>
        a_real_device_goes_on_through_a_restart_and_a_crash,
}

const DEVICE: &str = "nbd+unix:///volume?socket=/run/nbd";

/// Plays an endpoint for as long as the test runs; says what it was asked.
fn play(lab: &Lab) -> Receiver<String> {
    let dir = lab.run_dir().join("mapped/0");
    fs::create_dir_all(&dir).unwrap();
    describe(&dir, "running");
    let listener = UnixListener::bind(dir.join("control")).unwrap();
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let request: serde_json::Value = serde_json::from_str(&line).unwrap();
            let order = request["do"].as_str().unwrap().to_owned();
            let reply = match order.as_str() {
                "unmap" => json!({ "error": "busy", "pids": [7, 8] }),
                _ => json!({ "ok": true }),
            };
            match order.as_str() {
                "freeze" => describe(&dir, "frozen"),
                "thaw" => describe(&dir, "running"),
                _ => {}
            }
            // The test may have what it wants to know.
            let _ = tell.send(order);
            (&stream)
                .write_all(format!("{reply}\n").as_bytes())
                .unwrap();
        }
    });
    asked
}

fn describe(dir: &Path, state: &str) {
    let pid = std::process::id() as i32;
    let info = json!({
        "id": 0, "volume": "volume", "device": DEVICE, "kind": "nbd", "pid": pid,
        "start_time": pids::start_time(pid), "readonly": false, "state": state,
    });
    fs::write(dir.join("info.json"), info.to_string()).unwrap();
}

#[test]
fn a_mapped_volume_is_shown_guarded_frozen_and_thawed() {
    let lab = Lab::started(true);
    lab.vlmc("create volume -s 8").says("");
    lab.vlmc("showmapped").is(0, "", "No volumes mapped\n\n");
    let asked = play(&lab);
    let table = format!("id\timage\t\tdevice\n0\tvolume\t{DEVICE}\n");
    lab.vlmc("showmapped").says(&table);
    let json = lab.vlmc("showmapped --format json").out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value[0]["volume"], "volume");
    assert!(lab.archipelago("status").out.starts_with(&table));

    lab.vlmc("map volume")
        .fails(&format!("Volume volume already mapped on device {DEVICE}"));
    lab.vlmc("remove volume")
        .fails(&format!("Volume volume mapped on device {DEVICE}"));
    lab.vlmc("rename volume another")
        .fails("Cannot rename a mapped resource");
    lab.vlmc("resize volume -s 1 --allow-shrink")
        .fails("Cannot shrink a mapped resource");
    lab.vlmc("resize volume -s 16").says("");
    assert_eq!(asked.recv().unwrap(), "resize");
    for target in [DEVICE, "volume"] {
        let busy = format!("{DEVICE}: Device is busy (PID: 7 8)");
        lab.vlmc(&format!("unmap {target}")).fails(&busy);
        assert_eq!(asked.recv().unwrap(), "unmap");
    }
    lab.vlmc("unmap /dev/nothing")
        .fails("/dev/nothing: Device doesn't exist");

    let said = lab.archipelago("stop");
    assert_eq!(said.status, 255);
    assert!(said.out.ends_with(&table), "{said:?}");
    assert_eq!(said.err, "Cannot stop archipelago. Mapped volumes exist\n");
    let said = lab.archipelago("stop --unmap");
    assert!(
        said.err
            .starts_with("Error while umapping volume, during shutdown: "),
        "{said:?}"
    );
    assert_eq!(asked.recv().unwrap(), "unmap");
    assert_eq!(lab.archipelago("status").status, 0);

    assert_eq!(lab.archipelago("stop -f").status, 0);
    assert_eq!(asked.recv().unwrap(), "freeze");
    let said = lab.archipelago("start");
    assert!(said.out.contains("Thawing volume "), "{said:?}");
    assert_eq!(asked.recv().unwrap(), "thaw");
    assert_eq!(lab.archipelago("stop --pau").status, 0);
    assert_eq!(asked.recv().unwrap(), "freeze");
}

#[test]
fn only_devices_need_the_module() {
    let lab = Lab::new(true);
    let text = fs::read_to_string(&lab.config.file).unwrap();
    let text = text.replace("BLKTAP_ENABLED = True", "BLKTAP_ENABLED = False");
    fs::write(&lab.config.file, text).unwrap();
    assert_eq!(lab.archipelago("start").status, 0);
    for words in ["map volume", "unmap volume", "showmapped"] {
        lab.vlmc(words).is(255, "", "Blktap module is disabled.\n");
    }
    lab.vlmc("create volume -s 8").says("");
    lab.vlmc("list").says("volume\n");
}

/// Whether a FUSE file with a loop device before it is to be had, and the program that does it.
fn can_loop(lab: &Lab) -> bool {
    let devices = ["/dev/fuse", "/dev/loop-control"];
    nix::unistd::geteuid().is_root()
        && devices.iter().all(|device| Path::new(device).exists())
        && lab.has("archip-fuse")
}

fn a_real_device_goes_on_through_a_restart_and_a_crash(storage: &Storage) {
    let lab = storage.with_endpoint(config::Endpoint::Fuse);
    if !can_loop(&lab) {
        eprintln!("skipped: this needs root, /dev/fuse, loop devices and archip-fuse");
        return;
    }
    lab.vlmc("create volume -s 8").says("");
    let said = lab.vlmc("map volume");
    let device = said.out.trim_end().to_owned();
    said.says(&format!("{device}\n"));
    let table = lab.vlmc("showmapped").out;
    assert!(table.ends_with(&format!("\tvolume\t{device}\n")), "{table}");
    let written: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&device, &written).unwrap();
    fs::File::open(&device).unwrap().sync_all().unwrap();
    assert_eq!(lab.archipelago("restart").status, 0);
    lab.kill_and_await_successor("vlmcd");
    lab.vlmc("resize volume -s 16").says("");
    let read = fs::read(&device).unwrap();
    assert!(read.len() == 16 << 20 && read.starts_with(&written));
    // The endpoint's own process is killed: it is still mapped, and can still be told.
    let json = lab.vlmc("showmapped --format json").out;
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    lab::kill(shown[0]["pid"].as_i64().unwrap() as i32);
    lab.vlmc("showmapped").says(&table);
    assert!(fs::read(&device).unwrap() == read);
    lab.vlmc(&format!("unmap {device}")).says("");
    lab.vlmc("export volume out").says("");
    assert!(fs::read(lab.path("out")).unwrap() == read);
}
