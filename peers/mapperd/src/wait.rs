//! Waiting for another node's lock: what a MAPW does that finds it held.
//!
//! ```text
//!   MAPW --> open, if the lock is free --------------------------> served
//!             ^    | EBUSY
//!             |    v
//!             +-- AWAITLOCK at blockerm: until nobody holds it, or a second is over
//! ```
//! What always holds:
//! - Who waits is inside no gate, and not among the requests that are worked on: reads go on, and
//!   so does every other volume.
//! - Waiting takes no lock, so what a mapperd leaves that dies meanwhile is a question, which
//!   blockerm answers within that second.
//! - A MAPW of vlmcd waits once and is answered EBUSY then, which means: ask again. So whoever
//!   depends on it (a CLOSE, a stop, vlmcd's successor) waits no longer than that second either.
//! - While it waits nothing is outstanding that could not be given up: a stop needs no blockerm.

use crate::job::Job;
use crate::window;
use reactor::sync::Notify;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use xseg::protocol::{Operation, flags};
use xseg::{Name, Request};

/// How long one wait lasts at most, ns.
const WAIT_NS: u64 = 1_000_000_000;

/// For so many locks blockerm is asked at once. Whoever comes beyond that only waits.
pub(crate) const LISTENERS: usize = 64;

/// The requests that may wait for a lock.
#[derive(Default)]
pub(crate) struct Waits {
    all: RefCell<Vec<Rc<Wait>>>,
}

struct Wait {
    volume: Name,
    over: Cell<bool>,
    ended: Notify,
}

/// A place among them, until dropped.
pub(crate) struct MayWait<'a> {
    waits: &'a Waits,
    wait: Rc<Wait>,
}

impl Waits {
    /// A request for `volume` that may wait.
    pub(crate) fn join(&self, volume: Name) -> MayWait<'_> {
        let wait = Rc::new(Wait {
            volume,
            over: Cell::new(false),
            ended: Notify::new(),
        });
        self.all.borrow_mut().push(wait.clone());
        MayWait { waits: self, wait }
    }

    /// Nobody waits for the lock of `volume` any more; `None`: for any.
    pub(crate) fn end(&self, volume: Option<&Name>) {
        let all = self.all.borrow();
        let meant = |wait: &&Rc<Wait>| volume.is_none_or(|volume| wait.volume == *volume);
        for wait in all.iter().filter(meant) {
            wait.over.set(true);
            wait.ended.notify_all();
        }
    }
}

impl Drop for MayWait<'_> {
    fn drop(&mut self) {
        let mut all = self.waits.all.borrow_mut();
        all.retain(|other| !Rc::ptr_eq(other, &self.wait));
    }
}

impl Job {
    /// Whether this request waits for a lock that is not to be had now.
    pub(crate) fn may_wait(&self, place: &MayWait<'_>) -> bool {
        !self.core.stopping.get() && !place.wait.over.get() && !self.request.has(flags::NOSYNC)
    }

    /// Waits until the lock may be free, leaving its place to others.
    pub(crate) async fn wait_for_lock(&self, place: &MayWait<'_>) {
        let core = &self.core;
        self.give_up_permit();
        core.under_way.set(core.under_way.get() - 1);
        core.waiting.set(core.waiting.get() + 1);
        let (ended, heard) = (place.wait.ended.notified(), self.hear_of(place.wait.volume));
        window::first_of(ended, heard).await;
        core.waiting.set(core.waiting.get() - 1);
        core.under_way.set(core.under_way.get() + 1);
        self.take_permit().await;
    }

    /// Returns when nobody holds the lock of `volume`, or its time is over.
    async fn hear_of(&self, volume: Name) {
        let core = &self.core;
        let until = core.now_ns() + WAIT_NS;
        if let Some(_place) = core.listeners.try_acquire() {
            let request = Request {
                offset: until,
                root: self.request.root,
                ..Request::new(Operation::AwaitLock, volume)
            };
            let port = core.config.blockerm_port;
            match core.desk.listen(port, &request).await.result() {
                Ok(_) => return,
                Err(errno) => tracing::debug!(%volume, errno, "a lock's end is not heard of"),
            }
        }
        core.timers.sleep_until(until).await;
    }
}
