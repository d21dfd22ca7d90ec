//! Tasks that wait for a time. Who turns the reactor asks for the next deadline, and fires.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A handle to the timers of this thread.
#[derive(Clone, Default)]
pub struct Timers {
    shared: Rc<RefCell<Shared>>,
}

#[derive(Default)]
struct Shared {
    waiting: BTreeMap<(u64, u64), Option<Waker>>,
    sequence: u64,
}

/// Waits for a time; made by [`Timers::sleep_until`].
pub struct Sleep {
    timers: Timers,
    key: (u64, u64),
}

impl Timers {
    /// No timers.
    pub fn new() -> Timers {
        Timers::default()
    }

    /// Ends at the first [`fire`](Self::fire) with a time of `ns` or later.
    pub fn sleep_until(&self, ns: u64) -> Sleep {
        let mut shared = self.shared.borrow_mut();
        shared.sequence += 1;
        let key = (ns, shared.sequence);
        shared.waiting.insert(key, None);
        Sleep {
            timers: self.clone(),
            key,
        }
    }

    /// When the next one is due.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let shared = self.shared.borrow();
        shared.waiting.first_key_value().map(|((ns, _), _)| *ns)
    }

    /// Ends what is due at `now_ns`, the earliest first; true when there was something.
    pub fn fire(&self, now_ns: u64) -> bool {
        let mut any = false;
        while self.next_deadline_ns().is_some_and(|ns| ns <= now_ns) {
            let waker = self.shared.borrow_mut().waiting.pop_first();
            any = true;
            if let Some((_, Some(waker))) = waker {
                waker.wake();
            }
        }
        any
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.timers.shared.borrow_mut().waiting.get_mut(&self.key) {
            None => Poll::Ready(()),
            Some(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.timers.shared.borrow_mut().waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Executor;

    #[test]
    fn sleepers_wake_in_order_and_dropped_ones_do_not_count() {
        let (executor, timers) = (Executor::new(), Timers::new());
        let order = Rc::new(RefCell::new(Vec::new()));
        for ns in [30, 10, 20] {
            let (sleep, order) = (timers.sleep_until(ns), order.clone());
            executor.spawn(async move {
                sleep.await;
                order.borrow_mut().push(ns);
            });
        }
        drop(timers.sleep_until(5));
        executor.run_ready();
        assert_eq!(timers.next_deadline_ns(), Some(10));
        assert!(!timers.fire(9) && timers.fire(20));
        executor.run_ready();
        assert_eq!(*order.borrow(), [10, 20]);
        assert!(timers.fire(u64::MAX));
        executor.run_ready();
        assert_eq!((order.borrow().len(), timers.next_deadline_ns()), (3, None));
    }
}
