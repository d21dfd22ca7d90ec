//! vlmc: what it prints, how it exits, and what is in the volumes afterwards.

use crate::lab::{Lab, Storage};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Stdio;

on_each! {
    files, rados =>
        the_life_of_a_volume,
        files_go_in_and_come_out_without_their_holes,
        pipes_go_in_and_come_out,
        a_missing_object_is_found,
}
on_each! {
    files, rados =>
        a_map_of_pithos_is_cloned_at_once,
        a_missing_block_of_pithos_cannot_be_read,
}

#[test]
fn names_are_checked_before_anything_is_sent() {
    // The node does not run, so that whatever is sent fails in another way.
    let lab = Lab::new(true);
    for (words, message) in [
        ("create short -s 1", "Name should have at least len 6\n"),
        ("create archip_x -s 1", "Invalid volume name\n"),
        ("create some_lock -s 1", "Invalid volume name\n"),
        ("create v_0123456789abcdef -s 1", "Invalid volume name\n"),
        (
            "create volume",
            "At least one of the size/snap args must be provided\n",
        ),
        (
            "snapshot short snapname",
            "Name should have at least len 6\n",
        ),
        ("snapshot volume archip_x", "Invalid snapshot name\n"),
        (
            "rename volume short",
            "New name should have at least len 6\n",
        ),
        ("rename short volume", "Name should have at least len 6\n"),
        ("rename volume some_lock", "Invalid new name\n"),
        ("hash short", "Name should have at least len 6\n"),
        ("lock short", "Name should have at least len 6\n"),
        ("unlock short", "Name should have at least len 6\n"),
        ("open short", "Name should have at least len 6\n"),
        ("close short", "Name should have at least len 6\n"),
        ("info short", "Name should have at least len 6\n"),
    ] {
        lab.vlmc(words).is(255, "", message);
    }
    for words in ["info volume", "remove x", "create volume -s 1", "check"] {
        lab.vlmc(words)
            .fails("Archipelago is not running: nobody listens at ");
    }
    for words in [
        "",
        "create",
        "create volume -s x",
        "frobnicate",
        "info volume --nonsense",
    ] {
        assert_eq!(lab.vlmc(words).status, 2, "{words}");
    }
}

fn the_life_of_a_volume(storage: &Storage) {
    let lab = storage.started(true);
    let vlmc = |words| lab.vlmc(words);
    vlmc("create volume -s 8").says("");
    vlmc("create volume -s 8").fails("vlmc creation failed");
    vlmc("info volume").says("Volume volume: size: 8388608\n");
    vlmc("snapshot volume snapshot").says("Snapshot name: snapshot\n");
    vlmc("snapshot volume snapshot").fails("vlmc snapshot failed");
    vlmc("create cloned --snap snapshot").says("");
    vlmc("clone snapshot cloned2 --siz 16").says("");
    vlmc("info cloned2 -v0 --v0_size 4").says("Volume cloned2: size: 16777216\n");
    vlmc("ls").says("cloned\ncloned2\nsnapshot\nvolume\n");
    vlmc("rename cloned renamed").says("Renamed cloned to renamed\n");
    vlmc("info cloned").fails("vlmc info failed");
    vlmc("rename cloned another").fails("vlmc rename failed");
    vlmc("open renamed").says("Volume opened\n");
    let said = vlmc("lock renamed --show");
    assert!(said.out.starts_with("Volume renamed: lock: ") && said.out.ends_with("this node\n"));
    vlmc("close renamed").says("Volume closed\n");
    vlmc("lock --show renamed").says("Volume renamed: lock: nobody\n");
    vlmc("lock renamed").says("Volume locked\n");
    vlmc("unlock renamed").says("Volume unlocked\n");
    vlmc("unlock renamed").fails("vlmc unlock failed");
    vlmc("resize renamed -s 32").says("");
    vlmc("info renamed").says("Volume renamed: size: 33554432\n");
    vlmc("resize renamed -s 1").fails("vlmc resize failed");
    vlmc("resize renamed -s 1 --allow-shrink").says("");
    vlmc("remove renamed").says("");
    vlmc("rm renamed").fails("vlmc removal failed");
    vlmc("rm cloned2").says("");
    let hash = vlmc("hash snapshot");
    let name = hash
        .out
        .trim_end()
        .strip_prefix("Hash name: ")
        .expect("a hash")
        .to_owned();
    assert!(name.len() == 64 && hash.status == 0);
    vlmc("check").says("3 volumes and 0 objects checked, 0 findings\n");
    // The listing is the same without the node, which the tool reads by itself then.
    let listed = format!("{name}\nsnapshot\nvolume\n");
    let mut sorted: Vec<&str> = listed.lines().collect();
    sorted.sort_unstable();
    let listed = sorted.join("\n") + "\n";
    vlmc("list").says(&listed);
    assert_eq!(lab.archipelago("stop").status, 0);
    vlmc("list").says(&listed);
    let json = vlmc("list --format json").out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let volume = value
        .as_array()
        .unwrap()
        .iter()
        .find(|v| v["name"] == "volume")
        .unwrap();
    assert_eq!(
        (&volume["version"], &volume["size"]),
        (&2.into(), &8_388_608.into())
    );
}

