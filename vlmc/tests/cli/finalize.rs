//! finalize_upgrade_0.4: messages, logs and exit statuses.

use crate::lab::{Lab, Said};
use crate::old_tree::{OldTree, new_path, old_path, picture, put};
use std::fs;
use std::path::Path;

fn finalize(lab: &Lab, words: &[&str]) -> Said {
    let mut command = lab.command("finalize_upgrade");
    command.arg("-c").arg(&lab.config.file).args(words);
    command.output().unwrap().into()
}

fn log(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(format!("{name}.log"))).unwrap()
}

fn fill(lab: &Lab) {
    let tree = OldTree(lab);
    tree.volume("of-zero-three", old_path, b"three");
    tree.volume("of-zero-four", new_path, b"four");
    tree.map(&[tree.block(b"a block")]);
    lab.vlmc("create new-volume -s 1").says("");
}

#[test]
fn maps_of_version_1_are_upgraded() {
    let lab = Lab::started(true);
    fill(&lab);
    let before = picture(&lab);
    finalize(&lab, &["--dry-run"])
        .says("4 maps\n2 to upgrade\n0 with an invalid header object\nOK\n");
    assert_eq!(picture(&lab), before);
    assert!(!lab.path("upgraded.log").exists());
    let logs = lab.path("logs");
    fs::create_dir(&logs).unwrap();
    finalize(&lab, &["-l", "logs"]).says("OK\n");
    assert_eq!(log(&logs, "upgraded"), "of-zero-four\nof-zero-three\n");
    assert_eq!(
        (log(&logs, "invalid"), log(&logs, "failed")),
        Default::default()
    );
    let said = lab.vlmc("list --format json");
    let maps: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let versions = maps.as_array().unwrap().iter().map(|map| &map["version"]);
    assert!(
        versions.filter(|version| **version == 1).count() == 0,
        "{maps}"
    );
    // Again, into the current directory: there is nothing to do.
    finalize(&lab, &[]).says("OK\n");
    assert_eq!(log(&lab.path(""), "upgraded"), "");
}

#[test]
fn what_is_wrong_is_in_the_logs() {
    let lab = Lab::started(true);
    fill(&lab);
    put(
        &lab.path("locks"),
        "of-zero-four_lock".as_ref(),
        b"elsewhere_1002",
    );
    // A header of version 2 under names that no volume may have.
    let header = fs::read(lab.path("maps").join(new_path("new-volume"))).unwrap();
    for name in ["archip_volume", "volume_lock"] {
        put(&lab.path("maps"), &new_path(name), &header);
    }
    let said = finalize(&lab, &[]);
    assert_eq!(
        (said.status, said.out.as_str()),
        (1, "Failed\n"),
        "{said:?}"
    );
    let dir = lab.path("");
    assert_eq!(log(&dir, "upgraded"), "of-zero-three\n");
    assert_eq!(log(&dir, "failed"), "Failed to upgrade of-zero-four\n");
    assert_eq!(
        log(&dir, "invalid"),
        "volume has invalid header object archip_volume\n\
         volume_lock has invalid header object volume_lock\n"
    );
    // When that is mended it is run again, and goes on.
    fs::remove_file(lab.path("locks/of-zero-four_lock")).unwrap();
    for name in ["archip_volume", "volume_lock"] {
        fs::remove_file(lab.path("maps").join(new_path(name))).unwrap();
    }
    finalize(&lab, &[]).says("OK\n");
    assert_eq!(log(&dir, "upgraded"), "of-zero-three\nof-zero-four\n");
    assert_eq!(
        (log(&dir, "invalid"), log(&dir, "failed")),
        Default::default()
    );
}

#[test]
fn whatever_else_fails_is_1() {
    let lab = Lab::new(true);
    assert_eq!(finalize(&lab, &["--nonsense"]).status, 1);
    assert_eq!(finalize(&lab, &["--help"]).status, 0);
    let said = finalize(&lab, &[]);
    assert_eq!(
        (said.status, said.out.as_str()),
        (1, "Failed\n"),
        "{said:?}"
    );
    assert!(
        said.err.starts_with("Archipelago is not running: "),
        "{said:?}"
    );
    assert_eq!(lab.archipelago("start").status, 0);
    let said = finalize(&lab, &["-l", "nowhere"]);
    assert_eq!(
        (said.status, said.out.as_str()),
        (1, "Failed\n"),
        "{said:?}"
    );
    assert!(said.err.starts_with("nowhere/upgraded.log: "), "{said:?}");
}
