//! MIGRATE: everything moves out of the places of older layouts, a page at a time.
//!
//! What always holds: a page moves what it finds and then removes the directories that are empty.
//! That one is empty is all that it takes: whoever needs a directory makes it again, where it was
//! and when it went does not matter (`Core::create_held`). So pages can be done again, by any node
//! and by several at once, and the last of them leaves nothing at old places but what it names.

use crate::core::Core;
use crate::fs::Answer;
use crate::layout::Place;
use crate::moving::{Dirs, Move, Outcome, RootDirs, Why};
use crate::walk::{Step, entries, walk};
use driver::{Detail, Errno, MoveReply, Name, Reply, Unmoved};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// What a page has found.
#[derive(Default)]
struct Found {
    moves: Vec<Move>,
    /// Directories that may be, or become, empty: a place and a depth.
    dirs: Vec<(Place, usize)>,
    reply: MoveReply,
}

impl Core {
    pub(crate) async fn migrate(
        self: Rc<Self>,
        cursor: u64,
        max: usize,
        look: bool,
    ) -> Answer<Reply> {
        if !look && !self.config.pithos_migrate {
            return Err(Errno::PERM);
        }
        let dir = self.config.dir.clone();
        let scan = self.fs.offload.run(move || scan(&dir, cursor, max.max(1)));
        let Found {
            moves,
            dirs,
            mut reply,
        } = scan.await;
        if look {
            reply.moved = moves.len() as u64;
        } else {
            let outcomes = self.move_now(moves.clone()).await;
            for (one, outcome) in moves.iter().zip(outcomes) {
                match outcome {
                    Outcome::Moved => reply.moved += 1,
                    Outcome::Gone => {}
                    Outcome::Left(why) => reply.left.push(left(&one.from, &one.name, why)),
                }
            }
            let root = RootDirs(self.fs.root.clone());
            let tidy = self.fs.offload.run(move || tidy(&root, &moves, &dirs));
            reply.directories = tidy.await?;
        }
        Ok(Detail::Moved(Box::new(reply)).into())
    }
}

fn left(place: &Place, name: &Name, why: impl ToString) -> Unmoved {
    let path = place.path(name);
    Unmoved {
        path: path.to_bytes().escape_ascii().to_string(),
        reason: why.to_string(),
    }
}

/// Looks for what lies at old places, from `cursor` on, until `max` entries were looked at.
fn scan(root: &Path, cursor: u64, max: usize) -> Found {
    let mut found = Found::default();
    let mut looked_at = 0;
    let _ = walk(root, cursor, |step| {
        if looked_at >= max
            && let Step::Objects(place, _) = &step
        {
            found.reply.next = Some(place.number());
            return ControlFlow::Break(());
        }
        looked_at += 1;
        let scanned = match step {
            Step::Objects(place, path) => {
                scan_dir(place, &path, &mut found).map_err(|why| (path, why))
            }
            Step::Bare(place, depth) => {
                found.dirs.push((place, depth));
                Ok(0)
            }
            Step::Failed(path, why) => Err((path, why)),
        };
        match scanned {
            Ok(count) => looked_at += count,
            Err((path, why)) => found.reply.left.push(unreadable(root, &path, &why)),
        }
        ControlFlow::Continue(())
    });
    found.reply.permille = found.reply.next.map_or(1000, permille);
    found
}

fn unreadable(root: &Path, path: &Path, why: &io::Error) -> Unmoved {
    let path = path.strip_prefix(root).unwrap_or(path);
    Unmoved {
        path: path.as_os_str().as_bytes().escape_ascii().to_string(),
        reason: format!("it can't be read: {why}"),
    }
}

/// How many entries the directory has.
fn scan_dir(place: Place, path: &Path, found: &mut Found) -> io::Result<usize> {
    let entries = entries(path)?;
    let before = found.moves.len();
    for entry in &entries {
        let name = entry.file_name();
        if let Some(to_move) = old_object(place, &name, &mut found.reply.left) {
            match entry.file_type()?.is_file() {
                true => found.moves.push(to_move),
                false => found
                    .reply
                    .left
                    .push(left(&place, &to_move.name, Why::NoFile)),
            }
        }
    }
    if entries.is_empty() || found.moves.len() > before {
        found.dirs.push((place, 3));
    }
    Ok(entries.len())
}

/// What is to be done with an entry of a directory of objects.
fn old_object(place: Place, name: &OsStr, strays: &mut Vec<Unmoved>) -> Option<Move> {
    let to_move = Move::of(&Name::new(name.as_bytes()).ok()?)?;
    if to_move.from == place {
        return Some(to_move);
    }
    if to_move.to != place {
        let why = "no release looks for that name there";
        strays.push(left(&place, &to_move.name, why));
    }
    None
}

/// Removes the directories that are empty, and makes durable what has gone; how many directories.
fn tidy(root: &impl Dirs, moves: &[Move], dirs: &[(Place, usize)]) -> Answer<u64> {
    let mut removed = 0;
    for (place, depth) in dirs {
        for depth in (1..=*depth).rev() {
            // Something is in it, or another node has removed it.
            if root.remove_dir(&place.dir(depth)).is_err() {
                break;
            }
            removed += 1;
        }
    }
    let mut synced = HashSet::new();
    let changed = moves.iter().map(|one| (one.from, 3));
    for (place, depth) in changed.chain(dirs.iter().copied()) {
        sync_nearest(root, (place, depth), &mut synced)?;
    }
    Ok(removed)
}

/// Syncs a directory, or, where it has gone, the one above it.
fn sync_nearest(
    root: &impl Dirs,
    (place, depth): (Place, usize),
    synced: &mut HashSet<(Place, usize)>,
) -> Answer<()> {
    for depth in (0..=depth).rev() {
        let dir = (place.upto(depth), depth);
        if synced.contains(&dir) {
            return Ok(());
        }
        match root.sync_dir(&place.dir(depth)) {
            Ok(()) => {
                synced.insert(dir);
                return Ok(());
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// How much of all places lies before `cursor`, in thousandths: old and new places begin with hex
/// digits, evenly spread, but for the few of `archip_` names.
fn permille(cursor: u64) -> u32 {
    let digits = &cursor.to_be_bytes()[2..6];
    let value = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(16);
    let part = digits.iter().fold(0, |part, byte| part * 16 + value(byte));
    (part * 1000 / 0x1_0000).min(999)
}
