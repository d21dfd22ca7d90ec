//! Operations whose memory is kept until they end: what a task waits for.
//!
//! The ring has one such table ([`Ring::op`](crate::Ring::op)); a driver of another kernel or
//! library may have its own.
//!
//! What holds: the keeper of an operation's memory has two owners, the future and this table, and
//! the table lets go only at the completion. So a dropped future frees nothing that somebody else may
//! still write to.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Operations in flight, by slot.
#[derive(Default)]
pub struct Flights {
    slots: Vec<Option<Rc<dyn Land>>>,
    free: Vec<u64>,
}

/// An operation whose completion has come, out of the table.
pub struct Landed {
    flight: Rc<dyn Land>,
    result: i32,
}

/// What a task awaits.
struct Flight<K> {
    state: Rc<State<K>>,
}

struct State<K>(RefCell<Inner<K>>);

struct Inner<K> {
    result: Option<i32>,
    keep: Option<K>,
    waker: Option<Waker>,
}

trait Land {
    fn land(&self, result: i32);
}

impl Flights {
    /// Takes a slot for an operation that needs `keep`.
    pub fn start<K: 'static>(&mut self, keep: K) -> (u64, impl Future<Output = (i32, K)> + use<K>) {
        let state = Rc::new(State(RefCell::new(Inner {
            result: None,
            keep: Some(keep),
            waker: None,
        })));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u64 - 1
        });
        self.slots[slot as usize] = Some(state.clone());
        (slot, Flight { state })
    }

    /// Takes the operation out of its slot.
    pub fn land(&mut self, slot: u64, result: i32) -> Landed {
        let flight = self.slots[slot as usize].take();
        let flight = flight.expect("the kernel completes an operation once");
        self.free.push(slot);
        Landed { flight, result }
    }
}

impl Landed {
    /// Wakes the task that waits for it.
    pub fn finish(self) {
        self.flight.land(self.result);
    }
}

impl<K> Land for State<K> {
    fn land(&self, result: i32) {
        let waker = {
            let mut inner = self.0.borrow_mut();
            inner.result = Some(result);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<K> Future for Flight<K> {
    type Output = (i32, K);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(i32, K)> {
        let mut inner = self.state.0.borrow_mut();
        let Some(result) = inner.result else {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let keep = inner
            .keep
            .take()
            .expect("a finished future is not polled again");
        Poll::Ready((result, keep))
    }
}
