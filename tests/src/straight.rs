//! What a verifier wrote, compared straight with the files that it must be in: no part of the node
//! has a say.

use crate::verifier::{BLOCK, Load, Outcome};
use mapfile::{Epoch, VolumeName};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of a volume's block, which is one object.
const OBJECT: u64 = 4 << 20;

/// All files below `dir`, by name.
fn files(dir: &Path) -> io::Result<HashMap<String, PathBuf>> {
    let mut all = HashMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else {
                all.insert(entry.file_name().to_string_lossy().into(), entry.path());
            }
        }
    }
    Ok(all)
}

/// The object that `block` of a load is in, and where in it.
pub(crate) fn place(load: &Load, block: u64) -> Option<(String, u64)> {
    match load {
        Load::Volume(volume) => {
            let offset = block * BLOCK;
            let name = VolumeName::new(volume.as_bytes()).expect("a good name");
            let object = name.header().object(Epoch(1), offset / OBJECT);
            Some((
                String::from_utf8_lossy(object.as_bytes()).into(),
                offset % OBJECT,
            ))
        }
        Load::Objects(prefix) => Some((format!("{prefix}-{block:06}"), 0)),
        Load::Maps(_) => None,
    }
}

/// Compares every block that a verifier wrote with the files below `dir`. Returns how many there
/// were, and what was wrong.
pub fn compare(dir: &Path, outcome: &Outcome) -> io::Result<(u64, Vec<String>)> {
    let files = files(dir)?;
    let mut blocks: Vec<(u64, u64)> = outcome.stamps.iter().map(|(b, s)| (*b, *s)).collect();
    blocks.sort_unstable();
    let mut wrong = Vec::new();
    let mut open: Option<(String, File)> = None;
    for &(block, stamp) in &blocks {
        let Some((object, offset)) = place(&outcome.load, block) else {
            continue;
        };
        if open.as_ref().is_none_or(|(name, _)| *name != object) {
            let Some(path) = files.get(&object) else {
                wrong.push(format!("{object} is missing"));
                continue;
            };
            open = Some((object.clone(), File::open(path)?));
        }
        let (_, file) = open.as_ref().expect("opened above");
        wrong.extend(differs(file, offset, stamp).map(|what| format!("{object} {what}")));
    }
    Ok((blocks.len() as u64, wrong))
}

/// How the block at `offset` differs from one full of `stamp`.
fn differs(file: &File, offset: u64, stamp: u64) -> Option<String> {
    let mut bytes = vec![0; BLOCK as usize];
    if let Err(why) = file.read_exact_at(&mut bytes, offset) {
        return Some(format!("at {offset}: {why}"));
    }
    let words = bytes
        .chunks_exact(8)
        .map(|word| word.try_into().expect("eight bytes"));
    let seen = words.map(u64::from_le_bytes).find(|word| *word != stamp)?;
    Some(format!("at {offset}: {seen} instead of {stamp}"))
}
