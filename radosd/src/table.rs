//! What is with librados: every operation in flight, its memory, and its completion.
//!
//! What holds: an operation's memory stays in here until the call back was taken, whatever becomes
//! of the task that waits for it.

use crate::sys::{Completion, Pool};
use driver::Errno;
use reactor::Flights;
use std::cell::{Cell, RefCell};

/// Set in the tokens of the driver's own slots.
const HOT: u64 = 1 << 63;

/// Operations in flight.
#[derive(Default)]
pub(crate) struct Table {
    flights: RefCell<Flights>,
    tasks: RefCell<Vec<Option<Completion>>>,
    hot: RefCell<Vec<Option<Completion>>>,
    count: Cell<usize>,
}

/// Whose an ended operation is.
pub(crate) enum Owner {
    /// The driver's slot of that number.
    Hot(usize),
    /// A task's, which has been woken.
    Task,
}

impl Table {
    /// Starts an operation of a task that needs `keep`; the result and `keep` when it has ended.
    /// What `call` points librados to must be on the heap of `keep`.
    pub(crate) fn start<K: 'static, C>(
        &self,
        keep: K,
        call: C,
    ) -> impl Future<Output = (i32, K)> + use<K, C>
    where
        C: FnOnce(u64) -> Result<Completion, Errno>,
    {
        let (token, flight) = self.flights.borrow_mut().start(keep);
        match call(token) {
            Ok(completion) => self.keep(&self.tasks, token as usize, completion),
            Err(errno) => {
                let landed = self.flights.borrow_mut().land(token, -errno.0);
                landed.finish();
            }
        }
        flight
    }

    /// Starts the operation of a slot of the driver.
    pub(crate) fn start_hot(
        &self,
        slot: usize,
        call: impl FnOnce(u64) -> Result<Completion, Errno>,
    ) -> Result<(), Errno> {
        let completion = call(slot as u64 | HOT)?;
        self.keep(&self.hot, slot, completion);
        Ok(())
    }

    fn keep(&self, list: &RefCell<Vec<Option<Completion>>>, at: usize, completion: Completion) {
        let mut list = list.borrow_mut();
        if list.len() <= at {
            list.resize_with(at + 1, || None);
        }
        list[at] = Some(completion);
        self.count.set(self.count.get() + 1);
    }

    /// An operation ended.
    pub(crate) fn end(&self, token: u64, result: i32) -> Owner {
        self.count.set(self.count.get() - 1);
        let slot = (token & !HOT) as usize;
        if token & HOT != 0 {
            self.hot.borrow_mut()[slot] = None;
            return Owner::Hot(slot);
        }
        self.tasks.borrow_mut()[slot] = None;
        let landed = self.flights.borrow_mut().land(token, result);
        // Waking, and dropping memory, may run code that starts another operation.
        landed.finish();
        Owner::Task
    }

    /// How many operations librados has.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// Gives up all of them: their ends come at once, though they may still land.
    pub(crate) fn cancel(&self, pool: &Pool) {
        for list in [&self.tasks, &self.hot] {
            let list = list.borrow();
            list.iter()
                .flatten()
                .for_each(|completion| pool.cancel(completion));
        }
    }
}
