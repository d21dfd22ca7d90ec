//! Maps, objects and old layouts: what one writes the other reads, in both directions.

use super::{BLOCK, SIZE, Site, look, name, volume};
use client::{Client, Hint};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use system_tests::golden::archive::Archive;
use system_tests::golden::tree::{checked, hex, sha256};
use system_tests::old::OldNode;

const HINT: Hint = Hint {
    assume_v0: false,
    v0_size: None,
};

fn write(client: &Client, text: &str, bytes: &[u8], offset: u64) {
    let volume = volume(client, text);
    volume.write_at(bytes, offset).unwrap();
    volume.flush().unwrap();
}

/// Both, and the independent decoder, see the same bytes.
fn assert_alike(site: &Site, old: &mut OldNode, volumes: &[&str]) {
    let client = site.node.client();
    for volume in volumes {
        let ours = sha256(&look(&client, volume));
        let theirs = old.ask(json!(["hash", volume])).unwrap();
        assert_eq!(theirs, json!(ours), "{volume}");
    }
    checked(site.dir());
}

#[test]
fn volumes_snapshots_and_clones_go_back_and_forth() {
    for direct in [true, false] {
        let Some(site) = Site::new(direct) else {
            return;
        };
        let (client, mut old) = (site.node.client(), site.old());
        // Ours begins.
        client.create(name("volume"), SIZE).unwrap();
        client.open(name("volume"), HINT).unwrap();
        write(&client, "volume", &[1; 9000], BLOCK - 4000);
        client
            .snapshot(name("volume"), name("snapshot-1"), HINT)
            .unwrap();
        write(&client, "volume", &[2; 5000], 0);
        client.close(name("volume"), HINT).unwrap();
        assert_alike(&site, &mut old, &["volume", "snapshot-1"]);
        // They go on: in place, and by a copy of what the snapshot shares.
        old.ask(json!(["open", "volume"])).unwrap();
        old.ask(json!(["write", "volume", 10, hex(&[3; 700])]))
            .unwrap();
        old.ask(json!(["write", "volume", BLOCK + 9, hex(&[4; 7000])]))
            .unwrap();
        old.ask(json!(["snapshot", "volume", "snapshot-2"]))
            .unwrap();
        old.ask(json!(["write", "volume", 99, hex(&[5; 10])]))
            .unwrap();
        old.ask(json!(["close", "volume"])).unwrap();
        assert_alike(&site, &mut old, &["volume", "snapshot-1", "snapshot-2"]);
        // A clone of theirs here, a clone of ours there, each written by the other.
        client
            .clone_volume(name("snapshot-2"), name("cloned-here"), 2 * SIZE, HINT)
            .unwrap();
        old.ask(json!(["clone", "snapshot-1", "cloned-there", SIZE]))
            .unwrap();
        old.ask(json!(["open", "cloned-here"])).unwrap();
        old.ask(json!(["write", "cloned-here", 2 * SIZE - 5, hex(b"tail!")]))
            .unwrap();
        old.ask(json!(["write", "cloned-here", 0, hex(b"head")]))
            .unwrap();
        old.ask(json!(["close", "cloned-here"])).unwrap();
        client.open(name("cloned-there"), HINT).unwrap();
        write(&client, "cloned-there", b"ours", BLOCK - 2);
        client.close(name("cloned-there"), HINT).unwrap();
        let all = [
            "volume",
            "snapshot-1",
            "snapshot-2",
            "cloned-here",
            "cloned-there",
        ];
        assert_alike(&site, &mut old, &all);
        // A name that one deleted is the other's to use, one epoch later.
        client.remove(name("cloned-there"), HINT).unwrap();
        assert!(old.ask(json!(["info", "cloned-there"])).is_err());
        old.ask(json!(["create", "cloned-there", SIZE])).unwrap();
        old.ask(json!(["delete", "cloned-here"])).unwrap();
        client.info(name("cloned-here"), HINT).unwrap_err();
        client.create(name("cloned-here"), BLOCK).unwrap();
        write(&client, "cloned-here", b"anew", 0);
        client.close(name("cloned-here"), HINT).unwrap();
        assert_alike(&site, &mut old, &all);
        assert_eq!(epoch(&site, "cloned-here"), 2);
        assert_eq!(epoch(&site, "cloned-there"), 2);
        assert_eq!(site.locks(), []);
    }
}

