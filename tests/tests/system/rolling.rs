//! A rolling upgrade: a node of ours beside one that was not upgraded, on the same directories.
//!
//! The other is `tests/golden/old_node.py`, which does what the original was seen to do. What must
//! hold: whoever has a volume's lock has it alone; both read what the other wrote, in maps, objects
//! and old layouts; and nobody takes over what the other left, dead or alive.

mod maps;
mod turns;
mod waiting;

use client::{Client, Hint, Name, Volume};
use std::path::Path;
use system_tests::golden::archive::missing_tool;
use system_tests::old::OldNode;
use system_tests::real::{RealNode, program};

const BLOCK: u64 = 4 << 20;
const SIZE: u64 = BLOCK + 70_000;
/// Whose locks are whose.
const OURS: &str = "newhost_1002";
const OLD: &str = "oldhost_1002";

/// A node of ours, and where it and the old one are.
struct Site {
    node: RealNode,
    direct: bool,
}

impl Site {
    /// `None` when there is no Python, which is said.
    fn new(direct: bool) -> Option<Site> {
        if let Some(tool) = missing_tool() {
            eprintln!("skipped: {tool} is not installed");
            return None;
        }
        let parent = program("archipelago").parent().unwrap().to_owned();
        let node = RealNode::start_varied(
            &parent,
            |params| params.direct = direct,
            |text| {
                text.replace(
                    "lock_dir = locks\n",
                    &format!("lock_dir = locks\nunique_str = {OURS}\n"),
                )
            },
        );
        let node = node.unwrap();
        Some(Site { node, direct })
    }

    fn old(&self) -> OldNode {
        self.old_named(OLD)
    }

    fn old_named(&self, owner: &str) -> OldNode {
        OldNode::start(self.node.dir(), owner, self.direct)
    }

    fn dir(&self) -> &Path {
        self.node.dir()
    }

    /// What lies in the lock directory: names and contents, in order.
    fn locks(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(self.dir().join("locks")).unwrap();
        let mut found: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name() != ".archipelago")
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        found.sort();
        found
    }

    /// What a lock of `owner` holds on the disk.
    fn lock_text(&self, owner: &str) -> String {
        let padding = if self.direct { 512 - owner.len() } else { 0 };
        owner.to_owned() + &"\0".repeat(padding)
    }
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn volume(client: &Client, text: &str) -> Volume {
    Volume::open(client, name(text), Hint::default()).unwrap()
}

/// A whole volume, read by ours. As in the original that takes its lock, if it is free.
fn content(client: &Client, text: &str) -> Vec<u8> {
    let volume = volume(client, text);
    let mut bytes = vec![0; volume.size() as usize];
    volume.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// The same of a volume that is not open here, nor afterwards.
fn look(client: &Client, text: &str) -> Vec<u8> {
    let bytes = content(client, text);
    client.close(name(text), Hint::default()).unwrap();
    bytes
}
