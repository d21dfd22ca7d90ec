//! A tree as older releases left it: blocks and maps of Pithos, a volume of 0.3. And what is made in
//! a round besides.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sha2::Digest;
use std::fs;
use std::path::{Path, PathBuf};
use system_tests::golden::tree::{hex, sha256};

/// Bytes of a volume's block; the objects here are as short as blocks of Pithos may be.
pub(super) const BLOCK: u64 = 4 << 20;

const BLOCKS: usize = 24;
const BLOCKS_OF_MAP: usize = 8;
const UPLOADS: usize = 4;
const SOURCES: usize = 2;

/// An object and what is in it.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// A map of Pithos.
pub(super) struct Map {
    pub(super) name: String,
    /// Which blocks it has, by their names.
    pub(super) blocks: Vec<String>,
    /// Bytes of the file that it describes.
    pub(super) size: u64,
}

/// Everything of a round.
pub(super) struct Tree {
    /// Blocks at their old places.
    pub(super) blocks: Vec<Object>,
    /// Maps at their old places.
    pub(super) maps: Vec<Map>,
    /// A volume of 0.3, and its only object.
    pub(super) volume: String,
    pub(super) object: Object,
    /// Blocks that clients store meanwhile; one is among the old ones.
    pub(super) uploads: Vec<Object>,
    /// Objects that clients have hashed meanwhile; the content of one is an old block's.
    pub(super) sources: Vec<Object>,
}

/// Content without zeros at its end, and so long that it is not in a page alone.
fn content(dice: &mut ChaCha8Rng) -> Vec<u8> {
    let len = dice.random_range(1..6000);
    let mut bytes: Vec<u8> = (0..len).map(|_| dice.random()).collect();
    bytes.push(1);
    bytes
}

/// A block, named by its content.
fn block(dice: &mut ChaCha8Rng) -> Object {
    let content = content(dice);
    Object {
        name: sha256(&content),
        content,
    }
}

impl Tree {
    pub(super) fn new(round: u64, dice: &mut ChaCha8Rng) -> Tree {
        let blocks: Vec<Object> = (0..BLOCKS).map(|_| block(dice)).collect();
        let maps = blocks.chunks(BLOCKS_OF_MAP).map(|chunk| {
            let hashes: Vec<[u8; 32]> = chunk.iter().map(|b| digest(&b.content)).collect();
            Map {
                name: hex(&mapfile::merkle_root(&hashes, digest)),
                blocks: chunk.iter().map(|block| block.name.clone()).collect(),
                size: BLOCKS_OF_MAP as u64 * BLOCK - dice.random_range(0..BLOCK),
            }
        });
        let maps = maps.collect();
        let volume = format!("old-volume-{round}");
        let object = Object {
            name: format!("archip_{}", sha256(volume.as_bytes())),
            content: content(dice),
        };
        let mut uploads: Vec<Object> = (0..UPLOADS).map(|_| block(dice)).collect();
        uploads.push(blocks[0].clone());
        let mut contents: Vec<Vec<u8>> = (0..SOURCES).map(|_| content(dice)).collect();
        contents.push(blocks[1].content.clone());
        let sources = contents.into_iter().zip(0..).map(|(content, n)| Object {
            name: format!("source-{round}-{n}"),
            content,
        });
        let sources = sources.collect();
        Tree {
            blocks,
            maps,
            volume,
            object,
            uploads,
            sources,
        }
    }

    /// Where its files lie that are to move.
    pub(super) fn old_paths(&self) -> Vec<PathBuf> {
        let blocks = self.blocks.iter().chain([&self.object]);
        let maps = self.maps.iter().map(|map| map.name.clone());
        let blocks = blocks.map(|block| Path::new("blocks").join(old_path(&block.name)));
        let maps = maps.chain([format!("archip_{}", self.volume)]);
        let maps = maps.map(|name| Path::new("maps").join(old_path(&name)));
        blocks.chain(maps).collect()
    }

    /// Lays it down below `dir`, beneath whoever serves there.
    pub(super) fn lay(&self, dir: &Path) {
        let (blocks, maps) = (dir.join("blocks"), dir.join("maps"));
        for block in self.blocks.iter().chain([&self.object]) {
            put(&blocks.join(old_path(&block.name)), &block.content);
        }
        for map in &self.maps {
            let hashes = map.blocks.iter().map(|name| unhex(name));
            put(
                &maps.join(old_path(&map.name)),
                &hashes.collect::<Vec<_>>().concat(),
            );
        }
        let mut map = [1, 0, 0, 0].to_vec();
        map.extend(BLOCK.to_le_bytes());
        map.push(1);
        map.extend(unhex(&self.object.name["archip_".len()..]));
        put(
            &maps.join(old_path(&format!("archip_{}", self.volume))),
            &map,
        );
        for source in &self.sources {
            put(&blocks.join(new_path(&source.name)), &source.content);
        }
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Where an old release has an object.
pub(super) fn old_path(name: &str) -> PathBuf {
    let six = name.strip_prefix("archip_").unwrap_or(name);
    [&six[..2], &six[2..4], &six[4..6], name].iter().collect()
}

/// Where it is made now.
pub(super) fn new_path(name: &str) -> PathBuf {
    let hash = sha256(name.as_bytes());
    [&hash[..2], &hash[2..4], &hash[4..6], name]
        .iter()
        .collect()
}

/// A node's sweep may remove an empty directory under us, as under each other.
fn put(path: &Path, content: &[u8]) {
    let dir = path.parent().expect("it lies in a directory");
    loop {
        let made = fs::create_dir_all(dir).and_then(|()| fs::write(path, content));
        match made {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
            made => return made.expect("a file can be made"),
        }
    }
}
