//! What each volume has written and not synced, and how it is made durable.
//!
//! What holds:
//! - before a write is answered, its object is on the list of its tag, or the tag says *many*;
//! - a sync takes the list first and syncs it then, so that what is answered meanwhile is on the
//!   next list; a mark on an object is worth nothing in a later generation;
//! - a failed sync fails that tag until it is forgotten, and every other tag that has something
//!   unsynced too, because the kernel reports a lost write once, to whoever asks first.
//!
//! A few objects are synced each; many at once by `syncfs` (64 files: 0.4 ms against 4 ms). What a
//! predecessor wrote is not known, so the first sync, and the first durable operation, of a driver
//! is a `syncfs`: the *baseline*. Where `syncfs` cannot be trusted (FUSE), every write is durable
//! when answered, and nothing is ever on a list.

use crate::core::Core;
use crate::fs::{Answer, all};
use crate::layout::Place;
use crate::object::Object;
use driver::{Errno, Tag};
use reactor::sync::Lock;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// So many objects are synced each; more by `syncfs`.
const FEW: usize = 8;

/// Where a depth is asked for: the objects in the innermost directory.
const OBJECTS: usize = 4;

/// The entries of a place that lie in the directory above a depth.
fn entry(place: Place, depth: usize) -> (Place, usize) {
    match depth {
        OBJECTS => (place, OBJECTS),
        _ => (place.upto(depth), depth),
    }
}

#[derive(Default)]
pub(crate) struct Tags {
    max_listed: usize,
    states: RefCell<HashMap<Tag, State>>,
    generation: Cell<u64>,
    baseline: Cell<bool>,
    baseline_failed: Cell<Option<Errno>>,
    baseline_lock: Lock,
    /// Directory entries that may not be durable: those in a whole place, and those of the
    /// directories that lead to it (place and depth), with the number of the last change.
    entries: RefCell<HashMap<(Place, usize), u64>>,
    changes: Cell<u64>,
    /// Directories from which something was removed and not synced.
    removed_from: RefCell<HashSet<Place>>,
}

#[derive(Default)]
struct State {
    dirty: Vec<Rc<Object>>,
    many: bool,
    failed: Option<Errno>,
    lock: Rc<Lock>,
}

impl State {
    fn is_clean(&self) -> bool {
        self.dirty.is_empty() && !self.many
    }
}

impl Tags {
    /// `baseline`: whether all that is in the directory is known to be durable. `max_listed`: how
    /// many files all lists together may keep open.
    pub(crate) fn new(baseline: bool, max_listed: usize) -> Tags {
        Tags {
            max_listed,
            generation: Cell::new(1),
            baseline: Cell::new(baseline),
            ..Tags::default()
        }
    }

    /// Whether a durable operation needs nothing but its own sync.
    pub(crate) fn has_baseline(&self) -> bool {
        self.baseline.get()
    }

    /// A write of `tag` to `object` is about to be answered.
    pub(crate) fn dirty(&self, tag: Tag, object: &Rc<Object>) {
        let mark = (tag, self.generation.get());
        if object.mark.replace(mark) == mark {
            return;
        }
        let mut states = self.states.borrow_mut();
        let listed: usize = states.values().map(|state| state.dirty.len()).sum();
        let state = self.state(&mut states, tag);
        if state.many || state.dirty.iter().any(|other| Rc::ptr_eq(other, object)) {
            return;
        }
        if state.dirty.len() < FEW && listed < self.max_listed {
            return state.dirty.push(object.clone());
        }
        state.many = true;
        state.dirty.clear();
    }

    /// A directory was made; `depth` of its place.
    pub(crate) fn dir_made(&self, place: Place, depth: usize) {
        self.entry_changed((place.upto(depth), depth));
    }

    /// An object was made.
    pub(crate) fn object_made(&self, place: Place) {
        self.entry_changed((place, OBJECTS));
    }

    /// Whether an object made in this place may be gone after a loss of power.
    pub(crate) fn has_new_entry(&self, place: Place) -> bool {
        self.has((place, OBJECTS))
    }

    fn has(&self, entry: (Place, usize)) -> bool {
        let entries = self.entries.borrow();
        !entries.is_empty() && entries.contains_key(&entry)
    }

    #[cfg(test)]
    pub(crate) fn unsynced_entries(&self) -> usize {
        self.entries.borrow().len() + self.removed_from.borrow().len()
    }

    #[cfg(test)]
    pub(crate) fn unsynced_objects(&self, tag: Tag) -> usize {
        let states = self.states.borrow();
        states.get(&tag).map_or(0, |state| state.dirty.len())
    }

    fn entry_changed(&self, entry: (Place, usize)) {
        self.changes.set(self.changes.get() + 1);
        self.entries.borrow_mut().insert(entry, self.changes.get());
    }

    /// Something was removed from a directory, not durably.
    pub(crate) fn removed_from(&self, place: Place) {
        self.removed_from.borrow_mut().insert(place);
    }

    /// The volume is closed.
    pub(crate) fn forget(&self, tag: Tag) {
        let mut states = self.states.borrow_mut();
        // A failure of the baseline is every tag's, once: this entry says that it was heard.
        match self.baseline_failed.get() {
            Some(_) => drop(states.insert(tag, State::default())),
            None => drop(states.remove(&tag)),
        }
    }