/// 9 MiB with a hole and an odd end.
fn sample(lab: &Lab) -> (std::path::PathBuf, Vec<u8>) {
    let path = lab.path("sample");
    let file = File::create(&path).unwrap();
    let block: Vec<u8> = (0..100_000u32).flat_map(|i| i.to_le_bytes()).collect();
    file.write_all_at(&block, 0).unwrap();
    file.write_all_at(&block, 8_600_000).unwrap();
    file.write_all_at(b"end", 9_437_000).unwrap();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

fn files_go_in_and_come_out_without_their_holes(storage: &Storage) {
    let lab = storage.started(true);
    let (path, mut bytes) = sample(&lab);
    lab.vlmc(&format!("import {} imported", path.display()))
        .says("");
    lab.vlmc("export imported out").says("");
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    assert!(fs::read(lab.path("out")).unwrap() == bytes);
    assert!(fs::metadata(lab.path("out")).unwrap().blocks() * 512 < 2 << 20);
    let said = lab.vlmc("status imported --format json");
    let status: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&status["own_blocks"], &status["zero_blocks"]),
        (&2.into(), &1.into())
    );
    // Over a volume that is there: zeros in the file are zeros in the volume.
    fs::write(lab.path("zeros"), vec![0; 5 << 20]).unwrap();
    lab.vlmc("import zeros imported --existing").says("");
    lab.vlmc("export imported out").says("");
    bytes[..5 << 20].fill(0);
    assert!(fs::read(lab.path("out")).unwrap() == bytes);
    lab.vlmc("import zeros imported")
        .fails("vlmc import failed: imported exists (--existing ");
    fs::write(lab.path("large"), vec![1; 10 << 20]).unwrap();
    lab.vlmc("import --existing large imported")
        .fails("vlmc import failed: the file is larger");
}

