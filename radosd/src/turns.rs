//! Whose turn it is with an object, for operations of several steps.

use driver::Name;
use reactor::sync::{Guard, Lock};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Objects that are being changed in several steps, one task at a time.
#[derive(Clone, Default)]
pub(crate) struct Turns(Rc<RefCell<HashMap<Name, Rc<Lock>>>>);

/// The object is ours while this lives.
pub(crate) struct Turn {
    turns: Turns,
    name: Name,
    guard: Option<Guard>,
}

impl Turns {
    /// Waits for a turn with `name`.
    pub(crate) async fn take(&self, name: &Name) -> Turn {
        let lock = self.0.borrow_mut().entry(*name).or_default().clone();
        let guard = Some(lock.lock().await);
        Turn {
            turns: self.clone(),
            name: *name,
            guard,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.turns.0.borrow_mut();
        // Waiters hold a clone of the lock, so one owner means that there is none.
        if turns
            .get(&self.name)
            .is_some_and(|lock| Rc::strong_count(lock) == 1)
        {
            turns.remove(&self.name);
        }
    }
}
