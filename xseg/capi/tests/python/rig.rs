//! A Python to run tests with, and a folder that is cleaned up after them.

use std::path::{Path, PathBuf};
use std::process::Command;

use node::supervisor::pids;
use tempfile::TempDir;

const DEBIAN: &str = "/usr/bin/python3";
/// Seconds after which a test file hangs.
const PATIENCE: &str = "240";

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python")
}

/// Where this test is, and what cargo built beside it.
fn beside(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(name)
}

/// The programs; cargo puts them one folder above the tests.
fn programs() -> PathBuf {
    let programs = beside("..").canonicalize().unwrap();
    for name in [
        "archip-filed",
        "archip-vlmcd",
        "vlmc",
        "archipelago",
        "xseg",
    ] {
        let missing = "is missing: build the programs first, with `cargo build --workspace --bins`";
        assert!(programs.join(name).exists(), "{name} {missing}");
    }
    programs
}

/// A Python interpreter.
pub(crate) struct Python(PathBuf);

impl Python {
    /// Debian's. `None`, said aloud: there is none.
    pub(crate) fn debian() -> Option<Python> {
        if !Path::new(DEBIAN).exists() {
            eprintln!("skipped: {DEBIAN} is not installed");
            return None;
        }
        Some(Python(DEBIAN.into()))
    }

    /// Debian's with packages from PyPI, in an environment of its own that stays in the target
    /// folder. `None`, said aloud: it can't be made.
    pub(crate) fn with(name: &str, packages: &[&str]) -> Option<Python> {
        Python::debian()?;
        let folder = beside("../python").join(name);
        let python = folder.join("bin/python3");
        let ready = folder.join("ready");
        if !ready.exists() {
            let made = Command::new(DEBIAN)
                .args(["-m", "venv", "--clear"])
                .arg(&folder)
                .output();
            let pip = |words: &[&str]| {
                Command::new(&python)
                    .args(["-m", "pip", "--disable-pip-version-check", "--quiet"])
                    .args(["--retries", "1", "--timeout", "20", "install"])
                    .args(words)
                    .output()
            };
            let done = made.is_ok_and(|o| o.status.success())
                && pip(packages).is_ok_and(|o| o.status.success());
            if !done {
                eprintln!(
                    "skipped: python3-venv or pip can't get {}",
                    packages.join(" ")
                );
                return None;
            }
            std::fs::write(ready, "").unwrap();
        }
        Some(Python(python))
    }

    /// Runs a module over the sources.
    pub(crate) fn module(&self, module: &str, arguments: &[&str]) {
        let mut command = Command::new(&self.0);
        command.args(["-m", module]).args(arguments);
        command.current_dir(modules());
        finish(&mut command, module);
    }
}

fn finish(command: &mut Command, what: &str) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{what}: {}\n{said}", output.status);
}

/// A folder for the tests of one file.
pub(crate) struct Rig(TempDir);

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig(tempfile::Builder::new().prefix("py").tempdir().unwrap())
    }

    /// Runs the tests of `file`.
    pub(crate) fn run(&self, python: &Python, file: &str) {
        let library = beside("libxseg_c.so");
        assert!(library.exists(), "{} was not built", library.display());
        let mut command = Command::new("timeout");
        command
            .arg(PATIENCE)
            .arg(&python.0)
            .args(["-B", "-m", "unittest", file])
            .current_dir(modules().join("tests"))
            .env("PYTHONPATH", modules())
            .env("TMPDIR", self.0.path())
            .env("ARCHIPELAGO_LIBXSEG", library)
            .env("ARCHIPELAGO_BIN_DIR", programs())
            .env("ARCHIPELAGO_TARGET_DIR", beside(".."))
            .env_remove("ARCHIPELAGO_RUN_DIR");
        finish(&mut command, file);
    }
}

impl Drop for Rig {
    /// Programs that a killed test left: they have our folder in their environment. A supervisor
    /// may start one more while we look, so we look until there is none.
    fn drop(&mut self) {
        let ours = format!("TMPDIR={}", self.0.path().display());
        while processes()
            .filter(|&pid| is_told(pid, &ours))
            .map(kill)
            .count()
            > 0
        {}
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process has this in its environment; a zombie has none.
fn is_told(pid: i32, variable: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|all| all.split(|&b| b == 0).any(|one| one == variable.as_bytes()))
}

fn kill(pid: i32) {
    if let Ok(process) = pids::Pidfd::open(pid) {
        // Gone already is as good.
        let _ = process.signal(nix::sys::signal::Signal::SIGKILL);
    }
}
