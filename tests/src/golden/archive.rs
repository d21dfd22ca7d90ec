//! An archive of `tests/golden`, unpacked, and what the manifest says of it.
//!
//! It lies in a temporary directory and goes when the test ends, however it ends. Where a tool is
//! missing [`Archive::unpack`] says so and gives nothing.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Debian's python3; the decoder needs its standard library only.
pub const PYTHON: &str = "/usr/bin/python3";

/// `tests/golden`.
pub fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// What `manifest.json` says of `archive`.
pub fn manifest(archive: &str) -> Value {
    let text = std::fs::read(golden_dir().join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_slice(&text).unwrap();
    manifest["trees"][archive].take()
}

/// The first tool that these tests need and this machine lacks.
pub fn missing_tool() -> Option<&'static str> {
    ["zstd", "tar", PYTHON].into_iter().find(|tool| {
        let mut command = Command::new(tool);
        let status = command.arg("--version").stdout(Stdio::null()).status();
        !status.is_ok_and(|status| status.success())
    })
}

/// An unpacked archive.
pub struct Archive {
    dir: TempDir,
    /// Its name: `v2-direct` or `legacy`.
    pub name: String,
    /// What the manifest says of it.
    pub manifest: Value,
}

/// A stage of an archive.
#[derive(Clone, Debug)]
pub struct Stage {
    /// `03-snapshot`.
    pub name: String,
    /// Whether its tree is in the archive.
    pub kept: bool,
    /// What was done since the stage before.
    pub ops: Vec<Value>,
    /// What was read afterwards: an object, or null.
    pub volumes: Value,
}

impl Archive {
    /// Unpacks `archive`, unless a tool for it is missing.
    pub fn unpack(archive: &str) -> Option<Archive> {
        if let Some(tool) = missing_tool() {
            eprintln!("SKIPPED: golden tree {archive}: {tool} is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = golden_dir().join(format!("{archive}.tar.zst"));
        let mut zstd = Command::new("zstd");
        zstd.args(["-dc", "--long=27"]).arg(file);
        let mut zstd = zstd.stdout(Stdio::piped()).spawn().unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-xf", "-", "-C"]).arg(dir.path());
        let tar = tar.stdin(zstd.stdout.take().unwrap()).status();
        let unpacked = zstd.wait().unwrap().success() && tar.unwrap().success();
        assert!(unpacked, "{archive} does not unpack");
        Some(Archive {
            dir,
            name: archive.to_owned(),
            manifest: manifest(archive),
        })
    }

    /// All stages, in their order.
    pub fn stages(&self) -> Vec<Stage> {
        stages(&self.manifest)
    }

    /// The tree of a kept stage.
    pub fn tree(&self, stage: &str) -> PathBuf {
        self.dir.path().join(&self.name).join(stage)
    }

    /// A copy of a kept stage's tree.
    pub fn copy_of(&self, stage: &str) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        super::tree::copy(&self.tree(stage), copy.path());
        copy
    }

    /// The names of the files of a stage, kept or not, as the archive's own manifest lists them.
    pub fn file_names(&self, stage: &str) -> Vec<String> {
        let file = self.dir.path().join(&self.name).join("manifest.json");
        let own: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let stages = own["stages"].as_array().unwrap();
        let found = stages.iter().find(|found| found["stage"] == stage).unwrap();
        found["files"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }
}

/// The stages of an archive, in their order.
pub fn stages(manifest: &Value) -> Vec<Stage> {
    let stages = manifest["stages"].as_array().unwrap();
    let stage = |stage: &Value| Stage {
        name: stage["stage"].as_str().unwrap().to_owned(),
        kept: stage["tree_kept"].as_bool().unwrap(),
        ops: stage["ops"].as_array().unwrap().clone(),
        volumes: stage["volumes"].clone(),
    };
    stages.iter().map(stage).collect()
}

/// The bytes that the manifest's `data` of a write stands for (`pattern` explains how).
pub fn data(parts: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts.as_array().unwrap() {
        if let Some(len) = part["zeros"].as_u64() {
            bytes.resize(bytes.len() + len as usize, 0);
        } else if let Some(tag) = part["pat"].as_str() {
            pattern(&mut bytes, tag, part["len"].as_u64().unwrap() as usize);
        } else {
            panic!("data of an unknown kind: {part}");
        }
    }
    bytes
}

/// Records of 16 bytes: the tag, and the offset of the record in its part.
fn pattern(bytes: &mut Vec<u8>, tag: &str, len: usize) {
    let mut records = String::with_capacity(len + 16);
    for at in (0..len).step_by(16) {
        records += &format!("{tag:.<6}:{at:08x}\n");
    }
    bytes.extend_from_slice(&records.as_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::tree::sha256;

    /// The recipe gives the very bytes that the original was given.
    #[test]
    fn data_of_all_writes_has_its_hash() {
        let mut checked = 0;
        for archive in ["v2-direct", "legacy"] {
            let ops = stages(&manifest(archive))
                .into_iter()
                .flat_map(|stage| stage.ops);
            for op in ops.filter(|op| op["data_sha256"].is_string()) {
                assert_eq!(op["data_sha256"], sha256(&data(&op["data"])), "{op}");
                checked += 1;
            }
        }
        assert_eq!(checked, 38);
    }
}