fn epoch(site: &Site, volume: &str) -> u64 {
    let found = checked(site.dir());
    let volumes = found["volumes"].as_array().unwrap();
    let one = volumes.iter().find(|one| one["name"] == json!(volume));
    one.unwrap()["epoch"].as_u64().unwrap()
}

/// The path of an object in the layout of 0.4, below its archip_dir.
fn hashed(text: &str) -> PathBuf {
    let digits = hex(&Sha256::digest(text));
    Path::new(&digits[..2])
        .join(&digits[2..4])
        .join(&digits[4..6])
        .join(text)
}

/// The path of a block or a map in the layout of Pithos.
fn of_pithos(hash: &str) -> PathBuf {
    Path::new(&hash[..2])
        .join(&hash[2..4])
        .join(&hash[4..6])
        .join(hash)
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A v1 map of two blocks, the first with an object of its own.
fn put_v1(site: &Site, volume: &str) -> Vec<u8> {
    let object = sha256(volume.as_bytes());
    let mut map = 1u32.to_le_bytes().to_vec();
    map.extend(SIZE.to_le_bytes());
    map.push(1);
    map.extend(Sha256::digest(volume));
    map.push(0);
    map.extend(Sha256::digest(""));
    put(
        &site
            .dir()
            .join("maps")
            .join(hashed(&format!("archip_{volume}"))),
        &map,
    );
    let mut bytes = vec![0; SIZE as usize];
    bytes[..4].copy_from_slice(b"old!");
    put(
        &site
            .dir()
            .join("blocks")
            .join(hashed(&format!("archip_{object}"))),
        b"old!",
    );
    bytes
}

#[test]
fn a_v1_map_is_upgraded_by_one_and_used_by_the_other() {
    let Some(site) = Site::new(false) else { return };
    let (client, mut old) = (site.node.client(), site.old());
    for volume in ["by-ours", "by-theirs"] {
        let bytes = put_v1(&site, volume);
        // Nothing changes as long as nobody has its lock.
        assert_eq!(client.info(name(volume), HINT).unwrap(), SIZE);
        let theirs = old.ask(json!(["hash", volume])).unwrap();
        assert_eq!(theirs, json!(sha256(&bytes)));
    }
    client.open(name("by-ours"), HINT).unwrap();
    client.close(name("by-ours"), HINT).unwrap();
    old.ask(json!(["open", "by-theirs"])).unwrap();
    old.ask(json!(["close", "by-theirs"])).unwrap();
    assert_alike(&site, &mut old, &["by-ours", "by-theirs"]);
    for volume in ["by-ours", "by-theirs"] {
        let prefixed = site
            .dir()
            .join("maps")
            .join(hashed(&format!("archip_{volume}")));
        assert!(!prefixed.exists(), "{volume} was renamed");
    }
    old.ask(json!(["open", "by-ours"])).unwrap();
    old.ask(json!(["write", "by-ours", 2, hex(b"new")]))
        .unwrap();
    old.ask(json!(["close", "by-ours"])).unwrap();
    client.open(name("by-theirs"), HINT).unwrap();
    write(&client, "by-theirs", b"new", 2);
    client.close(name("by-theirs"), HINT).unwrap();
    assert_alike(&site, &mut old, &["by-ours", "by-theirs"]);
    assert_eq!(&look(&client, "by-ours")[..6], b"olnew\0");
    assert_eq!(site.locks(), []);
}

/// While old nodes are there they look at the old places only, so nothing may move: that is what
/// `pithos_migrate = False` is for. An image that ours upgraded in place they read on.
#[test]
fn a_pithos_image_stays_where_old_nodes_look() {
    let Some(site) = Site::new(false) else { return };
    let (client, mut old) = (site.node.client(), site.old());
    let block = vec![7; 100_000];
    let hash = sha256(&block);
    let map = Sha256::digest(&block).to_vec();
    let (map_path, block_path) = (
        site.dir().join("maps").join(of_pithos(&hash)),
        site.dir().join("blocks").join(of_pithos(&hash)),
    );
    put(&map_path, &map);
    put(&block_path, &block);
    let hint = Hint {
        assume_v0: true,
        v0_size: Some(block.len() as u64),
    };
    client
        .clone_volume(name(&hash), name("a-clone"), SIZE, hint)
        .unwrap();
    assert_eq!(&look(&client, "a-clone")[..block.len()], block);
    let theirs = |old: &mut OldNode| -> Value {
        old.ask(json!(["read", hash, 0, block.len(), block.len()]))
            .unwrap()
    };
    assert_eq!(theirs(&mut old), json!(hex(&block)));
    // Ours upgrades it, where it lies.
    client.open(name(&hash), hint).unwrap_err();
    assert_eq!(&std::fs::read(&map_path).unwrap()[..4], b"AMF.");
    assert_eq!(theirs(&mut old), json!(hex(&block)));
    assert_eq!(old.ask(json!(["block", hash])).unwrap(), json!(hash));
    assert!(block_path.exists() && map_path.exists(), "nothing moved");
    old.ask(json!(["open", "a-clone"])).unwrap();
    old.ask(json!(["write", "a-clone", 1, hex(b"theirs")]))
        .unwrap();
    old.ask(json!(["close", "a-clone"])).unwrap();
    assert_alike(&site, &mut old, &["a-clone"]);
    assert_eq!(
        std::fs::read(&block_path).unwrap(),
        block,
        "shared, so copied"
    );
    assert_eq!(site.locks(), []);
}

/// A whole tree that 0.4.4 left, written by both in turn.
#[test]
fn a_tree_of_the_original_is_shared() {
    let Some(archive) = Archive::unpack("v2-direct") else {
        return;
    };
    let Some(site) = Site::new(true) else { return };
    let mut kept = archive.stages().into_iter().filter(|stage| stage.kept);
    let stage = kept.next_back().expect("a stage is kept").name;
    for part in ["maps", "blocks"] {
        let mut copy = Command::new("cp");
        copy.args(["-a", "--sparse=always"])
            .arg(archive.tree(&stage).join(part).join("."));
        assert!(copy.arg(site.dir().join(part)).status().unwrap().success());
    }
    let found = checked(site.dir());
    let volumes = found["volumes"].as_array().unwrap();
    let living = volumes.iter().filter(|one| one["deleted"] == json!(false));
    let (frozen, open): (Vec<_>, Vec<_>) = living.partition(|one| one["readonly"] == json!(true));
    let names = |of: &[&Value]| -> Vec<String> {
        of.iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let (frozen, open) = (names(&frozen), names(&open));
    assert!(frozen.len() > 2 && open.len() > 2, "{stage}: {found}");
    let (client, mut old) = (site.node.client(), site.old());
    let all: Vec<&str> = frozen.iter().chain(&open).map(String::as_str).collect();
    assert_alike(&site, &mut old, &all);
    for volume in &open {
        let size = client.info(name(volume), HINT).unwrap();
        old.ask(json!(["open", volume])).unwrap();
        old.ask(json!(["write", volume, 0, hex(b"theirs")]))
            .unwrap();
        old.ask(json!(["close", volume])).unwrap();
        client.open(name(volume), HINT).unwrap();
        write(&client, volume, b"ours", 3);
        write(&client, volume, b"tail", size - 4);
        client.close(name(volume), HINT).unwrap();
        let bytes = look(&client, volume);
        assert_eq!(
            (&bytes[..7], &bytes[bytes.len() - 4..]),
            (&b"theours"[..], &b"tail"[..])
        );
    }
    assert_alike(&site, &mut old, &all);
}
