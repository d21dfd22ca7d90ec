//! Objects that are no maps: truncated, oversized, foreign, corrupt. `golden::badmaps` tries every
//! operation on them; here it is what people and programs are told, and what the logs say.

use super::{Storage, Victim, name, row};
use crate::golden::badmaps::{bad_chunks, bad_headers, header};
use client::{Hint, Volume};
use mapfile::FormatError;
use mapfile::recognise::{HEAD_LEN, recognise};
use std::fs;

on_each! {
    files, rados =>
        headers,
        chunks,
}

const INVALID: &str = "the volume, name, range or size does not allow it";

impl Victim {
    /// Whether the log of `role` has a line that names `volume`.
    fn logged(&self, role: &str, volume: &str) -> bool {
        let log = self.node.dir().join(format!("log/{role}.log"));
        fs::read_to_string(log).unwrap().contains(volume)
    }

    /// With what `damage` puts among the maps.
    fn damaged(storage: &Storage, damage: impl FnOnce(&dyn Fn(&str, &[u8]))) -> Victim {
        let mut victim = Victim::new(storage);
        let dir = victim.node.dir();
        damage(&|object, bytes| storage.place().put(dir, "maps", object, bytes));
        victim.before = victim.files();
        victim
    }
}

/// What is wrong with a header; the tool looks at it after a failure and says so.
fn fault_of(header: &[u8]) -> FormatError {
    let mut head = header.to_vec();
    head.resize(head.len().max(HEAD_LEN), 0);
    recognise(&head[..HEAD_LEN], header.len() as u64, None).expect_err("a bad header")
}

fn headers(storage: &Storage) {
    let bad = bad_headers();
    let node = Victim::damaged(storage, |put| {
        bad.iter().for_each(|(volume, bytes)| put(volume, bytes));
    });
    let io = "I/O error";
    for (volume, bytes) in &bad {
        let volume = *volume;
        // What claims to be a map and is not readable is the storage's fault, not the caller's.
        let (errno, why) = match volume {
            "bad-version-0" | "bad-version-1" | "bad-version-3" | "bad-flags" => (libc::EIO, io),
            "bad-v1-cut-off" => (libc::EIO, io),
            _ => (libc::EINVAL, INVALID),
        };
        node.refuses_of_vlmc(&[
            (
                &["info", volume],
                &format!("vlmc info failed: {volume}: {}", fault_of(bytes)),
            ),
            (
                &["create", volume, "-s", "1"],
                &format!(
                    "vlmc creation failed: creation of \"{volume}\" with 1048576 bytes: the name is taken"
                ),
            ),
        ]);
        node.refuses(&[row(
            errno,
            format!("info of \"{volume}\": {why}"),
            move |client| client.info(name(volume), Hint::default()).map(drop),
        )]);
        assert!(node.logged("mapperd", volume), "{volume}");
    }
    node.end();
}

fn chunks(storage: &Storage) {
    let bad = bad_chunks();
    let node = Victim::damaged(storage, |put| {
        for (volume, chunk) in &bad {
            put(volume, &header(2, 5 << 20, 4 << 20, 0));
            if let Some(chunk) = chunk {
                put(&format!("{volume}_0000000000000000"), chunk);
            }
        }
    });
    for volume in bad.iter().map(|(volume, _)| *volume) {
        let sentence = format!("read of volume \"{volume}\" at 0: I/O error");
        node.refuses(&[row(libc::EIO, &sentence, move |client| {
            let open = Volume::open(client, name(volume), Hint::default())?;
            let read = open.read_at(&mut [0; 4096], 0);
            // A read takes the lock.
            let _ = client.close(name(volume), Hint::default());
            read
        })]);
        let out = node.node.dir().join("out");
        node.refuses_of_vlmc(&[(
            &["export", volume, out.to_str().unwrap()],
            &format!("vlmc export failed: block status of volume \"{volume}\" at 0: I/O error"),
        )]);
        assert!(node.logged("mapperd", volume), "{volume}");
    }
    node.end();
}