    fn state<'a>(&self, states: &'a mut HashMap<Tag, State>, tag: Tag) -> &'a mut State {
        let failed = self.baseline_failed.get();
        states.entry(tag).or_insert_with(|| State {
            failed,
            ..State::default()
        })
    }

    pub(crate) fn fail(&self, tag: Tag, errno: Errno) {
        let mut states = self.states.borrow_mut();
        self.state(&mut states, tag).failed.get_or_insert(errno);
        drop(states);
        self.fail_unsynced(errno);
    }

    /// A durable write failed: the kernel may have told it of a lost write of somebody else.
    pub(crate) fn fail_unsynced(&self, errno: Errno) {
        let mut states = self.states.borrow_mut();
        for state in states.values_mut().filter(|state| !state.is_clean()) {
            state.failed.get_or_insert(errno);
        }
    }
}

impl Core {
    /// Makes durable what `tag` has written.
    pub(crate) async fn sync_tag(&self, tag: Tag) -> Answer<()> {
        let lock = {
            let mut states = self.tags.states.borrow_mut();
            self.tags.state(&mut states, tag).lock.clone()
        };
        let _turn = lock.lock().await;
        let (dirty, many) = self.take_dirty(tag)?;
        let synced = self.sync_taken(&dirty, many).await;
        if let Err(errno) = synced {
            self.tags.fail(tag, errno);
        }
        synced
    }

    fn take_dirty(&self, tag: Tag) -> Answer<(Vec<Rc<Object>>, bool)> {
        self.tags.generation.set(self.tags.generation.get() + 1);
        let mut states = self.tags.states.borrow_mut();
        let state = self.tags.state(&mut states, tag);
        match state.failed {
            Some(errno) => Err(errno),
            None => Ok((
                std::mem::take(&mut state.dirty),
                std::mem::take(&mut state.many),
            )),
        }
    }

    async fn sync_taken(&self, dirty: &[Rc<Object>], many: bool) -> Answer<()> {
        if many {
            return self.sync_everything().await;
        }
        self.sync_baseline().await?;
        // All are started before the first is awaited, so that the disk sees them together.
        let started: Vec<_> = dirty.iter().map(|object| self.fs.sync(object)).collect();
        let mut answer = Ok(());
        for sync in started {
            answer = answer.and(sync.await);
        }
        answer?;
        let entries = dirty
            .iter()
            .map(|object| self.sync_entry(object.place.get()));
        all(entries).await.into_iter().collect::<Answer<()>>()?;
        self.sync_removals().await
    }

    /// What predecessors wrote is durable afterwards.
    pub(crate) async fn sync_baseline(&self) -> Answer<()> {
        if self.tags.baseline.get() {
            return Ok(());
        }
        let _turn = self.tags.baseline_lock.lock().await;
        if self.tags.baseline.get() {
            return Ok(());
        }
        let synced = self.sync_everything().await;
        if let Err(errno) = synced {
            self.tags.baseline_failed.set(Some(errno));
            self.tags.baseline.set(true);
        }
        synced
    }

    /// All that was done before is durable afterwards.
    async fn sync_everything(&self) -> Answer<()> {
        let before = self.tags.changes.get();
        self.fs.sync_all().await?;
        self.tags
            .entries
            .borrow_mut()
            .retain(|_, change| *change > before);
        self.tags.baseline.set(true);
        Ok(())
    }

    /// The directory entries that lead to the objects of a place are durable afterwards.
    pub(crate) async fn sync_entry(&self, place: Place) -> Answer<()> {
        if self.tags.has_new_entry(place) {
            self.sync_place(place).await?;
        }
        Ok(())
    }

    /// A directory's entries, and those that lead to it, are durable afterwards. All are started
    /// before the first is awaited, so that they share a commit.
    pub(crate) async fn sync_place(&self, place: Place) -> Answer<()> {
        // The innermost is synced in any case: links and removals are not counted as entries.
        let new = |depth: &usize| *depth == OBJECTS || self.tags.has(entry(place, *depth));
        let depths: Vec<usize> = (1..=OBJECTS).rev().take_while(new).collect();
        let last = depths.len() - 1;
        let there = all(depths.iter().map(|depth| self.sync_entries(place, *depth))).await;
        let there = there.into_iter().collect::<Answer<Vec<bool>>>()?;
        if !there[last] {
            self.sync_removed(place).await?;
        }
        Ok(())
    }

    /// The entries in the directory above a depth of a place; false: that directory has gone.
    async fn sync_entries(&self, place: Place, depth: usize) -> Answer<bool> {
        let entry = entry(place, depth);
        let before = self.tags.entries.borrow().get(&entry).copied();
        let is_there = self.sync_dir_if_there(place, depth - 1).await?;
        let mut entries = self.tags.entries.borrow_mut();
        if entries.get(&entry).copied() == before {
            entries.remove(&entry);
        }
        Ok(is_there)
    }

    async fn sync_removals(&self) -> Answer<()> {
        let places = self.tags.removed_from.take();
        for place in &places {
            if let Err(errno) = self.sync_removed(*place).await {
                self.tags.removed_from.borrow_mut().extend(&places);
                return Err(errno);
            }
        }
        Ok(())
    }

    /// That something was removed from a place is durable afterwards: where the directory has gone
    /// too, that it went.
    async fn sync_removed(&self, place: Place) -> Answer<()> {
        for depth in (0..=3).rev() {
            if self.sync_dir_if_there(place, depth).await? {
                break;
            }
        }
        Ok(())
    }

    /// False: a sweep has removed it, empty.
    async fn sync_dir_if_there(&self, place: Place, depth: usize) -> Answer<bool> {
        match self.fs.sync_dir(place.dir(depth)).await {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) if depth > 0 => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}
