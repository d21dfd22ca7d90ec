//! The confinement bites: a process that confined itself as a peer does tries what it may not.
//! (`vlmc/tests/cli/sandbox.rs` sees that real peers are confined so, and that they still work.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `cargo test` builds it, unless it is told to build one test alone.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("examples/confined");
    assert!(
        path.exists(),
        "{} is missing: cargo build -p archip-node --examples",
        path.display()
    );
    path
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in ["blocks", "run", "log", "ceph"] {
        fs::create_dir(dir.path().join(part)).unwrap();
    }
    for file in [
        "beside",
        "run/blockerb.pid",
        "log/old.log",
        "ceph/ceph.conf",
    ] {
        fs::write(dir.path().join(file), "x").unwrap();
    }
    dir
}

fn attempt(dir: &Path, attempts: &[&str]) -> Output {
    Command::new(example())
        .env("RUST_BACKTRACE", "1")
        .arg(dir)
        .args(attempts)
        .output()
        .unwrap()
}

/// Whether this kernel has both layers; the process has said what it lacks otherwise.
fn is_confined(output: &Output) -> bool {
    let out = String::from_utf8_lossy(&output.stdout);
    if out.starts_with("missing") {
        eprintln!("skipped: {out}");
    }
    out.starts_with("confined")
}

#[test]
fn what_a_peer_needs_it_may_and_nothing_else() {
    let (no_right, no_call) = (libc::EACCES.to_string(), libc::EPERM.to_string());
    let expected = [
        ("read-passwd", no_right.as_str()),
        ("write-passwd", &no_right),
        ("read-beside", &no_right),
        ("ring-reads-passwd", &no_right),
        ("ring-makes-block", "ok"),
        ("make-block", "ok"),
        ("move-block", "ok"),
        ("make-log", "ok"),
        ("read-log", &no_right),
        ("make-pid", &no_right),
        ("remove-pid", "ok"),
        ("thread-reads-passwd", &no_right),
        ("internet", &no_call),
        ("executable-memory", &no_call),
        ("trace", &no_call),
    ];
    let dir = folder();
    let output = attempt(dir.path(), &expected.map(|(name, _)| name));
    if !is_confined(&output) {
        return;
    }
    let out = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = out.lines().skip(1).collect();
    let expected = expected.map(|(name, outcome)| format!("{name} {outcome}"));
    assert_eq!(lines, expected, "{output:?}");
}

/// librados reads the system and its configuration, and talks over the network; no more than that.
#[test]
fn what_librados_needs_a_peer_over_rados_may_and_nothing_else() {
    let no_right = libc::EACCES.to_string();
    let expected = [
        ("over-rados", "ok"),
        ("read-conf", "ok"),
        ("write-conf", no_right.as_str()),
        ("read-passwd", "ok"),
        ("write-passwd", &no_right),
        ("read-beside", &no_right),
        ("make-block", &no_right),
        ("ring-makes-block", &no_right),
        ("make-log", "ok"),
        ("read-log", &no_right),
        ("make-pid", "ok"),
        ("internet", "ok"),
        ("run-program", &no_right),
    ];
    let dir = folder();
    let output = attempt(dir.path(), &expected.map(|(name, _)| name));
    if !is_confined(&output) {
        return;
    }
    let out = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = out.lines().skip(1).collect();
    let expected = expected.map(|(name, outcome)| format!("{name} {outcome}"));
    assert_eq!(lines, expected, "{output:?}");
}

/// A call that is missing in the list must be found by who reads the log.
#[test]
fn each_refused_call_is_told_once() {
    let dir = folder();
    let output = attempt(dir.path(), &["internet", "internet", "trace"]);
    if !is_confined(&output) {
        return;
    }
    let expected = [libc::SYS_socket, libc::SYS_ptrace].map(|call| {
        format!("SANDBOX: system call {call} was refused (EPERM); see docs/decisions/0013\n")
    });
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected.concat());
}

#[test]
fn no_program_is_run() {
    let dir = folder();
    let output = attempt(dir.path(), &["run-program"]);
    if !is_confined(&output) {
        return;
    }
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(!out.contains("run-program ok"), "{output:?}");
}

/// Who looks for the cause of a panic has its backtrace, with names.
#[test]
fn a_panic_is_told_in_full() {
    let dir = folder();
    let output = attempt(dir.path(), &["panic"]);
    if !is_confined(&output) {
        return;
    }
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("of the example"), "{err}");
    assert!(err.contains("confined::attempt_at"), "{err}");
    assert!(!err.contains("SANDBOX"), "{err}");
}

/// A kernel update must not be an outage: what is missing is named, and the rest holds.
#[test]
fn a_kernel_without_landlock_is_no_reason_not_to_serve() {
    let dir = folder();
    let output = attempt(dir.path(), &["without-landlock", "read-beside", "internet"]);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("files: false, calls: true"), "{output:?}");
    assert!(out.contains("missing: [\"Landlock ("), "{out}");
    let refused = format!("read-beside ok\ninternet {}\n", libc::EPERM);
    assert!(out.ends_with(&refused), "{out}");
}

/// A thread that began before would not be confined, and could do all that the process may not.
#[test]
fn a_process_of_two_threads_is_refused() {
    let dir = folder();
    let output = attempt(dir.path(), &["second-thread"]);
    assert!(!output.status.success());
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("the process has 2 threads already"), "{err}");
}
