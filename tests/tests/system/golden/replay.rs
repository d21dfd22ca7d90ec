//! What was done to the golden trees, done by us, leaves the same trees.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use system_tests::golden::tree::{
    Files, assert_servable_by_the_original, decoded_hash, files, place, wrong_modes,
};
use system_tests::golden::{Archive, Replay};
use system_tests::storage::Storage;
use tempfile::TempDir;

on_each! {
    files, direct, rados =>
        b06_b07_a_life_of_v2_volumes_leaves_the_same,
        older_formats_without_migration_leave_the_same,
        older_formats_with_migration_leave_the_same,
}

/// Volumes that were truncated: the original brought stale bytes back, we do not.
const TRUNCATED: [(&str, &str, &str); 2] = [
    (
        "goldtrc01",
        "18b",
        "14dcb6321fdfd1fed34d3785bb3043af75bfa1c15ae501a8b16c631680d360db",
    ),
    (
        "goldtrc02",
        "18c",
        "21c8d8cbf9c795758800e5dcf4d2212a365673092f49643ab7f057a53322a8d6",
    ),
];

/// The content that a volume has at a stage of ours.
fn expected_hash(stage: &str, volume: &str, facts: &Value) -> String {
    let ours = TRUNCATED
        .iter()
        .find(|(name, since, _)| *name == volume && stage >= *since);
    match ours {
        Some((.., hash)) => (*hash).to_owned(),
        None => facts["sha256"].as_str().unwrap().to_owned(),
    }
}

/// Names and contents as the original left them, but for what `spec/choices.md` excepts.
fn golden_files(dir: &Path) -> BTreeMap<String, String> {
    let mut found = contents(files(dir));
    found.retain(|path, _| !path.ends_with("_hash"));
    found
}

fn contents(files: Files) -> BTreeMap<String, String> {
    files
        .into_iter()
        .map(|(path, facts)| (path, facts.content))
        .collect()
}

/// Compares our tree with the original's, file by file.
fn compare(stage: &str, ours: &Path, theirs: &Path) {
    let (mut left, mut right) = (contents(files(ours)), golden_files(theirs));
    if (17..=21).contains(&number(stage)) {
        compare_truncated(stage, ours, theirs);
        for files in [&mut left, &mut right] {
            files.retain(|path, _| !is_truncated(path));
        }
    }
    let paths: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differ: Vec<_> = paths
        .iter()
        .filter(|path| left.get(**path) != right.get(**path))
        .collect();
    assert!(
        differ.is_empty(),
        "{stage}: {}",
        differ
            .iter()
            .map(|path| shown(path, ours, theirs))
            .collect::<String>()
    );
}

