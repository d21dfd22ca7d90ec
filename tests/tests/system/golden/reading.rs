//! Every golden tree reads as the original read it, and reading changes nothing but what a lazy
//! upgrade changes.

use client::Hint;
use serde_json::Value;
use system_tests::golden::archive::Stage;
use system_tests::golden::replay::content_hash;
use system_tests::golden::tree::{Files, assert_servable_by_the_original, decoded_hash, files};
use system_tests::golden::{Archive, name};
use system_tests::storage::Storage;

on_each! {
    files, direct, rados =>
        a_life_of_v2_volumes_reads,
}
on_each! {
    direct, rados =>
        older_formats_read_in_place,
}
// A pool has but one place for a name: there is nothing to move.
on_each!(files => older_formats_read_and_migrate);
on_each!(files, rados => b10_a_v1_map_stays_one_whatever_is_assumed);

/// What a storage holds but for locks.
fn unlocked(storage: &Storage) -> Files {
    let mut files = storage.files();
    files.retain(|path, _| !path.starts_with("locks/"));
    files
}

/// What is known of a stage's volumes: those that were read then, or, at the end, all.
fn v2_volumes<'a>(stage: &'a Stage, at_the_end: &'a Value) -> &'a Value {
    if stage.name.as_str() < "20" {
        &stage.volumes
    } else {
        at_the_end
    }
}

fn a_life_of_v2_volumes_reads(storage: &Storage) {
    let Some(archive) = Archive::unpack("v2-direct") else {
        return;
    };
    let stages = archive.stages();
    let last = stages
        .iter()
        .find(|stage| stage.name == "19-final")
        .unwrap();
    let mut read = 0;
    for stage in stages.iter().filter(|stage| stage.kept) {
        storage.fill(&archive.tree(&stage.name));
        let before = unlocked(storage);
        let node = storage.node();
        for (volume, facts) in v2_volumes(stage, &last.volumes).as_object().unwrap() {
            let at = format!("{volume} in {}", stage.name);
            let size = node.client().info(name(volume), Hint::default());
            assert_eq!(size.ok(), facts["size"].as_u64(), "{at}");
            let hash = content_hash(node.client(), volume, Hint::default(), None);
            assert_eq!(hash.unwrap(), facts["sha256"], "{at}");
            read += 1;
        }
        node.stop();
        assert_eq!(unlocked(storage), before, "reading changed {}", stage.name);
        assert_eq!(storage.files(), before, "a lock is left in {}", stage.name);
    }
    assert_eq!(read, 46);
}

const HASH_B: &str = "7618dab0447d01a5595543b24794861c43f84d56233a1dbc85a316e00f54da11";

/// A volume of the legacy trees, as it is at a stage.
struct Legacy {
    name: String,
    hint: Hint,
    size: u64,
    sha256: String,
}

/// The volumes that a stage has. `legacyv1b` is one whole Pithos block, named by its content; the
/// original could not open it.
fn legacy_volumes(stage: &str, volumes: &Value) -> Vec<Legacy> {
    let mut found = Vec::new();
    for (name, facts) in volumes.as_object().unwrap() {
        let text = |key: &str| facts[key].as_str().unwrap_or_default().to_owned();
        let mut size = facts["size"].as_u64().unwrap();
        let sha256 = match name.as_str() {
            "fromv0D01" if stage < "10" => continue,
            "legacyv1a" if stage >= "14" => text("sha256_after_writes"),
            // Upgraded without a size, so it is its one block, filled up with zeros.
            HASH_B if stage >= "11" => {
                size = 4 << 20;
                "7f577c7c94883432c1947a101350f6f3194193a164221d82340524666b21d7d5".to_owned()
            }
            "legacyv1b" => {
                "677069a6b177697104d5e44fb4f1160133cbe5d32fc3eb0e4eab1c1f1f434a01".to_owned()
            }
            _ => text("sha256"),
        };
        let assume_v0 = text("kind").starts_with("v0");
        let hint = Hint {
            assume_v0,
            v0_size: assume_v0.then_some(size),
        };
        found.push(Legacy {
            name: name.clone(),
            hint,
            size,
            sha256,
        });
    }
    found
}

