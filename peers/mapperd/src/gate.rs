//! Admission to a volume: many that share it, or one alone, first come first served.
//!
//! What always holds: whoever waits is let in in the order of arrival, so that a stream of readers
//! cannot keep a snapshot out; who gives up waiting passes its place on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// How much of a volume an operation needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Together with others of this kind.
    Shared,
    /// Nobody else.
    Alone,
}

/// The gate of one volume.
#[derive(Clone, Default)]
pub(crate) struct Gate(Rc<Inner>);

#[derive(Default)]
struct Inner {
    /// Passes out: how many share, or one alone.
    inside: Cell<usize>,
    alone: Cell<bool>,
    queue: RefCell<VecDeque<Rc<Place>>>,
}

struct Place {
    access: Access,
    given: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Leave to use the volume, until dropped.
#[must_use]
pub(crate) struct Pass {
    gate: Rc<Inner>,
}

impl Gate {
    /// Waits for leave.
    pub(crate) async fn enter(&self, access: Access) -> Pass {
        if let Some(pass) = self.try_enter(access) {
            return pass;
        }
        let place = Rc::new(Place {
            access,
            given: Cell::new(false),
            waker: RefCell::default(),
        });
        self.0.queue.borrow_mut().push_back(place.clone());
        let waiting = Waiting {
            gate: self.0.clone(),
            place,
        };
        poll_fn(|context| match waiting.place.given.get() {
            true => Poll::Ready(()),
            false => {
                waiting.place.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await;
        waiting.place.given.set(false);
        Pass {
            gate: self.0.clone(),
        }
    }

    /// Leave now, if nobody is in the way and nobody waits.
    pub(crate) fn try_enter(&self, access: Access) -> Option<Pass> {
        let free = self.0.queue.borrow().is_empty() && self.0.fits(access);
        free.then(|| {
            self.0.admit(access);
            Pass {
                gate: self.0.clone(),
            }
        })
    }
}

impl Inner {
    fn fits(&self, access: Access) -> bool {
        match access {
            Access::Shared => !self.alone.get(),
            Access::Alone => self.inside.get() == 0,
        }
    }

    fn admit(&self, access: Access) {
        self.inside.set(self.inside.get() + 1);
        self.alone.set(access == Access::Alone);
    }

    fn leave(&self) {
        self.inside.set(self.inside.get() - 1);
        self.alone.set(false);
        self.admit_waiting();
    }

    fn admit_waiting(&self) {
        loop {
            let next = {
                let mut queue = self.queue.borrow_mut();
                match queue.front() {
                    Some(place) if self.fits(place.access) => queue.pop_front(),
                    _ => None,
                }
            };
            let Some(place) = next else { return };
            self.admit(place.access);
            place.given.set(true);
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Pass {
    /// Lets others share what was held alone.
    pub(crate) fn share(&self) {
        self.gate.alone.set(false);
        self.gate.admit_waiting();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

struct Waiting {
    gate: Rc<Inner>,
    place: Rc<Place>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.place.given.get() {
            self.gate.leave();
        }
        self.gate
            .queue
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &self.place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::Executor;

    #[test]
    fn who_waits_alone_goes_before_later_readers() {
        let (executor, gate) = (Executor::new(), Gate::default());
        let order = Rc::new(RefCell::new(Vec::new()));
        let first = gate.try_enter(Access::Shared).unwrap();
        let second = gate.try_enter(Access::Shared).unwrap();
        for (name, access) in [
            ("alone", Access::Alone),
            ("b", Access::Shared),
            ("c", Access::Shared),
        ] {
            let (gate, order) = (gate.clone(), order.clone());
            executor.spawn(async move {
                let _pass = gate.enter(access).await;
                order.borrow_mut().push(name);
            });
        }
        while executor.run_ready() {}
        drop(first);
        while executor.run_ready() {}
        assert!(order.borrow().is_empty(), "one still shares it");
        drop(second);
        while executor.run_ready() {}
        assert_eq!(*order.borrow(), ["alone", "b", "c"]);
        assert!(gate.try_enter(Access::Alone).is_some());
    }

    #[test]
    fn a_pass_alone_becomes_shared() {
        let gate = Gate::default();
        let pass = gate.try_enter(Access::Alone).unwrap();
        assert!(gate.try_enter(Access::Shared).is_none());
        pass.share();
        let other = gate.try_enter(Access::Shared).unwrap();
        drop((pass, other));
        assert!(gate.try_enter(Access::Alone).is_some());
    }

    #[test]
    fn who_gives_up_is_forgotten() {
        let (executor, gate) = (Executor::new(), Gate::default());
        let held = gate.try_enter(Access::Alone).unwrap();
        let theirs = gate.clone();
        executor.spawn(async move { drop(theirs.enter(Access::Alone).await) });
        executor.run_ready();
        executor.clear();
        drop(held);
        assert!(gate.try_enter(Access::Alone).is_some());
    }
}
