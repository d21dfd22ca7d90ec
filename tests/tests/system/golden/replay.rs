//! What was done to the golden trees, done by us, leaves the same trees.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use system_tests::golden::archive::Stage;
use system_tests::golden::tree::{
    Files, assert_servable_by_the_original, decoded_hash, files, wrong_modes,
};
use system_tests::golden::{Archive, Node, Replay, Setup};

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

fn replay_v2(direct: bool) {
    let Some(archive) = Archive::unpack("v2-direct") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let node = Node::over(
        dir.path(),
        Setup {
            direct,
            ..Setup::default()
        },
    );
    let mut replay = Replay::new(&node, &Value::Null);
    let stages = archive.stages();
    for stage in stages.iter().filter(|stage| stage.name != "21-after-stop") {
        replay.perform(stage);
        replay.read_back(stage, |volume, facts| {
            expected_hash(&stage.name, volume, facts)
        });
        compare_names(&archive, &stage.name, dir.path(), true);
        if stage.kept {
            compare(&stage.name, dir.path(), &archive.tree(&stage.name));
        }
    }
    node.stop();
    compare("21-after-stop", dir.path(), &archive.tree("21-after-stop"));
    assert_servable_by_the_original(dir.path());
    assert_eq!(wrong_modes(dir.path()), [""; 0]);
    let last = stages
        .iter()
        .find(|stage| stage.name == "19-final")
        .unwrap();
    for (volume, facts) in last.volumes.as_object().unwrap() {
        let expected = expected_hash("21", volume, facts);
        assert_eq!(
            decoded_hash(dir.path(), volume),
            expected,
            "{volume} (decode.py)"
        );
    }
}

#[test]
fn b06_b07_a_life_of_v2_volumes_leaves_the_same_trees_direct() {
    replay_v2(true);
}

#[test]
fn b06_b07_a_life_of_v2_volumes_leaves_the_same_trees_buffered() {
    replay_v2(false);
}

/// The same in pools, as Python's `rados` sees them after each stage.
#[cfg(feature = "rados")]
#[test]
fn a_life_of_v2_volumes_leaves_the_same_objects_on_rados() {
    let test = "a_life_of_v2_volumes_leaves_the_same_objects_on_rados";
    let Some(lab) = crate::rados::shared(test) else {
        return;
    };
    let Some(archive) = Archive::unpack("v2-direct") else {
        return;
    };
    let pools = system_tests::real::on_pools(lab, "replay-blocks", "replay-maps");
    let dir = tempfile::tempdir().unwrap();
    let node = Node::over_rados(dir.path(), pools.clone());
    let mut replay = Replay::new(&node, &Value::Null);
    let look = |stage: &Stage| {
        let ours = tempfile::tempdir().unwrap();
        system_tests::pools::take(lab, &pools, ours.path()).unwrap();
        compare_names(&archive, &stage.name, ours.path(), false);
        if stage.kept {
            let theirs = archive.copy_of(&stage.name);
            std::fs::remove_dir_all(theirs.path().join("locks")).unwrap();
            compare(&stage.name, ours.path(), theirs.path());
        }
        ours
    };
    let stages = archive.stages();
    let (last, before) = stages.split_last().unwrap();
    for stage in before {
        replay.perform(stage);
        replay.read_back(stage, |volume, facts| {
            expected_hash(&stage.name, volume, facts)
        });
        look(stage);
    }
    node.stop();
    assert_servable_by_the_original(look(last).path());
    println!(
        "{} stages left the objects that the original left",
        stages.len()
    );
}

/// Replays stages of the legacy archive over a copy of the tree of the stage `from`.
fn replay_legacy(archive: &Archive, stages: &[Stage], from: &str, setup: Setup) {
    let dir = archive.copy_of(from);
    let node = Node::over(dir.path(), setup);
    let mut replay = Replay::new(&node, &archive.manifest["volumes"]);
    for stage in stages {
        replay.perform(stage);
        if stage.kept {
            compare(
                &format!("legacy {}", stage.name),
                dir.path(),
                &archive.tree(&stage.name),
            );
        }
    }
    node.stop();
    let last = stages.iter().rfind(|stage| stage.kept).unwrap();
    compare(
        &format!("legacy {}", last.name),
        dir.path(),
        &archive.tree(&last.name),
    );
    assert_servable_by_the_original(dir.path());
}

#[test]
fn older_formats_without_migration_leave_the_same_trees() {
    let Some(archive) = Archive::unpack("legacy") else {
        return;
    };
    let mut stages = archive.stages();
    stages.retain(|stage| stage.name.as_str() < "10");
    for direct in [true, false] {
        replay_legacy(
            &archive,
            &stages,
            "00-before",
            Setup {
                direct,
                ..Setup::default()
            },
        );
    }
}

#[test]
fn older_formats_with_migration_leave_the_same_trees() {
    let Some(archive) = Archive::unpack("legacy") else {
        return;
    };
    let mut stages = archive.stages();
    stages.retain(|stage| stage.name.as_str() >= "10");
    for direct in [true, false] {
        let setup = Setup {
            direct,
            migrate: true,
            ..Setup::default()
        };
        replay_legacy(&archive, &stages, "02-nomigrate-opened-E", setup);
    }
}
