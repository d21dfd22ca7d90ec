//! Primitives between tasks of one executor: no atomics, no threads.
//!
//! All of them are fair: who waits first goes first. Dropping a future that waits gives up its
//! place, and passes on what it had been given.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A place in a queue.
#[derive(Default)]
struct Place {
    given: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Place {
    fn give(&self) {
        self.given.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.given.get() {
            return Poll::Ready(());
        }
        self.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }
}

type Queue = RefCell<VecDeque<Rc<Place>>>;

/// Permits to be taken and given back.
pub struct Semaphore {
    permits: Cell<usize>,
    queue: Queue,
}

/// A permit of a [`Semaphore`], given back when dropped.
pub struct Permit {
    of: Rc<Semaphore>,
}

impl Semaphore {
    /// With `permits` to begin with.
    pub fn new(permits: usize) -> Rc<Semaphore> {
        Rc::new(Semaphore {
            permits: Cell::new(permits),
            queue: Queue::default(),
        })
    }

    /// A permit now, if nobody waits and there is one.
    pub fn try_acquire(self: &Rc<Self>) -> Option<Permit> {
        if self.permits.get() == 0 || !self.queue.borrow().is_empty() {
            return None;
        }
        self.permits.set(self.permits.get() - 1);
        Some(Permit { of: self.clone() })
    }

    /// Waits for a permit.
    pub async fn acquire(self: &Rc<Self>) -> Permit {
        if let Some(permit) = self.try_acquire() {
            return permit;
        }
        let place = Rc::new(Place::default());
        self.queue.borrow_mut().push_back(place.clone());
        Waiting {
            semaphore: self,
            place: Some(place),
        }
        .await
    }

    fn give_back(&self) {
        let next = self.queue.borrow_mut().pop_front();
        match next {
            Some(place) => place.give(),
            None => self.permits.set(self.permits.get() + 1),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.give_back();
    }
}

struct Waiting<'a> {
    semaphore: &'a Rc<Semaphore>,
    place: Option<Rc<Place>>,
}

impl Future for Waiting<'_> {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let place = self
            .place
            .as_ref()
            .expect("a finished future is not polled again");
        std::task::ready!(place.poll(context));
        self.place = None;
        Poll::Ready(Permit {
            of: self.semaphore.clone(),
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        if place.given.get() {
            self.semaphore.give_back();
        } else {
            let mut queue = self.semaphore.queue.borrow_mut();
            queue.retain(|other| !Rc::ptr_eq(other, &place));
        }
    }
}

/// Mutual exclusion between tasks, first come first served.
pub struct Lock(Rc<Semaphore>);

/// Holds a [`Lock`] until dropped.
pub struct Guard(#[allow(dead_code, reason = "held for its drop")] Permit);

impl Default for Lock {
    fn default() -> Lock {
        Lock(Semaphore::new(1))
    }
}

impl Lock {
    /// A lock that nobody holds.
    pub fn new() -> Lock {
        Lock::default()
    }

    /// Waits for it.
    pub async fn lock(&self) -> Guard {
        Guard(self.0.acquire().await)
    }

    /// Takes it if nobody has it and nobody waits.
    pub fn try_lock(&self) -> Option<Guard> {
        self.0.try_acquire().map(Guard)
    }
}

/// Lets tasks wait until another says that something changed.
#[derive(Default)]
pub struct Notify {
    queue: Queue,
    stored: Cell<bool>,
}

impl Notify {
    /// Nothing has been said.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Wakes who waits longest; when nobody waits, the next to wait does not.
    pub fn notify_one(&self) {
        let first = self.queue.borrow_mut().pop_front();
        match first {
            Some(place) => place.give(),
            None => self.stored.set(true),
        }
    }

    /// Wakes all that wait now.
    pub fn notify_all(&self) {
        for place in self.queue.take() {
            place.give();
        }
    }

    /// Waits to be woken. Its place in the queue is taken by this call, not by the first poll.
    pub fn notified(&self) -> impl Future<Output = ()> + use<> {
        let place = Rc::new(Place::default());
        if self.stored.take() {
            place.give();
        } else {
            self.queue.borrow_mut().push_back(place.clone());
        }
        std::future::poll_fn(move |context| place.poll(context))
    }
}

/// A value that one task gives to another, once.
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Slot {
        value: RefCell::new(None),
        place: Place::default(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

struct Slot<T> {
    value: RefCell<Option<T>>,
    place: Place,
}

/// Gives the value of a [`oneshot`].
pub struct Sender<T>(Rc<Slot<T>>);

/// Takes the value of a [`oneshot`]: a future of it, or of `None` when the sender is gone.
pub struct Receiver<T>(Rc<Slot<T>>);

impl<T> Sender<T> {
    /// Gives it.
    pub fn send(self, value: T) {
        self.0.value.replace(Some(value));
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.place.give();
    }
}

impl<T> Receiver<T> {
    /// The value, if it has been given and not been taken.
    pub fn try_take(&self) -> Option<T> {
        self.0.value.take()
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.place.poll(context).map(|()| self.0.value.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Executor;

    #[test]
    fn a_lock_is_held_by_one_in_order() {
        let executor = Executor::new();
        let (lock, order) = (Rc::new(Lock::new()), Rc::new(RefCell::new(Vec::new())));
        let first = lock.try_lock().unwrap();
        for i in 0..5 {
            let (lock, order) = (lock.clone(), order.clone());
            executor.spawn(async move {
                let _guard = lock.lock().await;
                order.borrow_mut().push(i);
            });
        }
        executor.run_ready();
        assert!(order.borrow().is_empty() && lock.try_lock().is_none());
        drop(first);
        while executor.run_ready() {}
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
        assert!(lock.try_lock().is_some());
    }

    #[test]
    fn a_waiter_that_gives_up_passes_its_turn_on() {
        let executor = Executor::new();
        let semaphore = Semaphore::new(1);
        let held = semaphore.try_acquire().unwrap();
        let (theirs, keep) = (semaphore.clone(), Rc::new(RefCell::new(None)));
        let (parked, inner) = (keep.clone(), executor.clone());
        executor.spawn(async move {
            let mut waits = Box::pin(async move { theirs.acquire().await });
            std::future::poll_fn(|context| {
                assert!(waits.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            parked.replace(Some(waits));
            drop(inner);
        });
        executor.run_ready();
        drop(held);
        assert!(semaphore.try_acquire().is_none(), "given to the waiter");
        drop(keep.take());
        assert!(semaphore.try_acquire().is_some(), "and passed on");
    }

    #[test]
    fn a_sender_that_goes_away_ends_the_wait() {
        let executor = Executor::new();
        let (send, receive) = oneshot::<u8>();
        let answer = Rc::new(Cell::new(Some(1)));
        let theirs = answer.clone();
        executor.spawn(async move { theirs.set(receive.await) });
        executor.run_ready();
        drop(send);
        executor.run_ready();
        assert_eq!(answer.get(), None);
    }
}
