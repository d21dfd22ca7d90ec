//! What older releases left in a node's folders: blocks and maps of Pithos, maps of 0.3.

use crate::lab::Lab;
use sha2::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 4 << 20;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where an old release has an object: three directories of its own digits.
pub(crate) fn old_path(name: &str) -> PathBuf {
    let six = name.strip_prefix("archip_").unwrap_or(name);
    [&six[..2], &six[2..4], &six[4..6], name].iter().collect()
}

/// Where it is now: three directories of its hash's digits.
pub(crate) fn new_path(name: &str) -> PathBuf {
    let hash = hex(&sha256(name.as_bytes()));
    [&hash[..2], &hash[2..4], &hash[4..6], name]
        .iter()
        .collect()
}

pub(crate) fn put(dir: &Path, path: &Path, bytes: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The folders of a node, to be filled as an old release would have.
pub(crate) struct OldTree<'a>(pub(crate) &'a Lab);

impl OldTree<'_> {
    /// A block of Pithos; its hash.
    pub(crate) fn block(&self, content: &[u8]) -> [u8; 32] {
        let hash = sha256(content);
        let path = old_path(&hex(&hash));
        put(&self.0.path("blocks"), &path, content);
        hash
    }

    /// A map of Pithos; its name.
    pub(crate) fn map(&self, hashes: &[[u8; 32]]) -> String {
        let name = hex(&mapfile::merkle_root(hashes, sha256));
        put(&self.0.path("maps"), &old_path(&name), &hashes.concat());
        name
    }

    /// A volume of 0.3, in the folders of 0.3 or where 0.4 kept it, of one block with `content`.
    pub(crate) fn volume(&self, name: &str, path: impl Fn(&str) -> PathBuf, content: &[u8]) {
        let id = sha256(name.as_bytes());
        let object = format!("archip_{}", hex(&id));
        put(&self.0.path("blocks"), &path(&object), content);
        let mut map = [1, 0, 0, 0].to_vec();
        map.extend(BLOCK.to_le_bytes());
        map.push(1);
        map.extend(id);
        put(&self.0.path("maps"), &path(&format!("archip_{name}")), &map);
    }
}

/// Everything below the folders of a node's storage: what it is, its inode, its links, its content.
pub(crate) fn picture(lab: &Lab) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo: Vec<PathBuf> = ["blocks", "maps", "locks"].map(|dir| lab.path(dir)).into();
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = match (kind.is_file(), kind.is_dir()) {
            (true, _) => hex(&sha256(&fs::read(&path).unwrap())),
            (_, true) => "directory".into(),
            _ if kind.is_fifo() => "pipe".into(),
            _ => format!("{:?}", fs::read_link(&path).unwrap()),
        };
        if kind.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        // A directory's link count is that of its subdirectories.
        let links = if kind.is_dir() { 1 } else { meta.nlink() };
        found.insert(path, format!("{} {links} {content}", meta.ino()));
    }
    found
}

/// The files below a folder, and the directories with nothing in them.
pub(crate) fn leaves(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let inside: Vec<PathBuf> = match path.is_dir() {
            true => fs::read_dir(&path)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect(),
            false => Vec::new(),
        };
        if inside.is_empty() {
            found.push(path.strip_prefix(dir).unwrap().to_owned());
        }
        todo.extend(inside);
    }
    found.retain(|path| path != Path::new(".archipelago"));
    found.sort();
    found
}