fn pipes_go_in_and_come_out(storage: &Storage) {
    let lab = storage.started(true);
    let bytes: Vec<u8> = (0..2_500_001u32).flat_map(|i| i.to_le_bytes()).collect();
    let run = |words: &[&str]| {
        let mut command = lab.command("vlmc");
        command.arg("-c").arg(&lab.config.file).args(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut import = run(&["import", "-", "streamed"]);
    import.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(import.wait().unwrap().success());
    let size = bytes.len().next_multiple_of(512);
    lab.vlmc("info streamed")
        .says(&format!("Volume streamed: size: {size}\n"));
    let mut export = run(&["export", "streamed", "-"]);
    let mut out = Vec::new();
    export.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert!(export.wait().unwrap().success());
    assert!(out.len() == size && out.starts_with(&bytes));
    // Nothing came: nothing is left.
    let mut empty = run(&["import", "-", "nothing"]);
    drop(empty.stdin.take());
    assert_eq!(empty.wait().unwrap().code(), Some(255));
    lab.vlmc("list").says("streamed\n");
}

fn a_missing_object_is_found(storage: &Storage) {
    let lab = storage.started(true);
    let (path, _) = sample(&lab);
    lab.vlmc(&format!("import {} imported", path.display()))
        .says("");
    lab.vlmc("check imported")
        .says("1 volumes and 2 objects checked, 0 findings\n");
    let name = lab.lose_block("imported_");
    // The blocker keeps files open, and does not miss one that it has.
    assert_eq!(lab.archipelago("restart").status, 0);
    let said = lab.vlmc("check");
    assert!(
        said.out
            .starts_with(&format!("imported: object {name} at ")),
        "{said:?}"
    );
    assert!(
        said.out.contains(" is missing; it reads as zeros\n"),
        "{said:?}"
    );
    assert_eq!(
        (said.status, said.err.as_str()),
        (255, "1 findings are not repaired\n")
    );
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What Pithos stores of a file: each block by its hash, and the hashes as a map. The map's name,
/// the blocks' names, and the file's size.
fn store_as_pithos(lab: &Lab, content: &[u8]) -> (String, Vec<String>, u64) {
    let (mut map, mut blocks) = (Vec::new(), Vec::new());
    for block in content.chunks(4 << 20) {
        let end = block
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        let (stripped, hash) = (&block[..end], sha256(&block[..end]));
        map.extend(hash);
        blocks.push(hex(&hash));
        if !stripped.is_empty() {
            lab.put_pithos("blocks", &hex(&hash), stripped);
        }
    }
    let name = hex(&sha256(&map));
    lab.put_pithos("maps", &name, &map);
    (name, blocks, content.len() as u64)
}

/// 9 MiB and a bit, with a block of zeros.
fn an_image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..2_400_000u32).flat_map(u32::to_le_bytes).collect();
    image[4 << 20..8 << 20].fill(0);
    image
}

/// `vlmc create --snap OLDMAP -v0 --v0_size N`, as Cyclades does for an image of Pithos.
fn a_map_of_pithos_is_cloned_at_once(storage: &Storage) {
    let lab = storage.started(true);
    let image = an_image();
    let (map, _, size) = store_as_pithos(&lab, &image);
    lab.vlmc(&format!("info {map}")).fails("vlmc info failed");
    lab.vlmc(&format!("info {map} -v0 --v0_size {size}"))
        .says(&format!("Volume {map}: size: {size}\n"));
    lab.vlmc(&format!("create cloned --snap {map} -v0 --v0_size {size}"))
        .says("");
    lab.vlmc("info cloned")
        .says(&format!("Volume cloned: size: {size}\n"));
    lab.vlmc("export cloned out").says("");
    assert!(fs::read(lab.path("out")).unwrap() == image);
    // The clone has its own blocks from the first write on; the image stays what it was.
    fs::write(lab.path("changed"), vec![7; 5 << 20]).unwrap();
    lab.vlmc("import changed cloned --existing").says("");
    lab.vlmc(&format!("create another --snap {map} -v0 --v0_size {size}"))
        .says("");
    lab.vlmc("export another out").says("");
    assert!(fs::read(lab.path("out")).unwrap() == image);
    lab.vlmc("check cloned")
        .says("1 volumes and 3 objects checked, 0 findings\n");
    // A snapshot that is hashed is the same map under the same block names.
    lab.vlmc("snapshot another frozen")
        .says("Snapshot name: frozen\n");
    let hashed = lab.vlmc("hash frozen");
    assert!(hashed.out.starts_with("Hash name: "), "{hashed:?}");
    // A size that its hashes cannot have.
    lab.vlmc(&format!(
        "create wrong-size --snap {map} -v0 --v0_size {}",
        16 << 20
    ))
    .fails("vlmc creation failed");
    lab.vlmc("info wrong-size").fails("vlmc info failed");
}

/// Of Archipelago's own objects a missing one reads as zeros; of Pithos' it is lost data.
fn a_missing_block_of_pithos_cannot_be_read(storage: &Storage) {
    let lab = storage.started(true);
    let (map, blocks, size) = store_as_pithos(&lab, &an_image());
    lab.vlmc(&format!("create cloned --snap {map} -v0 --v0_size {size}"))
        .says("");
    lab.lose_block(&blocks[2]);
    lab.vlmc("export cloned out").fails(&format!(
        "vlmc export failed: cloned: block {} at 8388608 is missing",
        blocks[2]
    ));
    let said = lab.vlmc("check cloned");
    let finding = format!(
        "cloned: object {} at 8388608 is missing; reading it fails\n",
        blocks[2]
    );
    assert!(said.out.starts_with(&finding), "{said:?}");
    let logs = lab.logs();
    assert!(logs.contains(&blocks[2]), "{logs}");
}
