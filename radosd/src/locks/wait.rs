//! Hearing that a lock was given back: a watch on its object.
//!
//! What always holds: after the watch stands, the lock is looked at once more, so that what was
//! given back before is not missed (B14); a watch ends when it has served, and at the latest when
//! the driver ends. Whoever waits also looks by itself from time to time, so nothing depends on a
//! notification.

use super::object;
use crate::core::{Core, ObjectName};
use driver::Name;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// How long a notifier waits for those who watch, in milliseconds.
const NOTIFY_MS: u64 = 2000;

/// A watch ends after this, though nothing was heard: nobody may wait any more.
const WATCH: Duration = Duration::from_secs(60);

/// One watch; librados itself gives back one that never stood.
#[derive(Default)]
struct Watch {
    handle: u64,
    /// The operation that makes it stand.
    token: Option<u64>,
    stands: bool,
}

/// What is waited for.
#[derive(Default)]
pub(crate) struct Waits {
    /// Volumes that are watched or about to be.
    watched: RefCell<HashMap<Name, Watch>>,
    /// Volumes whose lock may be free now.
    freed: RefCell<Vec<Name>>,
}

impl Waits {
    /// Takes the volumes whose lock may be free now.
    pub(crate) fn take_freed(&self, volumes: &mut Vec<Name>) {
        volumes.append(&mut self.freed.borrow_mut());
    }

    fn volume_of(&self, handle: u64) -> Option<Name> {
        let watched = self.watched.borrow();
        let found = watched
            .iter()
            .find(|(_, its)| its.stands && its.handle == handle);
        found.map(|(volume, _)| *volume)
    }

    /// An operation ended; maybe it made a watch stand.
    pub(crate) fn landed(&self, token: u64, result: i32) {
        let mut watched = self.watched.borrow_mut();
        let of_it = watched.iter_mut().find(|(_, its)| its.token == Some(token));
        let Some((volume, watch)) = of_it else { return };
        watch.token = None;
        watch.stands = result >= 0;
        let volume = *volume;
        if result < 0 {
            watched.remove(&volume);
        }
    }
}

impl Core {
    /// Somebody waits for the lock of `volume`.
    pub(crate) fn watch_lock(self: &Rc<Self>, volume: &Name) {
        if self.locks.waits.watched.borrow().contains_key(volume) {
            return;
        }
        let watch = Watch::default();
        self.locks.waits.watched.borrow_mut().insert(*volume, watch);
        let (core, volume) = (self.clone(), *volume);
        self.executor.spawn(async move {
            if core.begin_watch(&volume).await.is_none() {
                core.locks.waits.watched.borrow_mut().remove(&volume);
            }
        });
    }

    async fn begin_watch(self: &Rc<Self>, volume: &Name) -> Option<()> {
        let object = object(volume).ok()?;
        let name = ObjectName::new(&object);
        let mut handle = 0;
        let call = |token| {
            let (completion, its) = self.pool.watch(name.as_c_str(), token)?;
            handle = its;
            let watch = Watch {
                handle,
                token: Some(token),
                stands: false,
            };
            self.locks.waits.watched.borrow_mut().insert(*volume, watch);
            Ok(completion)
        };
        let (answer, ()) = self.run((), call).await;
        answer.ok()?;
        if matches!(self.find(&object).await, Ok(None)) {
            self.freed(volume);
            return Some(());
        }
        let until = self.env.clock.now_ns() + WATCH.as_nanos() as u64;
        let (core, volume, sleep) = (self.clone(), *volume, self.timers.sleep_until(until));
        self.executor.spawn(async move {
            sleep.await;
            if core.locks.waits.volume_of(handle) == Some(volume) {
                core.freed(&volume);
            }
        });
        Some(())
    }

    /// The lock of a volume may be free: who waits is told, and watches no more.
    fn freed(self: &Rc<Self>, volume: &Name) {
        let watched = self.locks.waits.watched.borrow_mut().remove(volume);
        self.locks.waits.freed.borrow_mut().push(*volume);
        if let Some(Watch {
            handle,
            stands: true,
            ..
        }) = watched
        {
            let core = self.clone();
            self.executor
                .spawn(async move { core.end_watch(handle).await });
        }
    }

    async fn end_watch(&self, handle: u64) {
        let call = |token| self.pool.unwatch(handle, token);
        // It may have ended by itself, with the connection to its OSD.
        let _ = self.run((), call).await;
    }

    /// Ends every watch that stands; what it waits for is in the table then.
    pub(crate) fn end_watches(self: &Rc<Self>) {
        let standing: Vec<_> = {
            let mut watched = self.locks.waits.watched.borrow_mut();
            let all = watched.extract_if(|_, watch| watch.stands);
            all.map(|(_, watch)| watch.handle).collect()
        };
        for handle in standing {
            // The table counts it, whether or not anybody polls the future.
            drop(
                self.table
                    .start((), |token| self.pool.unwatch(handle, token)),
            );
        }
    }

    /// The watchers of a lock's object were notified.
    pub(crate) fn notified(self: &Rc<Self>, handle: u64, notify: u64) {
        let Some(volume) = self.locks.waits.volume_of(handle) else {
            return;
        };
        if let Ok(object) = object(&volume) {
            let name = ObjectName::new(&object);
            self.pool.heard(name.as_c_str(), notify, handle);
        }
        self.freed(&volume);
    }

    /// Tells those who wait for a lock that it was given back. Nobody waits for them.
    pub(super) fn tell_waiters(&self, object: &Name) {
        let name = ObjectName::new(object);
        let call = |token| self.pool.notify(name.as_c_str(), NOTIFY_MS, token);
        drop(self.table.start((), call));
    }
}
