//! Names: with `/` or NUL, too short, too long, reserved, taken, their own, and of nothing.

use super::{Row, Storage, Victim, name, row};
use client::{Client, Error, Hint};

on_each! {
    files, rados =>
        by_vlmc,
        by_the_client,
}

const MIB: u64 = 1 << 20;
const NONE: Hint = Hint {
    assume_v0: false,
    v0_size: None,
};

/// 83 bytes.
const LONG: &str = concat!(
    "1234567890123456789012345678901234567890",
    "1234567890123456789012345678901234567890abc"
);

fn by_vlmc(storage: &Storage) {
    let node = Victim::new(storage);
    let slash = "the volume, name, range or size does not allow it";
    node.refuses_of_vlmc(&[
        (
            &["create", "a/b/c/d", "-s", "1"],
            &format!(r#"vlmc creation failed: creation of "a/b/c/d" with 1048576 bytes: {slash}"#),
        ),
        (
            &["create", "../../x", "-s", "1"],
            &format!(r#"vlmc creation failed: creation of "../../x" with 1048576 bytes: {slash}"#),
        ),
        (
            &["create", "short", "-s", "1"],
            "Name should have at least len 6",
        ),
        (&["create", "", "-s", "1"], "Name should have at least len 6"),
        (
            &["create", "..", "-s", "1"],
            "Name should have at least len 6",
        ),
        (
            &["create", LONG, "-s", "1"],
            &format!(
                r#"vlmc creation failed: creation of "{LONG}" with 1048576 bytes: the name is too long"#
            ),
        ),
        (
            &["create", "archip_volume", "-s", "1"],
            "Invalid volume name",
        ),
        (&["create", "volume_lock", "-s", "1"], "Invalid volume name"),
        (
            &["create", "v_0123456789abcdef", "-s", "1"],
            "Invalid volume name",
        ),
        (
            &["create", "volume-1", "-s", "1"],
            r#"vlmc creation failed: creation of "volume-1" with 1048576 bytes: the name is taken"#,
        ),
        (
            &["create", "snapshot-1", "-s", "1"],
            r#"vlmc creation failed: creation of "snapshot-1" with 1048576 bytes: the name is taken"#,
        ),
        (
            &["clone", "snapshot-1", "volume-1"],
            r#"vlmc creation failed: creation of "volume-1" from "snapshot-1": the name is taken"#,
        ),
        (
            &["clone", "snapshot-9", "volume-2"],
            r#"vlmc creation failed: creation of "volume-2" from "snapshot-9": there is no such volume, object or lock"#,
        ),
        (
            &["snapshot", "volume-1", "snapshot-1"],
            r#"vlmc snapshot failed: snapshot of "volume-1" as "snapshot-1": the name is taken"#,
        ),
        (
            &["snapshot", "volume-1", "volume-1"],
            r#"vlmc snapshot failed: snapshot of "volume-1" as "volume-1": the name is taken"#,
        ),
        (
            &["snapshot", "volume-1", "short"],
            &format!(r#"vlmc snapshot failed: snapshot of "volume-1" as "short": {slash}"#),
        ),
        (
            &["snapshot", "volume-1", "some_lock"],
            "Invalid snapshot name",
        ),
        (
            &["rename", "volume-1", "snapshot-1"],
            r#"vlmc rename failed: renaming of "volume-1" to "snapshot-1": the name is taken"#,
        ),
        (
            &["rename", "volume-1", "volume-1"],
            r#"vlmc rename failed: renaming of "volume-1" to "volume-1": the name is taken"#,
        ),
        (
            &["rename", "volume-1", "short"],
            "New name should have at least len 6",
        ),
        (&["rename", "volume-1", "archip_x"], "Invalid new name"),
        (
            &["rename", "volume-9", "volume-2"],
            r#"vlmc rename failed: renaming of "volume-9" to "volume-2": there is no such volume, object or lock"#,
        ),
        (
            &["remove", "volume-9"],
            r#"vlmc removal failed: removal of "volume-9": there is no such volume, object or lock"#,
        ),
        (
            &["remove", "a/b"],
            &format!(r#"vlmc removal failed: removal of "a/b": {slash}"#),
        ),
        (
            &["info", "volume-9"],
            r#"vlmc info failed: info of "volume-9": there is no such volume, object or lock"#,
        ),
        (
            &["open", "volume-9"],
            r#"vlmc open failed: opening of "volume-9": there is no such volume, object or lock"#,
        ),
        (
            &["unlock", "volume-1"],
            r#"vlmc unlock failed: unlocking of "volume-1": there is no such volume, object or lock"#,
        ),
        (
            &["lock", "a/b/c/d"],
            &format!(r#"vlmc lock failed: locking of "a/b/c/d": {slash}"#),
        ),
        (&["map", "volume-9"], r#"volume-9: volume "volume-9": there is no such volume"#),
        (&["unmap", "volume-9"], "volume-9: Device doesn't exist"),
    ]);
    node.end();
}

/// What makes a volume of a name, and how a refusal calls it.
type Maker = (fn(&Client, &str) -> Result<(), Error>, fn(&str) -> String);

const MAKERS: [Maker; 4] = [
    (
        |client, new| client.create(name(new), MIB),
        |new| format!("creation of {:?} with 1048576 bytes", name(new)),
    ),
    (
        |client, new| client.clone_volume(name("snapshot-1"), name(new), 0, NONE),
        |new| format!("creation of {:?} from \"snapshot-1\"", name(new)),
    ),
    (
        |client, new| client.snapshot(name("volume-1"), name(new), NONE),
        |new| format!("snapshot of \"volume-1\" as {:?}", name(new)),
    ),
    (
        |client, new| client.rename(name("volume-1"), name(new), NONE),
        |new| format!("renaming of \"volume-1\" to {:?}", name(new)),
    ),
];

/// Names that no argument can carry, and those that the tool refuses by itself.
fn by_the_client(storage: &Storage) {
    let node = Victim::new(storage);
    let (invalid, long, taken) = (
        (
            libc::EINVAL,
            "the volume, name, range or size does not allow it",
        ),
        (libc::ENAMETOOLONG, "the name is too long"),
        (libc::EEXIST, "the name is taken"),
    );
    let mut rows: Vec<Row> = Vec::new();
    for (bad, (errno, why)) in [
        ("a/b/c/d", invalid),
        ("/absolute", invalid),
        ("../../../x", invalid),
        ("nul\0nul", invalid),
        ("", invalid),
        ("short", invalid),
        (".", invalid),
        ("..", invalid),
        (LONG, long),
        ("archip_volume", invalid),
        ("volume_lock", invalid),
        ("v_0123456789abcdef", invalid),
        ("volume-1", taken),
        ("snapshot-1", taken),
    ] {
        for (send, what) in MAKERS {
            let sentence = format!("{}: {why}", what(bad));
            rows.push(row(errno, sentence, move |client| send(client, bad)));
        }
    }
    node.refuses(&rows);
    node.end();
}
