//! vlmc migrate --all: everything that older releases left moves, whoever serves meanwhile.

use crate::lab::{Lab, kill};
use crate::old_tree::{BLOCK, OldTree, hex, leaves, new_path, old_path, picture, put};
use std::fs;
use std::path::PathBuf;

const MIGRATE: [(&str, &str); 2] = [
    ("blockerb", "pithos_migrate = True"),
    ("blockerm", "pithos_migrate = True"),
];

/// A tree with something of every kind.
struct Old {
    blocks: Vec<String>,
    map: String,
    size: u64,
}

impl Old {
    fn fill(lab: &Lab) -> Old {
        let tree = OldTree(lab);
        let hashes: Vec<[u8; 32]> = (0..20u32)
            .map(|n| tree.block(&n.to_le_bytes().repeat(700)))
            .collect();
        let map = tree.map(&hashes);
        tree.volume("of-zero-three", old_path, b"three");
        tree.volume("of-zero-four", new_path, b"four");
        Old {
            blocks: hashes.iter().map(|hash| hex(hash)).collect(),
            map,
            size: 19 * BLOCK + 5,
        }
    }

    /// Every object is where new ones are made, and nothing is anywhere else.
    fn assert_moved(&self, lab: &Lab) {
        let object = |name: &str| {
            let id = hex(&sha2::Digest::finalize(sha2::Digest::chain_update(
                <sha2::Sha256 as sha2::Digest>::new(),
                name,
            )));
            format!("archip_{id}")
        };
        let mut blocks: Vec<PathBuf> = self.blocks.iter().map(|name| new_path(name)).collect();
        let volumes = ["of-zero-three", "of-zero-four"];
        blocks.extend(volumes.map(|name| new_path(&object(name))));
        blocks.sort();
        assert_eq!(leaves(&lab.path("blocks")), blocks);
        let mut maps = vec![new_path(&self.map)];
        for name in volumes {
            maps.push(new_path(name));
            maps.push(new_path(&format!("{name}_0000000000000000")));
        }
        maps.sort();
        assert_eq!(leaves(&lab.path("maps")), maps);
        assert_eq!(leaves(&lab.path("locks")), [PathBuf::new()]);
    }

    fn assert_readable(&self, lab: &Lab) {
        let (map, size) = (&self.map, self.size);
        lab.vlmc(&format!("export {map} image -v0 --v0_size {size}"))
            .says("");
        let image = fs::read(lab.path("image")).unwrap();
        assert_eq!(image.len() as u64, size);
        for (n, block) in (0u32..).zip(image.chunks(BLOCK as usize)) {
            let content = n.to_le_bytes().repeat(700);
            let len = content.len().min(block.len());
            assert!(block[..len] == content[..len], "block {n}");
        }
        for (name, content) in [("of-zero-three", "three"), ("of-zero-four", "four")] {
            lab.vlmc(&format!("export {name} volume")).says("");
            assert!(
                fs::read(lab.path("volume"))
                    .unwrap()
                    .starts_with(content.as_bytes())
            );
        }
    }
}

const DONE: &str = "blockerm: 2 objects moved, 12 empty directories removed\n\
    mapperd: 2 maps upgraded\n\
    mapperd: 1 maps of version 0 stay, and are upgraded when they are read\n";

#[test]
fn everything_moves_once() {
    let lab = Lab::with_lines(&MIGRATE);
    let old = Old::fill(&lab);
    let before = picture(&lab);
    lab.vlmc("migrate --all --dry-run").says(
        "blockerm: 2 objects to move\nblockerb: 21 objects to move\nmapperd: 2 maps to upgrade\n\
         mapperd: 1 maps of version 0 stay, and are upgraded when they are read\n",
    );
    assert_eq!(picture(&lab), before, "a dry run changes nothing");
    let said = lab.vlmc("migrate --all");
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.contains("blockerm: 2 objects moved, "), "{said:?}");
    assert!(
        said.out.contains("blockerb: 21 objects moved, "),
        "{said:?}"
    );
    assert!(said.out.contains("mapperd: 2 maps upgraded\n"), "{said:?}");
    old.assert_moved(&lab);
    let said = lab.vlmc("migrate --all --format json");
    let again: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (
            &again["blockers"][0]["moved"],
            &again["blockers"][1]["moved"]
        ),
        (&0.into(), &0.into()),
        "{again}"
    );
    assert_eq!(
        (&again["version_0"], &again["left"]),
        (&1.into(), &serde_json::json!([]))
    );
    old.assert_moved(&lab);
    old.assert_readable(&lab);
}

