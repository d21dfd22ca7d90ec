//! Old maps and trees that are not as they should be: one sentence that names what is at fault, the
//! exit status of a failure, and nothing is changed.

use crate::lab::Lab;
use crate::old_tree::{BLOCK, OldTree, hex, new_path, old_path, picture, put};
use std::fs;
use std::os::unix::fs::symlink;

/// The names of a tree with everything that can be wrong.
struct Bad {
    /// Three blocks.
    map: String,
    /// Its second block is missing.
    holed: String,
    missing: String,
}

fn fill(lab: &Lab) -> Bad {
    let tree = OldTree(lab);
    let block = |text: &str| tree.block(text.as_bytes());
    let map = tree.map(&["one", "two", "three"].map(block));
    let hashes = ["four", "five"].map(block);
    let missing = hex(&hashes[1]);
    fs::remove_file(lab.path("blocks").join(old_path(&missing))).unwrap();
    let holed = tree.map(&hashes);
    tree.volume("of-zero-three", old_path, b"volume");
    put(
        &lab.path("maps"),
        &new_path("garbage"),
        b"this is no map of any version.",
    );
    put(&lab.path("maps"), &new_path("version-9"), &garbage_header());
    Bad {
        map,
        holed,
        missing,
    }
}

/// It begins like a map of version 2, and says that it is 9.
fn garbage_header() -> [u8; 32] {
    let mut header = [0; 32];
    header[..8].copy_from_slice(b"AMF.\0\0\0\x09");
    header
}

#[test]
fn bad_maps_are_named_and_nothing_changes() {
    let lab = Lab::started(true);
    let Bad {
        map,
        holed,
        missing,
    } = &fill(&lab);
    let wrong_size = |need: u64, size: u64| {
        format!(
            "{map}: a version 0 map of 96 bytes does not hold exactly the {need} entries of a \
             volume of {size} bytes\n"
        )
    };
    let no_map = |name: &str| {
        format!(
            "{name}: the object does not begin like a map (a version 0 map is read only when the \
             request says so, with --assume_v0)\n"
        )
    };
    let ragged = "garbage: a version 0 map of 30 bytes is not a whole number of 32-byte entries\n";
    let version = "version-9: the header says version 9, and only version 2 has such a header\n";
    let (small, large) = (2 * BLOCK, 3 * BLOCK + 1);
    let table = [
        (
            format!("info {map} -v0 --v0_size {small}"),
            "info",
            wrong_size(2, small),
        ),
        (
            format!("info {map} -v0 --v0_size {large}"),
            "info",
            wrong_size(4, large),
        ),
        (
            format!("open {map} -v0 --v0_size {small}"),
            "open",
            wrong_size(2, small),
        ),
        (
            format!("hash {map} -v0 --v0_size {small}"),
            "hash",
            wrong_size(2, small),
        ),
        (
            format!("export {map} out -v0 --v0_size {small}"),
            "export",
            wrong_size(2, small),
        ),
        (
            format!("create new-volume --snap {map} -v0 --v0_size {small}"),
            "creation",
            wrong_size(2, small),
        ),
        (
            format!("info {map} -v0 --v0_size 0"),
            "info",
            format!("{map}: a version 0 map cannot describe a volume of size 0\n"),
        ),
        (format!("info {map}"), "info", no_map(map)),
        (
            format!("create new-volume --snap {map}"),
            "creation",
            no_map(map),
        ),
        (format!("open {map}"), "open", no_map(map)),
        ("info garbage".into(), "info", no_map("garbage")),
        ("info garbage -v0".into(), "info", ragged.into()),
        (
            "create new-volume --snap garbage -v0".into(),
            "creation",
            ragged.into(),
        ),
        ("rm garbage".into(), "removal", no_map("garbage")),
        ("info version-9".into(), "info", version.into()),
        ("open version-9 -v0".into(), "open", version.into()),
        (
            format!("export {holed} out"),
            "export",
            format!("{holed}: block {missing} at {BLOCK} is missing\n"),
        ),
    ];
    // Whoever reads it upgrades it; what comes after that changes nothing.
    let said = lab.vlmc(&format!("open {holed} -v0"));
    assert!(said.err.ends_with(": it is read-only\n"), "{said:?}");
    let before = picture(&lab);
    for (words, what, sentence) in table {
        lab.vlmc(&words)
            .is(255, "", &format!("vlmc {what} failed: {sentence}"));
        assert_eq!(picture(&lab), before, "{words} changed something");
    }
    // What is there already, whatever it is, is not made anew.
    for name in ["garbage", "version-9"] {
        lab.vlmc(&format!("create {name} -s 4")).is(
            255,
            "",
            &format!("vlmc creation failed: creation of \"{name}\" with 4194304 bytes: the name is taken\n"),
        );
    }
    assert_eq!(picture(&lab), before);
}

