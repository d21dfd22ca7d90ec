//! Trees that the original program wrote, with what it said about them: every header and chunk
//! comes back byte for byte, and every volume has the content that the original read from it.
//! `tests/golden/decode.py`, written from the description of the formats alone, has to agree.
//!
//! A test unpacks its archive (some hundred MB) and removes it when it ends, however it ends. Without zstd, tar or python3 a test says so and does nothing.

use crate::tree::{Tree, Volume, hex, sha256};
use mapfile::{
    Header, Listing, MapFlags, Names, Recognised, V0Hint, Version, classify, decode, encode,
    merkle_root, shown_name, strip_trailing_zeros,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Debian's python3; the decoder needs its standard library only.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

pub(crate) fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn manifest() -> Value {
    let text = std::fs::read(golden_dir().join("manifest.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn missing_tool() -> Option<&'static str> {
    ["zstd", "tar", PYTHON].into_iter().find(|tool| {
        let status = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        !status.is_ok_and(|status| status.success())
    })
}

/// Unpacks an archive, unless a tool for it is missing.
fn unpack(archive: &str) -> Option<TempDir> {
    if let Some(tool) = missing_tool() {
        eprintln!("SKIPPED: golden tree {archive}: {tool} is not installed");
        return None;
    }
    let dir = TempDir::new().unwrap();
    let mut zstd = Command::new("zstd")
        .args(["-dc", "--long=27"])
        .arg(golden_dir().join(format!("{archive}.tar.zst")))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tar = Command::new("tar")
        .args(["-xf", "-", "-C"])
        .arg(dir.path())
        .stdin(zstd.stdout.take().unwrap())
        .status();
    assert!(
        zstd.wait().unwrap().success() && tar.unwrap().success(),
        "{archive} does not unpack"
    );
    Some(dir)
}

/// One kept stage: the two directories as they were left.
struct Stage {
    name: String,
    maps: Tree,
    blocks: Tree,
}

impl Stage {
    fn new(archive: &Path, name: &str) -> Stage {
        let at = |part: &str| Tree::new(archive.join(name).join(part));
        Stage {
            name: name.to_owned(),
            maps: at("maps"),
            blocks: at("blocks"),
        }
    }

    /// Runs the independent decoder, which must be content, and returns what it printed.
    fn python(&self, args: &[&str]) -> String {
        let mut command = Command::new(PYTHON);
        command
            .arg(golden_dir().join("decode.py"))
            .args([self.maps.root(), self.blocks.root()])
            .args(args);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{} {args:?}: {text}{errors}",
            self.name
        );
        text
    }

    fn check_hash(&self, volume: &str, v0_size: Option<u64>, expected: &str) {
        let hint = v0_size.map(|size| V0Hint { size: Some(size) });
        let ours = Volume::load(&self.maps, volume, hint).hash(&self.blocks);
        assert_eq!(ours, expected, "{} in {}", volume, self.name);
        let size = v0_size.unwrap_or_default().to_string();
        let assume_v0: &[&str] = if v0_size.is_some() {
            &["--assume-v0", "--v0-size", &size]
        } else {
            &[]
        };
        let theirs = self.python(&[&["--hash", volume], assume_v0].concat());
        assert_eq!(
            theirs.trim(),
            expected,
            "{} in {} (decode.py)",
            volume,
            self.name
        );
    }

    /// Every v2 header and chunk comes back byte for byte. Returns how many there were.
    fn check_bytes(&self) -> (usize, usize) {
        let (mut headers, mut chunks) = (0, 0);
        for path in self.maps.files() {
            let bytes = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            if bytes.starts_with(b"AMF.") {
                assert_eq!(
                    Header::parse(&bytes).unwrap().encode(),
                    bytes[..32],
                    "{}",
                    path.display()
                );
                headers += 1;
            } else if let Some(chunk) = chunk_number(name) {
                check_chunk(&bytes, chunk, &path);
                chunks += 1;
            }
        }
        (headers, chunks)
    }

    /// The decoder finds nothing wrong, and sees the same maps that a scan of ours sees.
    fn check_listing(&self) {
        let listing: Value = serde_json::from_str(&self.python(&["--check", "--json"])).unwrap();
        let theirs: BTreeMap<_, _> = listing["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(their_volume)
            .collect();
        let ours: BTreeMap<_, _> = self
            .maps
            .files()
            .iter()
            .filter_map(|path| our_volume(path))
            .collect();
        assert_eq!(ours, theirs, "{}", self.name);
    }
}

fn chunk_number(name: &str) -> Option<u64> {
    let (_, digits) = name
        .rsplit_once('_')
        .filter(|(_, digits)| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn check_chunk(bytes: &[u8], chunk: u64, path: &Path) {
    let len = strip_trailing_zeros(bytes).len().next_multiple_of(128);
    let (first, mut names, mut again) = (chunk * 32768, Names::new(), Vec::new());
    let entries = decode(Version::V2, &bytes[..len], first, &mut names);
    encode(
        &entries.unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        first,
        &names,
        &mut again,
    );
    assert_eq!(again, bytes[..len], "{}", path.display());
}

/// Name, and what a listing tells of a volume: version, flags, and epoch and size of a v2 header.
type Listed = (String, (u64, bool, bool, Option<(u64, u64)>));

fn our_volume(path: &Path) -> Option<Listed> {
    let bytes = std::fs::read(path).unwrap();
    let name = path.file_name().unwrap().as_bytes();
    let Listing {
        version,
        flags: MapFlags { readonly, deleted },
    } = classify(name, &bytes[..bytes.len().min(32)])?;
    let header = Header::parse(&bytes)
        .ok()
        .map(|header| (header.epoch.0, header.geometry.size()));
    let shown = String::from_utf8(shown_name(name).to_vec()).unwrap();
    Some((shown, (version.into(), readonly, deleted, header)))
}

fn their_volume(volume: &Value) -> Listed {
    let number = |key: &str| volume[key].as_u64().unwrap();
    let flag = |key: &str| volume[key].as_bool().unwrap();
    let header = (number("version") == 2).then(|| (number("epoch"), number("size")));
    let name = volume["name"].as_str().unwrap().to_owned();
    (
        name,
        (number("version"), flag("readonly"), flag("deleted"), header),
    )
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn kept(stage: &Value) -> bool {
    stage["tree_kept"].as_bool().unwrap()
}

#[test]
fn a_life_of_v2_volumes() {
    let Some(dir) = unpack("v2-direct") else {
        return;
    };
    let manifest = manifest();
    let stages = manifest["trees"]["v2-direct"]["stages"].as_array().unwrap();
    let (mut headers, mut chunks, mut hashes) = (0, 0, 0);
    let mut at_the_end = &Value::Null;
    for stage in stages {
        // The stages after this one write nothing, and do not repeat the hashes.
        if text(stage, "stage") == "19-final" {
            at_the_end = &stage["volumes"];
        }
        let volumes = if at_the_end.is_null() {
            &stage["volumes"]
        } else {
            at_the_end
        };
        if !kept(stage) {
            continue;
        }
        let tree = Stage::new(&dir.path().join("v2-direct"), text(stage, "stage"));
        let found = tree.check_bytes();
        (headers, chunks) = (headers + found.0, chunks + found.1);
        tree.check_listing();
        for (name, volume) in volumes.as_object().unwrap() {
            tree.check_hash(name, None, text(volume, "sha256"));
            hashes += 1;
        }
    }
    assert_eq!((headers, chunks, hashes), (127, 123, 46));
}

#[test]
fn maps_of_older_versions() {
    let Some(dir) = unpack("legacy") else { return };
    let manifest = manifest();
    let tree = &manifest["trees"]["legacy"];
    let volumes = tree["volumes"].as_object().unwrap();
    let mut hashes = 0;
    for stage in tree["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|stage| kept(stage))
    {
        let tree = Stage::new(&dir.path().join("legacy"), text(stage, "stage"));
        tree.check_bytes();
        tree.check_listing();
        for (name, volume) in volumes {
            if let Some(expected) = legacy_hash(&tree.name, name, volume) {
                let is_v0 = text(volume, "kind").starts_with("v0");
                tree.check_hash(
                    name,
                    is_v0.then(|| volume["size"].as_u64().unwrap()),
                    expected,
                );
                hashes += 1;
            }
        }
    }
    // Eight stages of seven volumes, and the clone from the fourth on.
    assert_eq!(hashes, 8 * 7 + 5);
}

/// The content of a volume at a stage; None if it does not exist yet.
fn legacy_hash<'a>(stage: &str, name: &str, volume: &'a Value) -> Option<&'a str> {
    match (name, stage) {
        ("fromv0D01", early) if early < "10" => None,
        ("legacyv1a", "14-v1-written") => Some(text(volume, "sha256_after_writes")),
        // Upgraded without a size, and so to that of its one block, filled up with zeros.
        ("7618dab0447d01a5595543b24794861c43f84d56233a1dbc85a316e00f54da11", late)
            if late >= "11" =>
        {
            Some("7f577c7c94883432c1947a101350f6f3194193a164221d82340524666b21d7d5")
        }
        // One whole Pithos block, which is named by its content.
        ("legacyv1b", _) => {
            Some("677069a6b177697104d5e44fb4f1160133cbe5d32fc3eb0e4eab1c1f1f434a01")
        }
        _ => Some(text(volume, "sha256")),
    }
}

/// v0 maps are named by the Merkle root of what they list.
#[test]
fn merkle_roots_are_those_of_pithos() {
    let manifest = manifest();
    let volumes = manifest["trees"]["legacy"]["volumes"].as_object().unwrap();
    let v0: Vec<_> = volumes
        .iter()
        .filter(|(_, volume)| text(volume, "kind").starts_with("v0"))
        .collect();
    assert_eq!(v0.len(), 5);
    for (name, volume) in v0 {
        let hashes: Vec<_> = volume["hashes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|h| h.as_str().unwrap())
            .collect();
        let hashes: Vec<_> = hashes
            .iter()
            .map(|h| mapfile::name::parse_hash(h.as_bytes()).unwrap())
            .collect();
        assert_eq!(&hex(&merkle_root(&hashes, sha256)), name);
    }
}

/// What the original made of a v0 and a v1 map when it upgraded them is what we would make.
#[test]
fn upgrades_are_those_of_the_original() {
    let Some(dir) = unpack("legacy") else { return };
    let stage = |name| Stage::new(&dir.path().join("legacy"), name);
    let upgraded = |volume: &Volume| {
        let mut bytes = Vec::new();
        encode(&volume.entries, 0, &volume.names, &mut bytes);
        (volume.found.as_v2().unwrap().encode(), bytes)
    };
    let v0 = "41ccf84dbed495cd37a8367962e00f9bef3649238e1659386112da72156b1184";
    let hint = Some(V0Hint {
        size: Some(10_485_883),
    });
    let before = Volume::load(&stage("00-before").maps, v0, hint);
    let after = Volume::load(&stage("11-migrate-v0-opened").maps, v0, None);
    assert!(matches!(
        (before.found, after.found),
        (Recognised::V0(_), Recognised::V2(_))
    ));
    assert_eq!(upgraded(&before), upgraded(&after));

    let before = Volume::load(&stage("00-before").maps, "legacyv1a", hint);
    let after = Volume::load(&stage("13-v1-opened").maps, "legacyv1a", None);
    assert!(matches!(
        (before.found, after.found),
        (Recognised::V1(_), Recognised::V2(_))
    ));
    // The v1 map was renamed to its proper name as well, which raises the epoch.
    let renamed = Header {
        epoch: mapfile::Epoch(1),
        ..before.found.as_v2().unwrap()
    };
    assert_eq!((renamed.encode(), upgraded(&before).1), upgraded(&after));
}
