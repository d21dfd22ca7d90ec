//! What lies in the folders after a round, as the files themselves say.

use super::old::{Tree, new_path};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use system_tests::golden::tree::sha256;

/// All files of the round are where they belong, and nothing else is there. What is wrong, line by
/// line.
pub(super) fn judge(dir: &Path, tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    let blocks = files(&dir.join("blocks"));
    let mut expected: BTreeMap<PathBuf, &[u8]> = BTreeMap::new();
    for block in tree.blocks.iter().chain(&tree.uploads) {
        expected.insert(new_path(&block.name), &block.content);
    }
    for source in &tree.sources {
        expected.insert(new_path(&source.name), &source.content);
        // The object that HASH has made of it.
        expected.insert(new_path(&sha256(&source.content)), &source.content);
    }
    expected.insert(new_path(&tree.object.name), &tree.object.content);
    compare(&dir.join("blocks"), &blocks, &expected, &mut wrong);

    let found = files(&dir.join("maps"));
    let mut maps: Vec<PathBuf> = Vec::new();
    for name in tree.maps.iter().map(|map| &map.name).chain([&tree.volume]) {
        let header = new_path(name);
        let head = fs::read(dir.join("maps").join(&header)).unwrap_or_default();
        if !head.starts_with(b"AMF.\0\0\0\x02") {
            wrong.push(format!("maps: {} is not of version 2", header.display()));
        }
        maps.push(header);
        maps.push(new_path(&format!("{name}_0000000000000000")));
    }
    maps.sort();
    let paths: Vec<&PathBuf> = found.keys().collect();
    if paths != maps.iter().collect::<Vec<_>>() {
        wrong.push(format!("maps: {paths:#?} instead of {maps:#?}"));
    }
    wrong.extend(many_names("maps", &found));
    let locks = files(&dir.join("locks"));
    if !locks.is_empty() {
        wrong.push(format!("locks: {:?}", locks.keys()));
    }
    wrong
}

fn compare(
    dir: &Path,
    found: &BTreeMap<PathBuf, u64>,
    expected: &BTreeMap<PathBuf, &[u8]>,
    wrong: &mut Vec<String>,
) {
    let part = dir.file_name().unwrap_or_default().display();
    for path in found.keys().filter(|path| !expected.contains_key(*path)) {
        wrong.push(format!("{part}: {} is left over", path.display()));
    }
    for (path, content) in expected {
        match fs::read(dir.join(path)) {
            Err(why) => wrong.push(format!("{part}: {}: {why}", path.display())),
            Ok(bytes) if mapfile::strip_trailing_zeros(&bytes) != *content => {
                wrong.push(format!("{part}: {} has other bytes", path.display()));
            }
            Ok(_) => {}
        }
    }
    wrong.extend(many_names(&part.to_string(), found));
}

fn many_names(part: &str, found: &BTreeMap<PathBuf, u64>) -> Vec<String> {
    let many = found.iter().filter(|(_, links)| **links != 1);
    many.map(|(path, links)| format!("{part}: {} has {links} names", path.display()))
        .collect()
}

/// The files below `dir` but for its marker, and how many names each has.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        // A directory may go while we look: it is empty then.
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(path);
            } else if entry.file_name() != ".archipelago" {
                let links = fs::symlink_metadata(&path).map_or(0, |meta| meta.nlink());
                found.insert(path.strip_prefix(dir).unwrap_or(&path).to_owned(), links);
            }
        }
    }
    found
}

/// Removes the files of a round behind the nodes' backs; their directories stay, for the next sweep.
pub(super) fn clear(dir: &Path) {
    for part in ["blocks", "maps", "locks"] {
        for path in files(&dir.join(part)).keys() {
            fs::remove_file(dir.join(part).join(path)).expect("a file can be removed");
        }
    }
}
