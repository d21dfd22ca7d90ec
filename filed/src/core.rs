//! What the driver and its tasks share: finding, opening and creating objects.

use crate::cache::Cache;
use crate::config::Config;
use crate::content::Hashers;
use crate::fs::{Answer, Fs, all};
use crate::layout::Place;
use crate::locks::Locks;
use crate::moves::Moves;
use crate::moving::Move;
use crate::object::Object;
use crate::ranges::Held;
use crate::spot::Spot;
use crate::tags::Tags;
use driver::{Done, Errno, Name, Tag};
use reactor::sync::{Guard, Lock};
use reactor::{Env, Executor, Timers};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// How often a directory is made again that another node's sweep removes at once.
pub(crate) const TRIES: usize = 1000;

/// The whole of an object, as a range.
pub(crate) const WHOLE: Range<u64> = 0..u64::MAX;

pub(crate) struct Core {
    pub(crate) fs: Fs,
    pub(crate) config: Config,
    pub(crate) executor: Executor,
    pub(crate) timers: Timers,
    pub(crate) env: Env,
    pub(crate) cache: RefCell<Cache>,
    pub(crate) tags: Tags,
    pub(crate) spot: Spot,
    pub(crate) locks: Arc<Locks>,
    pub(crate) moves: Moves,
    pub(crate) hashers: Hashers,
    /// Every write is durable when answered, because `syncfs` cannot be trusted here.
    pub(crate) write_through: bool,
    /// Names that are being looked up, made or removed, one task at a time.
    pub(crate) names: RefCell<HashMap<Name, Rc<Lock>>>,
    /// What tasks have done.
    pub(crate) done: RefCell<Vec<Done>>,
}

/// How a name is looked up for writing.
#[derive(Clone, Copy)]
pub(crate) enum Missing {
    /// A missing object is `ENOENT`.
    Refuse,
    /// A missing object is made.
    Create,
}

/// Holds a name; nobody else looks it up, makes it or removes it meanwhile.
pub(crate) struct NameGuard {
    core: Rc<Core>,
    name: Name,
    guard: Option<Guard>,
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        self.guard = None;
        let mut names = self.core.names.borrow_mut();
        // Waiters hold a clone of the lock, so one owner means that there is none.
        if names
            .get(&self.name)
            .is_some_and(|lock| Rc::strong_count(lock) == 1)
        {
            names.remove(&self.name);
        }
    }
}

impl Core {
    /// Whether an operation must be durable when it is answered.
    pub(crate) fn must_be_durable(&self, tag: Tag, durable: bool) -> bool {
        durable || tag == Tag::NONE || self.write_through
    }

    /// Rounds a range out to whole blocks.
    pub(crate) fn blocks(&self, range: Range<u64>) -> Range<u64> {
        let block = self.fs.block;
        range.start / block * block..range.end.next_multiple_of(block)
    }

    pub(crate) async fn hold_name(self: &Rc<Self>, name: &Name) -> NameGuard {
        let lock = self.names.borrow_mut().entry(*name).or_default().clone();
        let guard = Some(lock.lock().await);
        NameGuard {
            core: self.clone(),
            name: *name,
            guard,
        }
    }

    /// The object, open.
    pub(crate) async fn find(self: &Rc<Self>, name: &Name) -> Answer<Rc<Object>> {
        if let Some(object) = self.cache.borrow().get(name) {
            return Ok(object.clone());
        }
        let held = self.hold_name(name).await;
        self.find_held(&held).await
    }

    /// The object, open, with `range` of it held for writing.
    pub(crate) async fn find_to_write(
        self: &Rc<Self>,
        name: &Name,
        missing: Missing,
        range: Range<u64>,
    ) -> Answer<(Rc<Object>, Held<Object>)> {
        loop {
            let object = self.find_or(name, missing).await?;
            let taken = object.take(range.clone()).await;
            if !object.gone.get() {
                return Ok((object, taken));
            }
        }
    }

    async fn find_or(self: &Rc<Self>, name: &Name, missing: Missing) -> Answer<Rc<Object>> {
        if let Some(object) = self.cache.borrow().get(name) {
            return Ok(object.clone());
        }
        let held = self.hold_name(name).await;
        match (self.find_held(&held).await, missing) {
            (Err(Errno::NOENT), Missing::Create) => self.create_held(&held).await,
            (found, _) => found,
        }
    }

    /// New, old, new again: another node may be moving it meanwhile. The first two are asked for
    /// together, because what is not cached takes the disk's time each; the new one counts.
    pub(crate) async fn find_held(self: &Rc<Self>, held: &NameGuard) -> Answer<Rc<Object>> {
        let name = &held.name;
        if let Some(object) = self.cache.borrow().get(name) {
            return Ok(object.clone());
        }
        let Some(to_move) = Move::of(name) else {
            return self.open_at(name, Place::hashed(name)).await;
        };
        let places = [to_move.to, to_move.from];
        let opened = all(places.map(|place| self.fs.open(place.path(name), 0))).await;
        let object = match <[_; 2]>::try_from(opened) {
            Ok([Err(Errno::NOENT), Err(Errno::NOENT)]) => self.open_at(name, to_move.to).await?,
            Ok([Err(Errno::NOENT), old]) => self.cached(Object::new(*name, old?, to_move.from)),
            Ok([new, _]) => self.cached(Object::new(*name, new?, to_move.to)),
            Err(_) => unreachable!("two were opened"),
        };
        self.met(&object, to_move);
        Ok(object)
    }

    /// An object was opened that has an old place: it is moved from there, or, where somebody died
    /// over that, its old name is removed.
    fn met(self: &Rc<Self>, object: &Object, to_move: Move) {
        let at_old = object.place.get() == to_move.from;
        if self.config.pithos_migrate && (at_old || Core::links(object) > 1) {
            self.want_move(to_move);
        }
    }

    async fn open_at(&self, name: &Name, place: Place) -> Answer<Rc<Object>> {
        let file = self.fs.open(place.path(name), 0).await?;
        Ok(self.cached(Object::new(*name, file, place)))
    }

    async fn create_held(self: &Rc<Self>, held: &NameGuard) -> Answer<Rc<Object>> {
        let (name, place) = (&held.name, Place::hashed(&held.name));
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        for _ in 0..TRIES {
            match self.fs.open(place.path(name), exclusive).await {
                Err(Errno::NOENT) => self.make_dirs(place).await?,
                // Another node was faster.
                Err(Errno::EXIST) => return self.find_held(held).await,
                Err(errno) => return Err(errno),
                Ok(file) => {
                    self.tags.object_made(place);
                    return Ok(self.cached(Object::new(*name, file, place)));
                }
            }
        }
        Err(Errno::NOENT)
    }

    /// Makes the directories of a place; whoever needs them asks again where they have gone at once,
    /// empty as they were.
    pub(crate) async fn make_dirs(&self, place: Place) -> Answer<()> {
        for depth in 1..=3 {
            match self.fs.make_dir(place.dir(depth)).await {
                Ok(true) => self.tags.dir_made(place, depth),
                Ok(false) => {}
                Err(Errno::NOENT) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn cached(&self, object: Rc<Object>) -> Rc<Object> {
        self.cache.borrow_mut().insert(object.clone());
        object
    }
}
