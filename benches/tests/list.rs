//! The program's own manners.

use std::process::{Command, Stdio};

/// `archip-benches --list | head` ended in a panic about a broken pipe.
#[test]
fn a_reader_may_leave_early() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_archip-benches"))
        .args(["--list", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
