//! The main job, and what it leaves in the pools, as Python's `rados` and the golden trees' decoder
//! see it.

use super::{below_target, name, vlmc};
use client::{Hint, Volume};
use rados_lab::Lab;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use system_tests::golden::archive::missing_tool;
use system_tests::golden::tree::{assert_servable_by_the_original, decoded_hash, files, sha256};
use system_tests::real::RealNode;
use system_tests::storage::sample;

/// Bytes of the imported image: not whole blocks of a volume.
const IMAGE: usize = (9 << 20) + 4096;

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn content(node: &RealNode, volume: &str) -> Vec<u8> {
    let client = node.client();
    let volume = Volume::open(&client, name(volume), Hint::default()).unwrap();
    let mut bytes = vec![0xee; volume.size() as usize];
    volume.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn change(node: &RealNode, volume: &str, bytes: &mut [u8], offset: usize, seed: u64) {
    let client = node.client();
    let new = noise(seed, 1 << 20);
    let volume = Volume::open(&client, name(volume), Hint::default()).unwrap();
    volume.write_at(&new, offset as u64).unwrap();
    volume.flush().unwrap();
    bytes[offset..offset + new.len()].copy_from_slice(&new);
}

/// Type, tag and cookies of a volume's lock, and its lockers, as the `rados` tool sees them.
fn lock_of(lab: &Lab, pool: &str, volume: &str) -> serde_json::Value {
    let object = format!("{volume}_lock");
    let info = ["-p", pool, "lock", "info", &object, "RadosLock"];
    serde_json::from_str(&lab.rados(&info).unwrap().out).unwrap()
}

/// Create, import, snapshot, clone, change, verify, restart, delete; then others look.
#[test]
fn the_main_job_on_rados() {
    let Some(pools) = rados_lab::borrow("the_main_job_on_rados") else {
        return;
    };
    let start = RealNode::start(&below_target(), |params| {
        params.rados = Some(sample(&pools));
    });
    let mut node = start.unwrap();
    crate::embedded::main_job(&node.client());

    let image = node.dir().join("image");
    let first = noise(1, IMAGE);
    std::fs::write(&image, &first).unwrap();
    vlmc(&node, &["import", image.to_str().unwrap(), "imported"]);
    vlmc(&node, &["snapshot", "imported", "frozen"]);
    vlmc(&node, &["clone", "frozen", "cloned"]);
    let (mut imported, mut cloned) = (first.clone(), first.clone());
    change(&node, "imported", &mut imported, 5_000_000, 2);
    change(&node, "cloned", &mut cloned, 12_345, 3);
    let expected = [
        ("imported", imported),
        ("frozen", first),
        ("cloned", cloned),
    ];
    let verify = |node: &RealNode| {
        for (volume, bytes) in &expected {
            assert!(content(node, volume) == *bytes, "{volume}");
        }
    };
    verify(&node);
    let lock = lock_of(pools.lab(), &pools.maps, "imported");
    assert_eq!(
        (&lock["type"], &lock["tag"]),
        (&"exclusive".into(), &"".into())
    );
    assert_eq!(lock["lockers"].as_array().unwrap().len(), 1, "{lock}");
    assert_eq!(lock["lockers"][0]["cookie"], "foo");
    node.restart().unwrap();
    verify(&node);
    vlmc(&node, &["check"]);
    let listed = vlmc(&node, &["list"]);
    for (volume, _) in &expected {
        assert!(listed.lines().any(|line| line == *volume), "{listed}");
    }
    vlmc(&node, &["remove", "volume-1"]);
    vlmc(&node, &["remove", "cloned"]);
    assert!(node.stop().unwrap().success());

    let lock = lock_of(pools.lab(), &pools.maps, "imported");
    assert_eq!(lock["lockers"].as_array().unwrap().len(), 0, "{lock}");
    let facts = pools.facts().unwrap();
    let lock = &facts["maps/imported_lock"];
    assert!(lock.is_lock && lock.locker.is_none(), "{lock:?}");
    let tree = tempfile::tempdir().unwrap();
    pools.take(tree.path()).unwrap();
    look(tree.path(), &expected[..2]);
}

/// Names and contents are those that the original would have left.
fn look(tree: &Path, expected: &[(&str, Vec<u8>)]) {
    if let Some(tool) = missing_tool() {
        return eprintln!("SKIPPED: the decoder's look at the pools: {tool} is not installed");
    }
    assert_servable_by_the_original(tree);
    for (volume, bytes) in expected {
        assert_eq!(decoded_hash(tree, volume), sha256(bytes), "{volume}");
    }
    let found = files(tree);
    let blocks_of = |volume: &str| {
        let of = format!("/{volume}_");
        let is_one = |path: &&String| path.starts_with("blocks/") && path.contains(&of);
        found.keys().filter(is_one).count()
    };
    // Three of the image's; another for what was changed; none of what was removed, not even of
    // the first one that had that name.
    let left = ["imported", "cloned", "volume-2"].map(blocks_of);
    assert_eq!(left, [4, 0, 0], "{:?}", found.keys());
    println!("{} objects, all of them as the original's", found.len());
}
