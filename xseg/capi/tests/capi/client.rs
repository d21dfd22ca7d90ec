//! The C client of `tests/c/client.c` against a node of real peers.

use std::path::Path;
use std::process::Command;

use crate::compiler;
use crate::lab::Lab;

#[test]
fn a_client_like_qemus_driver_works_on_a_volume() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/client.c");
    let folder = compiler::folder();
    let Some(program) = compiler::compile(&source, folder.path()) else {
        return;
    };
    let lab = Lab::start();
    let output = Command::new("timeout")
        .arg("120")
        .arg(&program)
        .args(["archipelago", "3", "4"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("ARCHIPELAGO_RUN_DIR", lab.dir().join("run"))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {err}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "client done\n");
}
