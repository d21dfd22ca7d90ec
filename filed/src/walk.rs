//! The directories of objects, in the order of their names; and LIST, which goes through them.
//!
//! A page is made of whole directories, and its cursor is the six bytes of a place as a number, so
//! it stays valid whatever is made or removed meanwhile. An object that another node moves
//! meanwhile may be met twice, or not at all where it moves from ahead of the walk to behind it.

use crate::core::Core;
use crate::fs::Answer;
use crate::layout::Place;
use crate::marker::TEMPORARY;
use driver::{Detail, Name, Reply};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What a walk comes by.
pub(crate) enum Step {
    /// A directory of objects.
    Objects(Place, PathBuf),
    /// A directory above those, of this depth, with nothing in it.
    Bare(Place, usize),
    /// A directory that can't be read.
    Failed(PathBuf, io::Error),
}

/// Goes through all directories from `cursor` on, until `visit` breaks.
pub(crate) fn walk(
    root: &Path,
    cursor: u64,
    mut visit: impl FnMut(Step) -> ControlFlow<()>,
) -> ControlFlow<()> {
    descend(root, ([[0; 2]; 3], 0), cursor, &mut visit)
}

/// A place as a number, of which the bytes below `depth` are `below`.
pub(crate) fn number(dirs: [[u8; 2]; 3], depth: usize, below: u8) -> u64 {
    let mut bytes = [0; 8];
    for (at, byte) in dirs.as_flattened().iter().enumerate() {
        bytes[2 + at] = if at < 2 * depth { *byte } else { below };
    }
    u64::from_be_bytes(bytes)
}

fn descend(
    dir: &Path,
    (mut way, depth): ([[u8; 2]; 3], usize),
    cursor: u64,
    visit: &mut impl FnMut(Step) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let found = match entries(dir) {
        Ok(found) => found,
        Err(why) => return visit(Step::Failed(dir.to_owned(), why)),
    };
    if found.is_empty() && depth > 0 {
        return visit(Step::Bare(Place::walked(way), depth));
    }
    for two in branches(&found) {
        way[depth] = two;
        if number(way, depth + 1, 0xff) < cursor {
            continue;
        }
        let path = dir.join(OsStr::from_bytes(&two));
        match depth {
            2 => visit(Step::Objects(Place::walked(way), path))?,
            _ => descend(&path, (way, depth + 1), cursor, visit)?,
        }
    }
    ControlFlow::Continue(())
}

/// Directories of two bytes, in order.
fn branches(entries: &[fs::DirEntry]) -> Vec<[u8; 2]> {
    let is_dir = |entry: &&fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut found: Vec<[u8; 2]> = entries
        .iter()
        .filter(is_dir)
        .filter_map(|entry| entry.file_name().as_bytes().try_into().ok())
        .collect();
    found.sort_unstable();
    found
}

/// A directory that was removed meanwhile has no entries.
pub(crate) fn entries(dir: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl Core {
    pub(crate) async fn list(self: Rc<Self>, cursor: u64, max: usize) -> Answer<Reply> {
        let dir = self.config.dir.clone();
        let page = self.fs.offload.run(move || list(&dir, cursor, max.max(1)));
        let (names, next) = page.await?;
        Ok(Detail::List { names, next }.into())
    }
}

/// The names from `cursor` on, whole directories, until there are `max`.
fn list(root: &Path, cursor: u64, max: usize) -> io::Result<(Vec<Name>, Option<u64>)> {
    let (mut names, mut next, mut failed) = (Vec::new(), None, None);
    let _ = walk(root, cursor, |step| {
        let listed = match step {
            Step::Objects(place, _) if names.len() >= max => {
                next = Some(place.number());
                return ControlFlow::Break(());
            }
            Step::Objects(_, path) => objects(&path).map(|more| names.extend(more)),
            Step::Bare(..) => Ok(()),
            Step::Failed(_, why) => Err(why),
        };
        failed = listed.err();
        match failed {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    });
    failed.map_or(Ok((names, next)), Err)
}

fn objects(dir: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in entries(dir)? {
        let name = entry.file_name();
        let temporary = name.as_bytes().starts_with(TEMPORARY.as_bytes());
        if !temporary && entry.file_type()?.is_file() {
            names.extend(Name::new(name.as_bytes()).ok());
        }
    }
    Ok(names)
}
