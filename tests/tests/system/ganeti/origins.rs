//! Volumes that do not start blank: from a Pithos map, from a snapshot, with their data kept.

use super::driver::{Ganeti, Variable};
use super::scripts::{ID, edited, node, size_of};
use client::{Hint, Volume};
use config::Endpoint;
use system_tests::golden::replay::content_hash;
use system_tests::golden::tree::{files, sha256};
use system_tests::golden::{Archive, name};

const MIB: u64 = 1 << 20;
/// An image of 8 MiB and 100 bytes that the original's Pithos stored, as a map without a header.
const IMAGE: &str = "1a2036c34a2ad49712ac24ac1e5be7152d01e630c79d4fbf663eb4f8aa67b3b4";

/// What Synnefo does to make a server from an old image: a map in the old layout, whose size only
/// its database knows.
#[test]
fn a_disk_starts_from_an_old_pithos_image() {
    let Some(archive) = Archive::unpack("legacy") else {
        return;
    };
    let facts = &archive.manifest["volumes"][IMAGE];
    let (bytes, hash) = (facts["size"].as_u64().unwrap(), &facts["sha256"]);
    let tree = archive.copy_of("00-before");
    std::fs::create_dir_all(tree.path().join("locks")).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let node = edited(&parent, Endpoint::Nbd, |mut text| {
        for (key, part) in [("archip", "blocks"), ("archip", "maps"), ("lock", "locks")] {
            let there = tree.path().join(part).display().to_string();
            text = text.replace(
                &format!("{key}_dir = {part}"),
                &format!("{key}_dir = {there}"),
            );
        }
        text
    });
    let ganeti = Ganeti::on(&node);
    let origin_size = bytes.to_string();
    let create = |size: &'static str| {
        let variables: [Variable<'_>; 4] = [
            ("VOL_NAME", ID),
            ("VOL_SIZE", size),
            ("EXTP_ORIGIN", IMAGE),
            ("EXTP_ORIGIN_SIZE", &origin_size),
        ];
        ganeti.call("create", &variables)
    };
    let creating = |size| format!("Creating volume '{ID}' of size '{size}' from '{IMAGE}'\n");
    let before = files(tree.path());
    create("8").fails(&format!(
        "{}Archipelago error: vlmc creation failed: VOL_SIZE (8 MiB) is less than the {bytes} bytes \
         of {IMAGE}\n",
        creating(8)
    ));
    assert_eq!(files(tree.path()), before);
    create("10").says(&creating(10));
    assert_eq!(size_of(&node, ID), 10 * MIB);
    let content = content_hash(&node.client(), ID, Hint::default(), Some(bytes));
    assert_eq!(content.unwrap(), *hash);
    // As databases wrote it before a migration of theirs.
    let prefixed = format!("archip:{IMAGE}");
    let again: [Variable<'_>; 4] = [
        ("VOL_NAME", "another.ext.disk0"),
        ("VOL_SIZE", "9"),
        ("EXTP_ORIGIN", &prefixed),
        ("EXTP_ORIGIN_SIZE", &origin_size),
    ];
    assert_eq!(ganeti.call("create", &again).status, 0);
    let content = content_hash(
        &node.client(),
        "another.ext.disk0",
        Hint::default(),
        Some(bytes),
    );
    assert_eq!(content.unwrap(), *hash);
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}

#[test]
fn a_disk_starts_from_a_snapshot_and_goes_its_own_way() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let client = node.client();
    client.create(name("snf-vol-1"), 8 * MIB).unwrap();
    let first = Volume::open(&client, name("snf-vol-1"), Hint::default()).unwrap();
    first.write_at(b"as it was", 5 * MIB).unwrap();
    let snapshot = [
        ("VOL_NAME", "snf-vol-1"),
        ("VOL_SNAPSHOT_NAME", "snf-snap-1-1"),
    ];
    assert_eq!(ganeti.call("snapshot", &snapshot).status, 0);
    first.write_at(b"as it is!", 5 * MIB).unwrap();
    let create = |size: &'static str| {
        let variables = [
            ("VOL_NAME", ID),
            ("VOL_SIZE", size),
            ("EXTP_ORIGIN", "snf-snap-1-1"),
        ];
        ganeti.call("create", &variables)
    };
    let creating = |size| format!("Creating volume '{ID}' of size '{size}' from 'snf-snap-1-1'\n");
    create("7").fails(&format!(
        "{}Archipelago error: vlmc creation failed: VOL_SIZE (7 MiB) is less than the 8388608 bytes \
         of snf-snap-1-1\n",
        creating(7)
    ));
    create("16").says(&creating(16));
    assert_eq!(size_of(&node, ID), 16 * MIB);
    let volume = Volume::open(&client, name(ID), Hint::default()).unwrap();
    let mut bytes = [0; 9];
    volume.read_at(&mut bytes, 5 * MIB).unwrap();
    assert_eq!(&bytes, b"as it was");
    volume.read_at(&mut bytes, 12 * MIB).unwrap();
    assert_eq!(bytes, [0; 9], "what is beyond the snapshot");
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}

/// A detached disk is given to another instance: Ganeti makes a new disk object over old data.
#[test]
fn data_that_is_there_is_kept_when_that_is_asked_for() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let client = node.client();
    client.create(name("snf-vol-1"), 4 * MIB).unwrap();
    let volume = Volume::open(&client, name("snf-vol-1"), Hint::default()).unwrap();
    volume.write_at(b"kept", 0).unwrap();
    volume.flush().unwrap();
    let before = files(node.dir());
    let create = |reuse: &'static str| {
        let variables = [
            ("VOL_NAME", ID),
            ("VOL_CNAME", "snf-vol-1"),
            ("VOL_SIZE", "4"),
            ("EXTP_REUSE_DATA", reuse),
        ];
        ganeti.call("create", &variables)
    };
    create("True").says("Reusing previous data for snf-vol-1\n");
    // Exactly this word, as in release 0.4.4: with any other the name is taken.
    for other in ["true", "False", "1", ""] {
        let said = create(other);
        assert!(
            said.status == 1 && said.log.ends_with(": the name is taken\n"),
            "{said:?}"
        );
    }
    assert_eq!(files(node.dir()), before);
    let mut bytes = vec![0xee; 4];
    volume.read_at(&mut bytes, 0).unwrap();
    assert_eq!(sha256(&bytes), sha256(b"kept"));
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}
