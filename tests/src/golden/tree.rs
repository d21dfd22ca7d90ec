//! What lies in a tree, to compare; and what `decode.py` says of it.
//!
//! A tree is a directory with `maps`, `blocks` and `locks`. Contents are compared without the
//! zeros at their end, because O_DIRECT pads every file to 512 bytes. The marker `.archipelago`,
//! which the original never had, is left out.

use crate::golden::archive::{PYTHON, golden_dir};
use mapfile::strip_trailing_zeros;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The directories of a tree.
pub const PARTS: [&str; 3] = ["maps", "blocks", "locks"];

/// What is compared of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileFacts {
    /// sha256 of the content without the zeros at its end, in hexadecimal.
    pub content: String,
    /// Bytes.
    pub len: u64,
    /// Permissions.
    pub mode: u32,
}

/// The files of a tree by their paths, like `maps/96/42/c5/goldvol1`.
pub type Files = BTreeMap<String, FileFacts>;

/// All files of the tree at `dir`.
pub fn files(dir: &Path) -> Files {
    let mut found = Files::new();
    walk(dir, &mut |path, is_dir| {
        if !is_dir {
            found.insert(relative(dir, path), facts(path));
        }
    });
    found
}

/// Where an object of `part` lies, as its name's hash says.
pub fn place(dir: &Path, part: &str, object: &str) -> PathBuf {
    let hash = sha256(object.as_bytes());
    let dirs = [&hash[..2], &hash[2..4], &hash[4..6], object];
    dirs.iter()
        .fold(dir.join(part), |path, name| path.join(name))
}

/// Makes the tree at `from` all that is in the one at `to`, but for a node's markers.
pub fn copy(from: &Path, to: &Path) {
    let parts = PARTS.map(|part| to.join(part));
    for part in parts.iter().filter(|part| part.exists()) {
        for entry in std::fs::read_dir(part).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                std::fs::remove_dir_all(entry.path()).unwrap();
            } else if entry.file_name() != ".archipelago" {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    let mut command = Command::new("cp");
    command.args(["-a", "--sparse=always"]);
    command.arg(from.join(".")).arg(to);
    let copied = command.status().unwrap().success();
    assert!(copied, "{} is not copied", from.display());
}

/// The paths below `dir` whose permissions are not those that umask 007 leaves: 0660 and 0770.
pub fn wrong_modes(dir: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    walk(dir, &mut |path, is_dir| {
        let mode = std::fs::metadata(path).unwrap().mode() & 0o7777;
        if mode != if is_dir { 0o770 } else { 0o660 } {
            wrong.push(format!("{} {mode:o}", relative(dir, path)));
        }
    });
    wrong
}

fn relative(dir: &Path, path: &Path) -> String {
    let path = path.strip_prefix(dir).unwrap();
    path.to_str().unwrap().to_owned()
}

fn walk(dir: &Path, see: &mut dyn FnMut(&Path, bool)) {
    let mut left: Vec<_> = PARTS.iter().map(|part| dir.join(part)).collect();
    left.retain(|dir| dir.exists());
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_name() == ".archipelago" {
                continue;
            }
            let is_dir = entry.file_type().unwrap().is_dir();
            see(&entry.path(), is_dir);
            if is_dir {
                left.push(entry.path());
            }
        }
    }
}

fn facts(path: &Path) -> FileFacts {
    let bytes = std::fs::read(path).unwrap();
    FileFacts {
        content: sha256(strip_trailing_zeros(&bytes)),
        len: bytes.len() as u64,
        mode: std::fs::metadata(path).unwrap().mode() & 0o7777,
    }
}

/// sha256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the independent decoder on the tree at `dir`.
pub fn decoder(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(PYTHON);
    command.arg(golden_dir().join("decode.py"));
    command.args([dir.join("maps"), dir.join("blocks")]);
    command.args(args).output().unwrap()
}

/// What the independent decoder prints; it must be content.
pub fn decoded(dir: &Path, args: &[&str]) -> String {
    let output = decoder(dir, args);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "decode.py {args:?}: {text}{errors}"
    );
    text
}

/// What the independent decoder finds in a tree that is well, as JSON: its `volumes`, `notes` and
/// `counts`.
pub fn checked(dir: &Path) -> Value {
    serde_json::from_str(&decoded(dir, &["--check", "--json"])).unwrap()
}

/// sha256 of a volume's content as the independent decoder reads it.
pub fn decoded_hash(dir: &Path, volume: &str) -> String {
    decoded(dir, &["--hash", volume]).trim().to_owned()
}

/// After a stop: no lock and no temporary file is left, the decoder is content, and every file has
/// a name that the original would give one. Returns what the decoder found.
pub fn assert_servable_by_the_original(dir: &Path) -> Value {
    let found = checked(dir);
    let names = |key: &str| -> Vec<String> {
        let volumes = found["volumes"].as_array().unwrap();
        volumes
            .iter()
            .map(|v| v[key].as_str().unwrap().to_owned())
            .collect()
    };
    let (headers, volumes) = (names("header_object"), names("name"));
    for path in files(dir).keys() {
        let (part, name) = (
            path.split('/').next().unwrap(),
            path.rsplit('/').next().unwrap(),
        );
        let known = match part {
            "maps" => headers.iter().any(|header| is_map_object(header, name)),
            "blocks" => is_block(&volumes, name),
            _ => false,
        };
        assert!(known, "{path} is nothing that the original would make");
    }
    found
}

fn is_map_object(header: &str, name: &str) -> bool {
    name == header
        || name
            .strip_prefix(header)
            .is_some_and(|rest| numbers(rest) == Some(1))
}

fn is_block(volumes: &[String], name: &str) -> bool {
    let hash = name.strip_prefix("archip_").unwrap_or(name);
    let is_hash = mapfile::name::is_hash_name(hash.as_bytes());
    let of = |volume: &String| {
        name.strip_prefix(volume.as_str())
            .is_some_and(|rest| numbers(rest) == Some(2))
    };
    is_hash || volumes.iter().any(of)
}

/// How many times `_` and 16 hexadecimal digits `text` is, and nothing else.
fn numbers(text: &str) -> Option<usize> {
    let mut parts = text.split('_');
    let is_number = |part: &str| {
        part.len() == 16 && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    (parts.next() == Some("") && parts.clone().all(is_number)).then(|| parts.count())
}