fn reads_legacy(storage: &Storage) {
    let Some(archive) = Archive::unpack("legacy") else {
        return;
    };
    let mut read = 0;
    for stage in archive.stages().iter().filter(|stage| stage.kept) {
        let volumes = legacy_volumes(&stage.name, &archive.manifest["volumes"]);
        storage.fill(&archive.tree(&stage.name));
        read_legacy_stage(storage, &stage.name, &volumes);
        read += volumes.len();
    }
    assert_eq!(
        read,
        8 * 7 + 5,
        "eight stages of seven volumes, and the clone in five"
    );
}

fn read_legacy_stage(storage: &Storage, stage: &str, volumes: &[Legacy]) {
    let (before, migrate) = (storage.files(), storage.setup.migrate);
    let node = storage.node();
    for volume in volumes {
        let at = format!("{} in {stage}", volume.name);
        let size = node.client().info(name(&volume.name), volume.hint);
        assert_eq!(size, Ok(volume.size), "{at}");
        let blocks = node.peek(&volume.name, volume.size, volume.hint).unwrap();
        assert_eq!(
            blocks.iter().map(|b| b.size).sum::<u64>(),
            volume.size,
            "{at}"
        );
    }
    let after = storage.files();
    if migrate {
        // INFO alone moves a map to its new place; not one byte of it changes.
        let contents = |files: &Files| {
            let mut all: Vec<_> = files
                .iter()
                .map(|(path, facts)| (file_name(path), facts.clone()))
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        assert_eq!(contents(&after), contents(&before), "{stage}");
        assert!(
            after
                .keys()
                .all(|path| !path.starts_with("maps/") || is_hashed(path)),
            "{stage}: {after:#?}"
        );
    } else {
        assert_eq!(after, before, "a look changed {stage}");
    }
    for volume in volumes {
        let at = format!("{} in {stage}", volume.name);
        let hash = content_hash(node.client(), &volume.name, volume.hint, None);
        assert_eq!(hash.unwrap(), volume.sha256, "{at}");
    }
    node.stop();
    let tree = storage.tree();
    let found = assert_servable_by_the_original(&tree);
    // All were upgraded when they were read, so nobody needs to be told their version or size.
    for volume in found["volumes"].as_array().unwrap() {
        assert_eq!(volume["version"], 2, "{volume} in {stage}");
    }
    for volume in volumes {
        assert_eq!(
            decoded_hash(&tree, &volume.name),
            volume.sha256,
            "{} in {stage} (decode.py)",
            volume.name
        );
    }
    if migrate {
        let left: Vec<_> = files(&tree)
            .into_keys()
            .filter(|path| !is_hashed(path))
            .collect();
        assert_eq!(left, [""; 0], "everything was read in {stage}");
    }
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

/// Whether a file lies where its name's hash says.
fn is_hashed(path: &str) -> bool {
    let (part, name) = (path.split('/').next().unwrap(), file_name(path));
    let hash = system_tests::golden::tree::sha256(name.as_bytes());
    path == format!(
        "{part}/{}/{}/{}/{name}",
        &hash[..2],
        &hash[2..4],
        &hash[4..6]
    )
}

fn older_formats_read_in_place(storage: &Storage) {
    reads_legacy(storage);
}

fn older_formats_read_and_migrate(storage: &Storage) {
    let mut storage = storage.clone();
    storage.setup.migrate = true;
    reads_legacy(&storage);
}

/// Ganeti always says that a map may be v0; the original then read a v1 map as one (B10).
fn b10_a_v1_map_stays_one_whatever_is_assumed(storage: &Storage) {
    let Some(archive) = Archive::unpack("legacy") else {
        return;
    };
    storage.fill(&archive.tree("00-before"));
    let node = storage.node();
    let facts = &archive.manifest["volumes"]["legacyv1a"];
    for v0_size in [None, Some(4 << 20)] {
        let hint = Hint {
            assume_v0: true,
            v0_size,
        };
        let size = node.client().info(name("legacyv1a"), hint);
        assert_eq!(size.ok(), facts["size"].as_u64());
    }
    let hint = Hint {
        assume_v0: true,
        v0_size: None,
    };
    let hash = content_hash(node.client(), "legacyv1a", hint, None);
    assert_eq!(hash.unwrap(), facts["sha256"]);
    node.stop();
}