/// Ganeti always says that a map may be of version 0; the original then read one of version 1 so
/// (B10), and a clone of it was garbage.
#[test]
fn a_map_of_version_1_is_none_of_version_0() {
    let lab = Lab::started(true);
    fill(&lab);
    let before = picture(&lab);
    for words in [
        "info of-zero-three -v0",
        "info of-zero-three -v0 --v0_size 5",
    ] {
        lab.vlmc(words)
            .says(&format!("Volume of-zero-three: size: {BLOCK}\n"));
    }
    assert_eq!(picture(&lab), before);
    lab.vlmc("export of-zero-three out -v0").says("");
    assert!(fs::read(lab.path("out")).unwrap().starts_with(b"volume\0"));
    lab.vlmc("open of-zero-three -v0 --v0_size 5")
        .says("Volume opened\n");
    lab.vlmc("info of-zero-three")
        .says(&format!("Volume of-zero-three: size: {BLOCK}\n"));
}

#[test]
fn what_can_not_move_is_named_and_stays() {
    let mut lab = Lab::new(true);
    lab.add_lines(&[
        ("blockerb", "pithos_migrate = True"),
        ("blockerm", "pithos_migrate = True"),
    ]);
    let blocks = lab.path("blocks");
    let name = |digit: &str| digit.repeat(64);
    let (twice, dir, link) = (name("1"), name("2"), name("3"));
    put(&blocks, &old_path(&twice), b"old");
    put(&blocks, &new_path(&twice), b"new");
    fs::create_dir_all(blocks.join(old_path(&dir))).unwrap();
    fs::create_dir_all(blocks.join(old_path(&link)).parent().unwrap()).unwrap();
    symlink("/etc/passwd", blocks.join(old_path(&link))).unwrap();
    assert_eq!(lab.archipelago("start").status, 0);
    let before = picture(&lab);
    let said = lab.vlmc("migrate --all");
    assert_eq!(
        (said.status, said.err.as_str()),
        (255, "3 are left\n"),
        "{said:?}"
    );
    let left =
        |name: &str, why: &str| format!("blockerb: left: {}: {why}\n", old_path(name).display());
    let new = new_path(&twice);
    let twice = left(
        &twice,
        &format!("another file of this name lies at {}", new.display()),
    );
    for line in [
        twice,
        left(&dir, "it is no regular file"),
        left(&link, "it is no regular file"),
    ] {
        assert!(said.out.contains(&line), "{line}: {said:?}");
    }
    assert_eq!(picture(&lab), before);
}

/// The peers run as somebody else than who owns a file, and may neither read nor link it.
#[test]
fn what_may_not_be_read_is_named_and_stays() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("SKIPPED: only root can run a node as another user");
        return;
    }
    let guarded = fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap();
    if guarded.trim() != "1" {
        eprintln!("SKIPPED: anybody may link anything here (fs.protected_hardlinks)");
        return;
    }
    let mut lab = Lab::new(true);
    lab.run_as("nobody");
    lab.add_lines(&[
        ("blockerb", "pithos_migrate = True"),
        ("blockerm", "pithos_migrate = True"),
    ]);
    let tree = OldTree(&lab);
    let hash = hex(&tree.block(b"a block"));
    let path = lab.path("blocks").join(old_path(&hash));
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, private).unwrap();
    assert_eq!(lab.archipelago("start").status, 0);
    let before = picture(&lab);
    let said = lab.vlmc("migrate --all");
    assert_eq!(
        (said.status, said.err.as_str()),
        (255, "1 are left\n"),
        "{said:?}"
    );
    let path = old_path(&hash);
    let line = format!("blockerb: left: {}: it can't be linked: ", path.display());
    assert!(said.out.contains(&line), "{said:?}");
    assert_eq!(picture(&lab), before);
}
