//! The clients of the world: libnbd's tools and Python binding, qemu, fio.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use archip_nbd::backends::MemoryExport;
use archip_nbd::{Op, Options};

use crate::lab::Lab;

const SIZE: usize = 8 << 20;

/// Runs a tool for at most a minute; it must succeed. `None`, with a line: it is not installed.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> Option<String> {
    run_within(60, tool, arguments)
}

/// The same for at most so many seconds.
pub(crate) fn run_within(seconds: u64, tool: &str, arguments: &[&str]) -> Option<String> {
    let output = output_within(seconds, tool, arguments)?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{tool} {arguments:?}: {out}{err}");
    Some(out)
}

fn output(tool: &str, arguments: &[&str]) -> Option<Output> {
    output_within(60, tool, arguments)
}

fn output_within(seconds: u64, tool: &str, arguments: &[&str]) -> Option<Output> {
    let found =
        std::env::split_paths(&std::env::var_os("PATH")?).any(|dir| dir.join(tool).exists());
    if !found {
        eprintln!("skipped: {tool} is not installed");
        return None;
    }
    let command = Command::new("timeout")
        .args([&seconds.to_string(), tool])
        .args(arguments)
        .output();
    Some(command.expect("coreutils' timeout runs"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of `SIZE` bytes: data, a hole, data that differs in every block.
fn image(path: &Path) {
    let mut bytes = vec![0u8; SIZE];
    for (index, block) in bytes.chunks_mut(512).enumerate() {
        if !(4096..8192).contains(&index) {
            block.fill((index % 251) as u8);
            block[..8].copy_from_slice(&(index as u64).to_le_bytes());
        }
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn nbdinfo_sees_what_the_server_can_do() {
    let lab = Lab::new(SIZE);
    let Some(info) = run("nbdinfo", &["--json", &lab.uri()]) else {
        return;
    };
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["structured"], true);
    let export = &info["exports"][0];
    assert_eq!(export["export-name"], "vol");
    assert_eq!(export["export-size"], SIZE);
    assert_eq!(export["contexts"][0], "base:allocation");
    for can in [
        "df",
        "fast_zero",
        "flush",
        "fua",
        "multi_conn",
        "trim",
        "zero",
    ] {
        assert_eq!(export[format!("can_{can}")], true, "{can}");
    }
    assert_eq!(export["block_size_minimum"], 1);
    assert_eq!(export["block_size_maximum"], 32 << 20);
    let list = run("nbdinfo", &["--list", &lab.uri()]).unwrap();
    assert!(list.contains("export=\"vol\""), "{list}");
    let map = run("nbdinfo", &["--map", "--json", &lab.uri()]).unwrap();
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    assert_eq!(
        (&map[0]["length"], &map[0]["type"]),
        (&SIZE.into(), &3.into())
    );
    let strange = lab.uri().replace("/vol?", "/other?");
    assert!(!output("nbdinfo", &[&strange]).unwrap().status.success());
}

#[test]
fn nbdcopy_brings_back_what_it_took() {
    let lab = Lab::new(SIZE);
    let (here, back) = (lab.dir.path().join("here"), lab.dir.path().join("back"));
    image(&here);
    let (here_name, back_name) = (here.to_str().unwrap(), back.to_str().unwrap());
    if run(
        "nbdcopy",
        &["--connections=4", "--flush", here_name, &lab.uri()],
    )
    .is_none()
    {
        return;
    }
    assert!(lab.backend.knobs().ops.contains(&Op::Flush));
    run("nbdcopy", &["--connections=4", &lab.uri(), back_name]);
    assert!(fs::read(&here).unwrap() == fs::read(&back).unwrap());
}

#[test]
fn qemu_img_converts_compares_and_maps() {
    let lab = Lab::new(SIZE);
    let here = lab.dir.path().join("here");
    image(&here);
    let here = here.to_str().unwrap();
    let uri = lab.uri();
    if run(
        "qemu-img",
        &["convert", "-n", "-f", "raw", "-O", "raw", here, &uri],
    )
    .is_none()
    {
        return;
    }
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", here, &uri],
    );
    let info = run("qemu-img", &["info", "-f", "raw", "--output=json", &uri]).unwrap();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"], SIZE);
    let map = run("qemu-img", &["map", "-f", "raw", "--output=json", &uri]).unwrap();
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let hole = map
        .as_array()
        .unwrap()
        .iter()
        .find(|part| part["zero"] == true)
        .unwrap();
    assert_eq!(
        (&hole["start"], &hole["length"]),
        (&(2 << 20).into(), &(2 << 20).into())
    );
}

#[test]
fn qemu_io_reads_writes_zeroes_and_discards() {
    let lab = Lab::new(SIZE);
    let commands = [
        "write -P 5 4k 64k",
        "write -z 8k 8k",
        "write -z -u 16k 4k",
        "discard 32k 16k",
        "write -f -P 9 1M 3M",
        "flush",
        "read -P 5 4k 4k",
        "read -P 0 8k 12k",
        "read -P 0 32k 16k",
        "read -P 9 1M 3M",
        "aio_write -P 7 5000 70000",
        "aio_flush",
        "read -P 7 5000 70000",
    ];
    let mut arguments = vec!["-f", "raw"];
    commands
        .iter()
        .for_each(|command| arguments.extend(["-c", command]));
    let uri = lab.uri();
    arguments.push(&uri);
    let Some(out) = run("qemu-io", &arguments) else {
        return;
    };
    assert!(!out.contains("failed") && !out.contains("error"), "{out}");
    let knobs = lab.backend.knobs();
    let has = |want: fn(&Op) -> bool| knobs.ops.iter().any(want);
    assert!(has(|op| matches!(
        op,
        Op::WriteZeroes { no_hole: true, .. }
    )));
    assert!(has(|op| matches!(
        op,
        Op::WriteZeroes { no_hole: false, .. }
    )));
    assert!(has(|op| matches!(op, Op::Trim { .. })));
    assert!(has(|op| matches!(op, Op::Write { fua: true, .. })));
}

#[test]
fn fio_verifies_what_it_wrote() {
    let lab = Lab::new(SIZE);
    let uri = format!("--uri={}", lab.uri());
    let arguments = [
        "--name=verify",
        "--ioengine=nbd",
        &uri,
        "--rw=randwrite",
        "--bsrange=512-128k",
        "--size=8M",
        "--iodepth=32",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--randrepeat=1",
        "--fsync=16",
        "--verify_state_save=0",
    ];
    if run("fio", &arguments).is_some() {
        let knobs = lab.backend.knobs();
        assert!(
            knobs.ops.iter().any(|op| matches!(op, Op::Read { .. })),
            "it verified"
        );
        assert_eq!(knobs.buffers_taken, 0);
    }
}

/// Runs one function of `check.py` with Debian's Python, where its `nbd` module lives.
fn python(lab: &Lab, function: &str) -> bool {
    let python = "/usr/bin/python3";
    let module = Command::new(python).args(["-c", "import nbd"]).output();
    if !module.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: /usr/bin/python3 with module nbd (python3-libnbd) is not installed");
        return false;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/check.py");
    let script = script.to_str().unwrap();
    let command = ["60", python, script, function, &lab.uri()];
    let output = Command::new("timeout").args(command).output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{function}: {out}{err}");
    true
}

#[test]
fn python_sees_holes_and_flags() {
    let lab = Lab::new(SIZE);
    if python(&lab, "holes_and_flags") {
        let knobs = lab.backend.knobs();
        let fua = knobs.ops.iter().filter(|op| {
            matches!(op, Op::Write { fua: true, .. } | Op::Trim { fua: true, .. })
                || matches!(
                    op,
                    Op::WriteZeroes {
                        fua: true,
                        fast: true,
                        ..
                    }
                )
        });
        assert_eq!(fua.count(), 3);
    }
}

#[test]
fn python_gets_the_right_errors() {
    let lab = Lab::new(SIZE);
    lab.backend
        .set(|knobs| knobs.bad = Some((1 << 20, libc::ESTALE)));
    python(&lab, "errors");
}

#[test]
fn python_may_not_write_what_is_read_only() {
    let memory = MemoryExport::new("vol", SIZE).with_read_only(true);
    python(&Lab::with(memory, Options::default()), "read_only");
}

#[test]
fn python_works_without_structured_replies() {
    python(&Lab::new(SIZE), "simple_replies");
}

#[test]
fn python_shares_the_volume_over_four_connections() {
    let lab = Lab::new(SIZE);
    lab.backend.set(|knobs| knobs.reverse = true);
    python(&lab, "four_connections");
}
