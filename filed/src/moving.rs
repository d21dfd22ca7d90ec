//! The steps by which objects move from where an older release put them to where new ones are made.
//!
//! ```text
//!   1 link     the new name leads to the same file
//!   2 sync     the new name is durable: its directory, and all that lead to it
//!   3 unlink   the old name goes
//! ```
//! What always holds, whoever dies or loses power, and whoever else moves or deletes the same:
//! - a name leads to the object at every moment: the old one is removed only by who has seen that
//!   both lead to one file, and has itself made the new one durable since;
//! - who comes after a death goes on at the step that is not done: a link that is there already is
//!   success if it leads to the same file;
//! - two different files are never made one, nor is either removed;
//! - what stays where it is leaves nothing behind, not even a directory.
//!
//! A directory may be removed under us by another node's [sweep](crate::sweep): it is made again.
//! Everything here blocks, and runs on a worker thread.

mod dirs;
#[cfg(test)]
mod model;

use crate::fs::Answer;
use crate::layout::Place;
use driver::{Errno, Name};
use std::collections::HashSet;
use std::ffi::CStr;

pub(crate) use dirs::RootDirs;

/// How often a directory is made again that goes at once.
const TRIES: usize = 1000;

/// The directories that objects lie in; paths are relative to their root.
pub(crate) trait Dirs {
    /// What a path leads to, if to anything; a symbolic link is itself.
    fn look(&self, path: &CStr) -> Answer<Option<Identity>>;
    /// Gives a file another name.
    fn link(&self, old: &CStr, new: &CStr) -> Answer<()>;
    /// Removes a name.
    fn unlink(&self, path: &CStr) -> Answer<()>;
    /// Makes a directory.
    fn make_dir(&self, path: &CStr) -> Answer<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &CStr) -> Answer<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &CStr) -> Answer<()>;
}

/// Which file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Neither a directory nor a link nor anything else.
    pub(crate) is_file: bool,
}

/// An object that is to move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) name: Name,
    pub(crate) from: Place,
    pub(crate) to: Place,
}

impl Move {
    /// What of `name` there may be to move.
    pub(crate) fn of(name: &Name) -> Option<Move> {
        Some(Move {
            name: *name,
            from: Place::legacy(name)?,
            to: Place::hashed(name),
        })
    }
}

/// What became of an object that was to move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It has left the old place, by our hand.
    Moved,
    /// Nothing is at the old place (any more).
    Gone,
    /// It stays there.
    Left(Why),
}

/// Why an object stays at its old place; reads as words that follow a colon.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Why {
    /// Only one of them can be the object, and it is not ours to say which.
    #[error("another file of this name lies at {new}")]
    Twice { new: String },
    /// A directory, a symbolic link, or something else.
    #[error("it is no regular file")]
    NoFile,
    /// A step failed.
    #[error("it can't be {step}: {errno}")]
    Failed { step: &'static str, errno: Errno },
}

fn failed(step: &'static str) -> impl Fn(Errno) -> Why {
    move |errno| Why::Failed { step, errno }
}

/// Moves all of them, step by step together, so that they share the syncs. Outcomes in the order of
/// the moves.
pub(crate) fn move_all(dirs: &impl Dirs, moves: &[Move]) -> Vec<Outcome> {
    let mut outcomes: Vec<_> = moves.iter().map(|one| link(dirs, one)).collect();
    let mut synced = Synced::default();
    for (one, outcome) in moves.iter().zip(&mut outcomes) {
        if *outcome == Outcome::Moved {
            *outcome = synced
                .sync(dirs, one.to)
                .map_or_else(unless_gone("made durable at its new place"), |()| {
                    Outcome::Moved
                });
        }
    }
    for (one, outcome) in moves.iter().zip(&mut outcomes) {
        if *outcome == Outcome::Moved {
            *outcome = dirs
                .unlink(&one.from.path(&one.name))
                .map_or_else(unless_gone("removed from its old place"), |()| {
                    Outcome::Moved
                });
        }
    }
    outcomes
}

/// What a failure means: where there is nothing any more, another node was faster.
fn unless_gone(step: &'static str) -> impl Fn(Errno) -> Outcome {
    move |errno| match errno {
        Errno::NOENT => Outcome::Gone,
        errno => Outcome::Left(failed(step)(errno)),
    }
}

/// Step 1. `Moved`: both names lead to one file.
fn link(dirs: &impl Dirs, one: &Move) -> Outcome {
    let mut made = Vec::new();
    let linked = try_link(dirs, one, &mut made);
    if linked != Ok(true) {
        for depth in made.into_iter().rev() {
            // It stays where somebody has put something into it.
            let _ = dirs.remove_dir(&one.to.dir(depth));
        }
    }
    match linked {
        Ok(true) => Outcome::Moved,
        Ok(false) => Outcome::Gone,
        Err(why) => Outcome::Left(why),
    }
}

/// False: there is nothing at the old place. `made`: depths of the directories that were made.
fn try_link(dirs: &impl Dirs, one: &Move, made: &mut Vec<usize>) -> Result<bool, Why> {
    let (old, new) = (one.from.path(&one.name), one.to.path(&one.name));
    let look = |path| dirs.look(path).map_err(failed("looked at"));
    for _ in 0..TRIES {
        match look(&old)? {
            None => return Ok(false),
            Some(found) if !found.is_file => return Err(Why::NoFile),
            Some(_) => {}
        }
        match dirs.link(&old, &new) {
            Ok(()) => return Ok(true),
            Err(Errno::NOENT) => make_dirs(dirs, one.to, made)?,
            Err(Errno::EXIST) => match (look(&old)?, look(&new)?) {
                (Some(one), Some(other)) if one == other => return Ok(true),
                (Some(_), Some(_)) => {
                    let new = new.to_bytes().escape_ascii().to_string();
                    return Err(Why::Twice { new });
                }
                // One of them is being deleted.
                _ => {}
            },
            Err(errno) => return Err(failed("linked")(errno)),
        }
    }
    Err(failed("linked")(Errno::NOENT))
}

fn make_dirs(dirs: &impl Dirs, place: Place, made: &mut Vec<usize>) -> Result<(), Why> {
    for depth in 1..=3 {
        match dirs.make_dir(&place.dir(depth)) {
            Ok(()) => made.push(depth),
            Err(Errno::EXIST) => {}
            // The one above has gone again.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed("given directories")(errno)),
        }
    }
    Ok(())
}

/// The directories that a batch has made durable.
#[derive(Default)]
struct Synced(HashSet<(Place, usize)>);

impl Synced {
    /// Step 2. All levels, whoever made them: another node may not have synced its own yet.
    fn sync(&mut self, dirs: &impl Dirs, place: Place) -> Answer<()> {
        for depth in (0..=3).rev() {
            let dir = (place.upto(depth), depth);
            if !self.0.contains(&dir) {
                dirs.sync_dir(&place.dir(depth))?;
                self.0.insert(dir);
            }
        }
        Ok(())
    }
}