/// The number of a stage of the archive with truncations.
fn number(stage: &str) -> u32 {
    stage
        .get(..2)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn is_truncated(path: &str) -> bool {
    path.contains("/goldtrc01_0000") || path.contains("/goldtrc02_0000")
}

/// Names are the same; so are the entries, but for WRITABLE, which truncation takes from the
/// original's and leaves to ours. What the objects hold is checked by the volumes' hashes.
fn compare_truncated(stage: &str, ours: &Path, theirs: &Path) {
    let names = |dir: &Path| -> Vec<String> {
        files(dir)
            .into_keys()
            .filter(|path| is_truncated(path))
            .collect()
    };
    assert_eq!(names(ours), names(theirs), "{stage}");
    for path in names(ours).iter().filter(|path| path.starts_with("maps/")) {
        let (left, mut right) = (
            std::fs::read(ours.join(path)).unwrap(),
            std::fs::read(theirs.join(path)).unwrap(),
        );
        for flags in right.iter_mut().step_by(128).filter(|flags| **flags == 2) {
            *flags = 3;
        }
        let strip = mapfile::strip_trailing_zeros;
        assert_eq!(strip(&left), strip(&right), "{path} in {stage}");
    }
}

fn shown(path: &str, ours: &Path, theirs: &Path) -> String {
    let head = |dir: &Path| system_tests::golden::replay::head(&dir.join(path));
    format!(
        "\n{path}\n  ours   {}\n  theirs {}",
        head(ours),
        head(theirs)
    )
}

/// The same files have the same names, also where only the names are known. Shrinking removes
/// objects past the end; the original left them (B7). In a pool locks are no files.
fn compare_names(archive: &Archive, stage: &str, ours: &Path, locks: bool) {
    let mut theirs = archive.file_names(stage);
    theirs.retain(|path| !path.ends_with("_hash") && (locks || !path.starts_with("locks/")));
    if stage == "18-truncated-down" {
        theirs.retain(|path| !path.ends_with("/goldtrc01_0000000000000001_0000000000000001"));
    }
    theirs.sort();
    let ours: Vec<_> = files(ours).into_keys().collect();
    assert_eq!(ours, theirs, "{stage}");
}

fn b06_b07_a_life_of_v2_volumes_leaves_the_same(storage: &Storage) {
    let Some(archive) = Archive::unpack("v2-direct") else {
        return;
    };
    let node = storage.node();
    let mut replay = Replay::new(&node, &Value::Null);
    let stages = archive.stages();
    for stage in stages.iter().filter(|stage| stage.name != "21-after-stop") {
        replay.perform(stage);
        replay.read_back(stage, |volume, facts| {
            expected_hash(&stage.name, volume, facts)
        });
        let tree = storage.tree();
        compare_names(&archive, &stage.name, &tree, !storage.is_rados());
        if stage.kept {
            let theirs = theirs(&archive, &stage.name, storage);
            compare(&stage.name, &tree, theirs.path());
        }
    }
    node.stop();
    let last = "21-after-stop";
    let tree = storage.tree();
    compare(last, &tree, theirs(&archive, last, storage).path());
    assert_servable_by_the_original(&tree);
    if !storage.is_rados() {
        assert_eq!(wrong_modes(&tree), [""; 0]);
    }
    let last = stages
        .iter()
        .find(|stage| stage.name == "19-final")
        .unwrap();
    for (volume, facts) in last.volumes.as_object().unwrap() {
        let expected = expected_hash("21", volume, facts);
        assert_eq!(
            decoded_hash(&tree, volume),
            expected,
            "{volume} (decode.py)"
        );
    }
}

/// The original's tree of a kept stage, as it would be in such a storage: locks in a pool are no
/// files, and a name has one place there.
fn theirs(archive: &Archive, stage: &str, storage: &Storage) -> TempDir {
    let theirs = archive.copy_of(stage);
    if storage.is_rados() {
        let locks = theirs.path().join("locks");
        if locks.exists() {
            std::fs::remove_dir_all(locks).unwrap();
        }
        for path in files(theirs.path()).into_keys() {
            let (part, object) = (path.split('/').next(), path.rsplit('/').next());
            let place = place(theirs.path(), part.unwrap(), object.unwrap());
            let from = theirs.path().join(&path);
            assert!(place == from || !place.exists(), "{path} has two places");
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::rename(from, place).unwrap();
        }
    }
    theirs
}

/// Replays stages of the legacy archive over a copy of the tree of the stage `from`.
fn replay_legacy(storage: &Storage, stages: impl Fn(&str) -> bool, from: &str) {
    let Some(archive) = Archive::unpack("legacy") else {
        return;
    };
    storage.fill(&archive.tree(from));
    let node = storage.node();
    let mut replay = Replay::new(&node, &archive.manifest["volumes"]);
    let look = |stage: &str| {
        let theirs = theirs(&archive, stage, storage);
        compare(&format!("legacy {stage}"), &storage.tree(), theirs.path());
    };
    let mut stages_of = archive.stages();
    stages_of.retain(|stage| stages(&stage.name));
    for stage in &stages_of {
        replay.perform(stage);
        node.settle();
        if stage.kept {
            look(&stage.name);
        }
    }
    node.stop();
    let last = stages_of.iter().rfind(|stage| stage.kept).unwrap();
    look(&last.name);
    assert_servable_by_the_original(&storage.tree());
}

fn older_formats_without_migration_leave_the_same(storage: &Storage) {
    replay_legacy(storage, |stage| stage < "10", "00-before");
}

/// In a pool nothing moves, so that the same comes of it without `pithos_migrate`.
fn older_formats_with_migration_leave_the_same(storage: &Storage) {
    let mut storage = storage.clone();
    storage.setup.migrate = true;
    replay_legacy(&storage, |stage| stage >= "10", "02-nomigrate-opened-E");
}
