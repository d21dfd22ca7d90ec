//! What the driver and its tasks share: finding, opening and creating objects.

use crate::cache::Cache;
use crate::config::Config;
use crate::fs::{Answer, Fs};
use crate::layout::Place;
use crate::locks::Locks;
use crate::object::Object;
use crate::ranges::Held;
use crate::spot::Spot;
use crate::tags::Tags;
use driver::{Done, Errno, Name, Tag};
use reactor::sync::{Guard, Lock};
use reactor::{Env, Executor};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// The whole of an object, as a range.
pub(crate) const WHOLE: Range<u64> = 0..u64::MAX;

pub(crate) struct Core {
    pub(crate) fs: Fs,
    pub(crate) config: Config,
    pub(crate) executor: Executor,
    pub(crate) env: Env,
    pub(crate) cache: RefCell<Cache>,
    pub(crate) tags: Tags,
    pub(crate) spot: Spot,
    pub(crate) locks: Arc<Locks>,
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

    /// New, old, new again: another node may be moving it meanwhile.
    pub(crate) async fn find_held(self: &Rc<Self>, held: &NameGuard) -> Answer<Rc<Object>> {
        let name = &held.name;
        if let Some(object) = self.cache.borrow().get(name) {
            return Ok(object.clone());
        }
        let hashed = Place::hashed(name);
        match self.open_at(name, hashed).await {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let Some(legacy) = Place::legacy(name) else {
            return Err(Errno::NOENT);
        };
        match self.open_at(name, legacy).await {
            Err(Errno::NOENT) => self.open_at(name, hashed).await,
            Ok(_) if self.config.pithos_migrate => {
                self.cache.borrow_mut().remove(name);
                self.migrate(name, legacy, hashed).await?;
                self.open_at(name, hashed).await
            }
            found => found,
        }
    }

    async fn open_at(&self, name: &Name, place: Place) -> Answer<Rc<Object>> {
        let file = self.fs.open(place.path(name), 0).await?;
        Ok(self.cached(Object::new(*name, file, place)))
    }

    async fn create_held(self: &Rc<Self>, held: &NameGuard) -> Answer<Rc<Object>> {
        let (name, place) = (&held.name, Place::hashed(&held.name));
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        let mut made = self.fs.open(place.path(name), exclusive).await;
        if made.as_ref().is_err_and(|errno| *errno == Errno::NOENT) {
            self.make_dirs(place).await?;
            made = self.fs.open(place.path(name), exclusive).await;
        }
        match made {
            // Another node was faster.
            Err(Errno::EXIST) => self.find_held(held).await,
            Err(errno) => Err(errno),
            Ok(file) => {
                self.tags.object_made(place);
                Ok(self.cached(Object::new(*name, file, place)))
            }
        }
    }

    pub(crate) async fn make_dirs(&self, place: Place) -> Answer<()> {
        for depth in 1..=3 {
            if self.fs.make_dir(place.dir(depth)).await? {
                self.tags.dir_made(place, depth);
            }
        }
        Ok(())
    }

    fn cached(&self, object: Rc<Object>) -> Rc<Object> {
        self.cache.borrow_mut().insert(object.clone());
        object
    }

    /// Moves an object to where new ones are made: a hard link first, so that it is never missing
    /// (`spec/pithos.md` section 4). Durable before the old name goes.
    async fn migrate(&self, name: &Name, from: Place, to: Place) -> Answer<()> {
        self.make_dirs(to).await?;
        match self.fs.link(from.path(name), to.path(name)).await {
            // Another node has linked it, or moved it altogether.
            Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        self.sync_place(to).await?;
        if self.is_one_file(name, from, to).await? {
            if let Err(errno) = self.fs.unlink(from.path(name)).await {
                tracing::warn!(object = %name, %errno, "the old name stays");
            }
            self.fs.sync_dir(from.dir(3)).await?;
        }
        Ok(())
    }

    async fn is_one_file(&self, name: &Name, one: Place, other: Place) -> Answer<bool> {
        let paths = [one.path(name), other.path(name)];
        let root = self.fs.root.clone();
        let identity = move || {
            let [one, other] = paths.map(|path| {
                let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
                nix::sys::stat::fstatat(&*root, path.as_c_str(), flags)
                    .map(|stat| (stat.st_dev, stat.st_ino))
            });
            one.is_ok() && one == other
        };
        Ok(self.fs.offload.run(identity).await)
    }
}
