//! Which volume a disk is, under which of Ganeti's names.

use super::driver::Ganeti;
use super::scripts::{ID, edited, node};
use config::Endpoint;
use std::fs;
use system_tests::golden::name;

const MIB: u64 = 1 << 20;

/// Which volume a disk is, for each policy, with volumes of both kinds in the storage.
#[test]
fn a_disk_is_found_under_either_of_its_names() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let client = node.client();
    let named = |cname| [("VOL_NAME", ID), ("VOL_CNAME", cname)];
    let mapped = |cname| {
        let uri = ganeti.attach(&named(cname)).kvm().to_owned();
        ganeti.call("detach", &named(cname)).says("");
        let volume = uri.strip_prefix("nbd+unix:///").unwrap();
        volume.split_once('?').unwrap().0.to_owned()
    };
    // A volume of release 0.3, whose disk got a name later.
    client.create(name(ID), MIB).unwrap();
    assert_eq!(mapped("snf-vol-7"), ID);
    // One of release 0.4.4, and a disk that people named.
    client.create(name("snf-vol-7"), MIB).unwrap();
    assert_eq!(mapped("snf-vol-7"), "snf-vol-7");
    assert_eq!(mapped("data"), ID, "no volume can be called so");
    // A new one gets the disk's own name, unless that can't be one.
    let create = |cname| [&named(cname)[..], &[("VOL_SIZE", "1")]].concat();
    ganeti
        .call("create", &create("snf-vol-8"))
        .says("Creating volume 'snf-vol-8' of size '1'\n");
    let taken = format!(
        "Creating volume '{ID}' of size '1'\nArchipelago error: vlmc creation failed: creation of \
         \"{ID}\" with 1048576 bytes: the name is taken\n"
    );
    ganeti.call("create", &create("data")).fails(&taken);
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}

#[test]
fn each_policy_is_the_administrators() {
    for (policy, expected) in [("VOL_NAME", ID), ("VOL_CNAME", "snf-vol-7")] {
        let parent = tempfile::tempdir().unwrap();
        let node = edited(&parent, Endpoint::Nbd, |text| {
            format!("{text}\n[GANETI]\nVOLUME_NAME = {policy}\n")
        });
        let ganeti = Ganeti::on(&node);
        let both = [
            ("VOL_NAME", ID),
            ("VOL_CNAME", "snf-vol-7"),
            ("VOL_SIZE", "1"),
        ];
        let creating = format!("Creating volume '{expected}' of size '1'\n");
        ganeti.call("create", &both).says(&creating);
        ganeti
            .call("remove", &both)
            .says(&format!("Deleting '{expected}'\n"));
        if policy == "VOL_CNAME" {
            ganeti.call("attach", &both[..1]).fails(
                "The environment variable VOL_CNAME is missing.\nWrong environment. Aborting...\n",
            );
        }
        drop(ganeti);
        assert!(node.stop().unwrap().success());
    }
}

/// Ganeti passes VOL_CNAME to every script but snapshot; it has attached the disk before.
#[test]
fn a_snapshot_finds_its_volume_without_the_disks_name() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let disk = [("VOL_NAME", ID), ("VOL_CNAME", "snf-vol-7")];
    node.client().create(name("snf-vol-7"), MIB).unwrap();
    let snapshot = |to: &'static str| [("VOL_NAME", ID), ("VOL_SNAPSHOT_NAME", to)];
    let unknown = format!(
        "Creating snapshot 'snf-snap-1' from '{ID}'\nArchipelago error: vlmc snapshot failed: \
         snapshot of \"{ID}\" as \"snf-snap-1\": there is no such volume, object or lock\n"
    );
    ganeti
        .call("snapshot", &snapshot("snf-snap-1"))
        .fails(&unknown);
    ganeti.attach(&disk);
    let taking = |to: &str| format!("Creating snapshot '{to}' from 'snf-vol-7'\n");
    ganeti
        .call("snapshot", &snapshot("snf-snap-1"))
        .says(&taking("snf-snap-1"));
    // A patched Ganeti, which does pass it.
    let passed = [&disk[..], &[("VOL_SNAPSHOT_NAME", "snf-snap-2")]].concat();
    ganeti.call("snapshot", &passed).says(&taking("snf-snap-2"));
    ganeti.call("detach", &disk).says("");
    ganeti.call("remove", &disk).says("Deleting 'snf-vol-7'\n");
    let notes = node.config.archipelago.run_dir.join("ganeti");
    assert_eq!(fs::read_dir(notes).unwrap().count(), 0, "a note is left");
    // Ganeti attaches a snapshot by its name to export it, and then removes it.
    let exported = [("VOL_NAME", "snf-snap-2")];
    ganeti.attach(&exported);
    ganeti.call("detach", &exported).says("");
    ganeti
        .call("remove", &exported)
        .says("Deleting 'snf-snap-2'\n");
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}
