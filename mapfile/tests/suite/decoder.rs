//! Does `tests/golden/decode.py` find what is wrong? The golden trees show that it is content
//! with what is right. Here a small tree, written by this crate, is damaged in one way at a time.

use crate::golden::{PYTHON, golden_dir};
use crate::tree::{hex, sha256};
use mapfile::{
    BlockSize, Entry, Epoch, Geometry, Header, HeaderName, MapFlags, Names, VolumeName, encode,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where an object lives by the hash of its name.
fn hashed_path(root: &Path, name: &str) -> PathBuf {
    let h = hex(&sha256(name.as_bytes()));
    root.join(&h[..2]).join(&h[2..4]).join(&h[4..6]).join(name)
}

fn put(root: &Path, name: &str, content: &[u8]) {
    let path = hashed_path(root, name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn header_name(name: &str) -> HeaderName {
    VolumeName::for_creation(name.as_bytes()).unwrap().header()
}

/// Stores a map of one 4 KiB block each of: an own object, a zero block, a Pithos block.
fn put_map(root: &Path, name: &str, own: impl Fn(Entry) -> Entry) {
    let header = header_name(name);
    let mut names = Names::new();
    let owner = names.owner(&header, Epoch(1)).unwrap();
    let pithos = Entry::given(&mut names, BLOCK_NAME.as_bytes(), 2, false).unwrap();
    let mut chunk = Vec::new();
    encode(
        &[own(Entry::fresh(owner)), Entry::ZERO, pithos],
        0,
        &names,
        &mut chunk,
    );
    put(root, &header.chunk(0).to_string(), &chunk);
    let geometry = Geometry::new(10_000, BlockSize::new(4096).unwrap()).unwrap();
    put(
        root,
        name,
        &Header {
            geometry,
            flags: MapFlags::NONE,
            epoch: Epoch(1),
        }
        .encode(),
    );
}

/// sha256 of "pithos".
const BLOCK_NAME: &str = "adb7112b9f4af52662480da147f1ec53fbe758105d7a001dd4475e49b17366a8";
const OWN: &str = "volume1_0000000000000001_0000000000000000";

/// A healthy tree; maps and blocks share the directory.
fn healthy() -> TempDir {
    let dir = TempDir::new().unwrap();
    put_map(dir.path(), "volume1", |own| own);
    put_map(dir.path(), "volume2", |_| Entry::ZERO);
    put(dir.path(), OWN, b"own object");
    put(dir.path(), BLOCK_NAME, b"pithos");
    dir
}

fn decode_py(dir: &Path, args: &[&str]) -> (bool, String) {
    let script = golden_dir().join("decode.py");
    let output = Command::new(PYTHON)
        .arg(script)
        .args([dir, dir])
        .args(args)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn missing_python() -> bool {
    let missing = !Path::new(PYTHON).exists();
    if missing {
        eprintln!("SKIPPED: {PYTHON} is not installed");
    }
    missing
}

#[test]
fn a_healthy_tree_has_no_problems() {
    if missing_python() {
        return;
    }
    let dir = healthy();
    let (ok, text) = decode_py(dir.path(), &["--check"]);
    assert!(ok && !text.contains("problem"), "{text}");
    let mut content = b"own object".to_vec();
    content.resize(8192, 0);
    content.extend(b"pithos");
    content.resize(10_000, 0);
    let expected = (true, format!("{}\n", hex(&sha256(&content))));
    assert_eq!(decode_py(dir.path(), &["--hash", "volume1"]), expected);
}

/// Removes, overwrites or moves something below the directory.
type Damage = fn(&Path);

#[test]
fn every_damage_is_found() {
    if missing_python() {
        return;
    }
    let table: [(&str, Damage); 8] = [
        ("is at none of its places", |dir| {
            std::fs::rename(hashed_path(dir, OWN), dir.join(OWN)).unwrap();
        }),
        ("is missing", |dir| {
            std::fs::remove_file(hashed_path(dir, BLOCK_NAME)).unwrap()
        }),
        ("chunk volume1_0000000000000000 is missing", |dir| {
            std::fs::remove_file(hashed_path(dir, "volume1_0000000000000000")).unwrap();
        }),
        ("has 383 bytes for 3 entries", |dir| {
            patch(dir, "volume1_0000000000000000", |c| c.truncate(383))
        }),
        ("has flags 0x13", |dir| {
            patch(dir, "volume1_0000000000000000", |c| c[0] = 0x13)
        }),
        ("names the object of another block", |dir| {
            patch(dir, "volume1_0000000000000000", |c| {
                c[5 + OWN.len() - 1] = b'7'
            });
        }),
        ("is written by one and used by", |dir| {
            let shared = std::fs::read(hashed_path(dir, "volume1_0000000000000000")).unwrap();
            put(dir, "volume2_0000000000000000", &shared);
        }),
        ("block size 4097", |dir| {
            patch(dir, "volume1", |h| h[19] = 1)
        }),
    ];
    for (sentence, damage) in table {
        let dir = healthy();
        damage(dir.path());
        let (ok, text) = decode_py(dir.path(), &["--check"]);
        assert!(!ok && text.contains(sentence), "{sentence}: {text}");
    }
}

fn patch(dir: &Path, name: &str, change: impl Fn(&mut Vec<u8>)) {
    let path = hashed_path(dir, name);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// A missing object that Archipelago made reads as zeros; it is counted, and no problem.
#[test]
fn a_missing_own_object_reads_as_zeros() {
    if missing_python() {
        return;
    }
    let dir = healthy();
    std::fs::remove_file(hashed_path(dir.path(), OWN)).unwrap();
    let (ok, text) = decode_py(dir.path(), &["--check", "--json"]);
    assert!(
        ok && text.contains("\"missing_read_as_zeros\": 1"),
        "{text}"
    );
}
