//! Sizes and ranges that a volume does not have, and what a snapshot does not allow.

use super::{Row, SIZE, Storage, Victim, name, row};
use client::{Error, Hint, Volume};

on_each! {
    files, rados =>
        by_vlmc,
        by_the_client,
}

const NONE: Hint = Hint {
    assume_v0: false,
    v0_size: None,
};
const INVALID: &str = "the volume, name, range or size does not allow it";

fn by_vlmc(storage: &Storage) {
    let node = Victim::new(storage);
    node.refuses_of_vlmc(&[
        (
            &["create", "volume-2"],
            "At least one of the size/snap args must be provided",
        ),
        (
            &["create", "volume-2", "-s", "0"],
            &format!(
                r#"vlmc creation failed: creation of "volume-2" with 0 bytes: {INVALID}"#
            ),
        ),
        (
            &["create", "volume-2", "-s", "17592186044416"],
            "17592186044416 MiB is more than any volume can have",
        ),
        (
            &["clone", "snapshot-1", "volume-2", "--size", "1023"],
            &format!(
                r#"vlmc creation failed: creation of "volume-2" from "snapshot-1" with 1072693248 bytes: {INVALID}"#
            ),
        ),
        (
            &["clone", "volume-1", "volume-2"],
            &format!(
                r#"vlmc creation failed: creation of "volume-2" from "volume-1": {INVALID}"#
            ),
        ),
        (
            &["resize", "volume-1", "-s", "1"],
            "vlmc resize failed: the volume would lose its end; --allow-shrink allows that",
        ),
        (
            &["resize", "volume-1", "-s", "0", "--allow-shrink"],
            &format!(r#"vlmc resize failed: resizing of "volume-1" to 0 bytes: {INVALID}"#),
        ),
        (
            &["resize", "snapshot-1", "-s", "2048"],
            r#"vlmc resize failed: resizing of "snapshot-1" to 2147483648 bytes: it is read-only"#,
        ),
        (
            &["snapshot", "snapshot-1", "snapshot-2"],
            r#"vlmc snapshot failed: snapshot of "snapshot-1" as "snapshot-2": it is read-only"#,
        ),
        (
            &["rename", "snapshot-1", "snapshot-2"],
            r#"vlmc rename failed: renaming of "snapshot-1" to "snapshot-2": it is read-only"#,
        ),
        (
            &["open", "snapshot-1"],
            r#"vlmc open failed: opening of "snapshot-1": it is read-only"#,
        ),
        (
            &["close", "volume-1"],
            &format!(r#"vlmc close failed: closing of "volume-1": {INVALID}"#),
        ),
        (
            &["hash", "volume-1"],
            &format!(r#"vlmc hash failed: hashing of "volume-1": {INVALID}"#),
        ),
        (
            &["import", "/dev/null/nothing", "volume-2"],
            "vlmc import failed: /dev/null/nothing: Not a directory (os error 20)",
        ),
    ]);
    node.end();
}

type Act = fn(&Volume, u64) -> Result<(), Error>;

/// Reads and writes of ranges that end outside the volume.
fn outside() -> Vec<Row> {
    let acts: [(&str, Act); 4] = [
        ("read", |volume, at| volume.read_at(&mut [0; 4096], at)),
        ("write", |volume, at| volume.write_at(&[1; 4096], at)),
        ("discard", |volume, at| volume.discard(at, 4096)),
        ("write of zeroes", |volume, at| {
            volume.write_zeroes(at, 4096)
        }),
    ];
    let mut rows = Vec::new();
    for (what, act) in acts {
        for at in [
            SIZE - 4095,
            SIZE,
            SIZE + (1 << 40),
            u64::MAX - 4095,
            u64::MAX,
        ] {
            let sentence = format!("{what} of volume \"volume-1\" at {at}: {INVALID}");
            rows.push(row(libc::EINVAL, sentence, move |client| {
                act(&Volume::open(client, name("volume-1"), NONE)?, at)
            }));
        }
    }
    rows
}

/// Everything that would change a snapshot: where it has data, and in its holes, where DISCARD and
/// ZEROES would change nothing and once said that they had.
fn of_a_snapshot() -> Vec<Row> {
    let acts: [(&str, Act); 3] = [
        ("write", |volume, at| volume.write_at(b"never", at)),
        ("discard", |volume, at| volume.discard(at, 4 << 20)),
        ("write of zeroes", |volume, at| {
            volume.write_zeroes(at, 4 << 20)
        }),
    ];
    let mut rows = Vec::new();
    for (what, act) in acts {
        for at in [0, 8 << 20] {
            let sentence = format!("{what} of volume \"snapshot-1\" at {at}: it is read-only");
            rows.push(row(libc::EROFS, sentence, move |client| {
                act(&Volume::open(client, name("snapshot-1"), NONE)?, at)
            }));
        }
    }
    rows
}

fn by_the_client(storage: &Storage) {
    let node = Victim::in_use(storage);
    node.refuses(&outside());
    node.refuses(&of_a_snapshot());
    node.refuses(&[
        row(
            libc::EINVAL,
            format!("creation of \"volume-2\" with 0 bytes: {INVALID}"),
            |client| client.create(name("volume-2"), 0),
        ),
        row(
            libc::EINVAL,
            format!(
                "creation of \"volume-2\" with {} bytes: {INVALID}",
                u64::MAX
            ),
            |client| client.create(name("volume-2"), u64::MAX),
        ),
        row(
            libc::EINVAL,
            format!(
                "creation of \"volume-2\" from \"snapshot-1\" with {} bytes: {INVALID}",
                SIZE - 1
            ),
            |client| client.clone_volume(name("snapshot-1"), name("volume-2"), SIZE - 1, NONE),
        ),
        row(
            libc::EINVAL,
            format!("resizing of \"volume-1\" to {} bytes: {INVALID}", SIZE - 1),
            |client| client.resize(name("volume-1"), SIZE - 1, false),
        ),
        row(
            libc::EINVAL,
            format!("resizing of \"volume-1\" to {} bytes: {INVALID}", u64::MAX),
            |client| client.resize(name("volume-1"), u64::MAX, false),
        ),
    ]);
    node.end();
}
