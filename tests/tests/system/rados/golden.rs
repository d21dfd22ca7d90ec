//! What the original wrote, put into pools object by object, reads as it did there, and stays what
//! the original could serve.

use super::shared;
use client::Hint;
use config::SampleRados;
use rados_lab::Lab;
use serde_json::Value;
use std::path::Path;
use system_tests::golden::archive::Stage;
use system_tests::golden::replay::content_hash;
use system_tests::golden::tree::{assert_servable_by_the_original, decoded_hash, files};
use system_tests::golden::{Archive, Node, name};
use system_tests::{pools, real};

/// What `legacyv1b` holds, which the manifest does not say: its one block.
const HASH_V1B: &str = "677069a6b177697104d5e44fb4f1160133cbe5d32fc3eb0e4eab1c1f1f434a01";

/// Volumes, how they are asked for, and what is known of each: its size and hash.
type Known = Vec<(String, Hint, u64, String)>;

/// Reads every volume through a node over the pools, filled from `tree`; returns the pools' content
/// as another tree.
fn read_back(lab: &Lab, pools: &SampleRados, tree: &Path, known: &Known) -> tempfile::TempDir {
    pools::fill(lab, pools, tree).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let node = Node::over_rados(dir.path(), pools.clone());
    for (volume, hint, size, sha256) in known {
        let at = format!("{volume} in {}", tree.display());
        assert_eq!(node.client().info(name(volume), *hint), Ok(*size), "{at}");
        let hash = content_hash(node.client(), volume, *hint, None);
        assert_eq!(hash.unwrap(), *sha256, "{at}");
    }
    node.stop();
    let after = tempfile::tempdir().unwrap();
    pools::take(lab, pools, after.path()).unwrap();
    after
}

fn v2_volumes(stage: &Stage, at_the_end: &Value) -> Known {
    let early = stage.name.as_str() < "20";
    let volumes = if early { &stage.volumes } else { at_the_end };
    let all = volumes.as_object().unwrap().iter();
    all.map(|(volume, facts)| {
        let (size, hash) = (&facts["size"], &facts["sha256"]);
        let hash = hash.as_str().unwrap().to_owned();
        (
            volume.clone(),
            Hint::default(),
            size.as_u64().unwrap(),
            hash,
        )
    })
    .collect()
}

/// Reading changes nothing at all.
#[test]
fn golden_v2_volumes_in_a_pool_read_back() {
    let Some(lab) = shared("golden_v2_volumes_in_a_pool_read_back") else {
        return;
    };
    let Some(archive) = Archive::unpack("v2-direct") else {
        return;
    };
    let pools = real::on_pools(lab, "v2-blocks", "v2-maps");
    let stages = archive.stages();
    let last = stages.iter().find(|stage| stage.name == "19-final");
    let mut read = 0;
    for stage in stages.iter().filter(|stage| stage.kept) {
        let known = v2_volumes(stage, &last.unwrap().volumes);
        let tree = archive.tree(&stage.name);
        let after = read_back(lab, &pools, &tree, &known);
        let mut before = files(&tree);
        before.retain(|path, _| !path.starts_with("locks/"));
        let facts = |files: system_tests::golden::tree::Files| -> Vec<_> {
            let all = files.into_iter();
            all.map(|(path, facts)| (path, facts.content, facts.len))
                .collect()
        };
        assert_eq!(
            facts(files(after.path())),
            facts(before),
            "reading changed {}",
            stage.name
        );
        read += known.len();
    }
    assert_eq!(read, 46);
    println!("{read} volumes of the v2 archive read back");
}

/// The volumes of the first legacy tree, before anything was done to it. One of them lies where the
/// original did not look for it among files; a pool has but one place for a name.
fn legacy_volumes(volumes: &Value) -> Known {
    let mut known = Known::new();
    for (volume, facts) in volumes.as_object().unwrap() {
        if volume == "fromv0D01" {
            continue;
        }
        let size = facts["size"].as_u64().unwrap();
        let assume_v0 = facts["kind"].as_str().unwrap().starts_with("v0");
        let hint = Hint {
            assume_v0,
            v0_size: assume_v0.then_some(size),
        };
        let hash = facts["sha256"].as_str().unwrap_or(HASH_V1B);
        known.push((volume.clone(), hint, size, hash.to_owned()));
    }
    known
}

#[test]
fn golden_volumes_of_older_formats_in_a_pool_read_back() {
    let Some(lab) = shared("golden_volumes_of_older_formats_in_a_pool_read_back") else {
        return;
    };
    let Some(archive) = Archive::unpack("legacy") else {
        return;
    };
    let known = legacy_volumes(&archive.manifest["volumes"]);
    let pools = real::on_pools(lab, "legacy-blocks", "legacy-maps");
    let after = read_back(lab, &pools, &archive.tree("00-before"), &known);
    let found = assert_servable_by_the_original(after.path());
    for (volume, _, _, sha256) in &known {
        assert_eq!(decoded_hash(after.path(), volume), *sha256, "{volume}");
    }
    println!(
        "{} volumes of older formats read back, of {} maps in the pool",
        known.len(),
        found["volumes"].as_array().unwrap().len()
    );
}