#[test]
fn the_sizes_that_pithos_knows_upgrade_its_maps() {
    let lab = Lab::with_lines(&MIGRATE);
    let old = Old::fill(&lab);
    fs::write(lab.path("sizes"), format!("{} | {}\n", old.map, old.size)).unwrap();
    let said = lab.vlmc("migrate --all --v0_sizes sizes");
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.contains("mapperd: 3 maps upgraded\n"), "{said:?}");
    // Nobody needs to be told its size any more.
    lab.vlmc(&format!("info {}", old.map))
        .says(&format!("Volume {}: size: {}\n", old.map, old.size));
    old.assert_readable(&lab);
    fs::write(lab.path("sizes"), "mapfile | size\n").unwrap();
    lab.vlmc("migrate --all --v0_sizes sizes")
        .fails("sizes: line 1 is not the name of a map of version 0 and its size in bytes");
    lab.vlmc("migrate --all --v0_sizes nowhere")
        .fails("nowhere: No such file or directory");
}

/// Nodes of older releases look at old paths only, so nothing moves before everybody agrees.
#[test]
fn it_must_be_told() {
    let mut lab = Lab::started(true);
    Old::fill(&lab);
    let before = picture(&lab);
    let file = lab.config.file.display().to_string();
    lab.vlmc("migrate --all").fails(&format!(
        "pithos_migrate is not True in [blockerb] and [blockerm] of {file}: "
    ));
    assert_eq!(lab.vlmc("migrate").status, 2);
    assert_eq!(lab.vlmc("migrate --all --dry-run").status, 0);
    // The file says so, the node does not know yet.
    lab.add_lines(&MIGRATE);
    lab.vlmc("migrate --all").fails(
        "vlmc migrate failed: blockerm: it was started without pithos_migrate; restart the node",
    );
    assert_eq!(picture(&lab), before);
    assert_eq!(lab.archipelago("restart").status, 0);
    assert_eq!(lab.vlmc("migrate --all").status, 0);
}

#[test]
fn it_goes_without_the_node() {
    let lab = Lab::with_lines(&MIGRATE);
    let old = Old::fill(&lab);
    assert_eq!(lab.archipelago("stop").status, 0);
    let said = lab.vlmc("migrate --all");
    assert_eq!(said.status, 0, "{said:?}");
    assert!(
        said.out.starts_with(DONE) || said.out.contains("2 maps upgraded"),
        "{said:?}"
    );
    assert!(
        said.err.starts_with("Archipelago is not running: "),
        "{said:?}"
    );
    old.assert_moved(&lab);
    assert_eq!(lab.archipelago("start").status, 0);
    old.assert_readable(&lab);
}

/// The tool, the node's process, or both are killed: the next run does the rest.
#[test]
fn it_is_run_again_after_a_kill() {
    let lab = Lab::with_lines(&MIGRATE);
    let old = Old::fill(&lab);
    for round in 0..6 {
        let mut tool = lab.command("vlmc");
        tool.arg("-c")
            .arg(&lab.config.file)
            .args(["migrate", "--all"]);
        let mut tool = tool.stdout(std::process::Stdio::null()).spawn().unwrap();
        if round % 2 == 0 {
            lab.kill_and_await_successor("blockerm");
        }
        if round < 5 {
            kill(tool.id() as i32);
        }
        let ended = tool.wait().unwrap();
        assert!(round < 5 || ended.success());
    }
    let said = lab.vlmc("migrate --all");
    assert_eq!(said.status, 0, "{said:?}");
    old.assert_moved(&lab);
    old.assert_readable(&lab);
}

/// A map that another node has open stays, is named, and the rest moves.
#[test]
fn what_others_hold_is_left() {
    let lab = Lab::with_lines(&MIGRATE);
    Old::fill(&lab);
    put(
        &lab.path("locks"),
        "of-zero-three_lock".as_ref(),
        b"elsewhere_1002",
    );
    let said = lab.vlmc("migrate --all");
    assert_eq!(
        (said.status, said.err.as_str()),
        (255, "1 are left\n"),
        "{said:?}"
    );
    assert!(
        said.out.contains(
            "mapperd: left: archip_of-zero-three: upgrade of \"of-zero-three\": it is locked or \
             in use elsewhere\n"
        ),
        "{said:?}"
    );
    fs::remove_file(lab.path("locks/of-zero-three_lock")).unwrap();
    assert_eq!(lab.vlmc("migrate --all").status, 0);
}
