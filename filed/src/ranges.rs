//! Which bytes of one object are being written, so that no two writers meet in a sector.
//!
//! What holds: ranges that are held together do not overlap, and none is given past one that waits
//! for a part of it, so that nobody starves. A linear list: an object has a few dozen writers at
//! most, and a hot write must not allocate.

use reactor::sync::{Receiver, Sender, oneshot};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

/// The ranges of one object.
#[derive(Default)]
pub(crate) struct Ranges(RefCell<Inner>);

#[derive(Default)]
struct Inner {
    held: Vec<Range<u64>>,
    waiting: VecDeque<(Range<u64>, Sender<()>)>,
}

impl Ranges {
    /// Takes `range` if nobody holds or awaits a part of it.
    pub(crate) fn try_take(&self, range: &Range<u64>) -> bool {
        let mut inner = self.0.borrow_mut();
        let free = inner.is_free(range) && !inner.is_awaited(range, usize::MAX);
        if free {
            inner.held.push(range.clone());
        }
        free
    }

    /// Takes `range` when it is free; the guard gives it back.
    pub(crate) async fn take<O: AsRef<Ranges>>(owner: &Rc<O>, range: Range<u64>) -> Held<O> {
        let ranges = O::as_ref(owner);
        if !ranges.try_take(&range) {
            let turn = ranges.queue(&range);
            turn.await
                .expect("whoever waits for a range keeps its object");
        }
        Held {
            owner: owner.clone(),
            range,
        }
    }

    /// Gives `range` back.
    pub(crate) fn give_back(&self, range: &Range<u64>) {
        let mut inner = self.0.borrow_mut();
        let at = inner.held.iter().position(|held| held == range);
        inner
            .held
            .swap_remove(at.expect("what is given back was held"));
        inner.serve();
    }

    fn queue(&self, range: &Range<u64>) -> Receiver<()> {
        let (sender, receiver) = oneshot();
        self.0
            .borrow_mut()
            .waiting
            .push_back((range.clone(), sender));
        receiver
    }
}

impl Inner {
    fn is_free(&self, range: &Range<u64>) -> bool {
        !self.held.iter().any(|held| overlap(held, range))
    }

    /// Whether one of the first `before` in the queue wants a part of `range`.
    fn is_awaited(&self, range: &Range<u64>, before: usize) -> bool {
        let mut ahead = self.waiting.iter().take(before);
        ahead.any(|(waiting, _)| overlap(waiting, range))
    }

    fn serve(&mut self) {
        let mut at = 0;
        while let Some((range, _)) = self.waiting.get(at) {
            if self.is_free(range) && !self.is_awaited(range, at) {
                let (range, sender) = self.waiting.remove(at).expect("it is there");
                self.held.push(range);
                sender.send(());
            } else {
                at += 1;
            }
        }
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Holds a range until dropped.
pub(crate) struct Held<O: AsRef<Ranges>> {
    owner: Rc<O>,
    range: Range<u64>,
}

impl<O: AsRef<Ranges>> Drop for Held<O> {
    fn drop(&mut self) {
        O::as_ref(&self.owner).give_back(&self.range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::Executor;

    struct Owner(Ranges);
    impl AsRef<Ranges> for Owner {
        fn as_ref(&self) -> &Ranges {
            &self.0
        }
    }

    #[test]
    fn who_waits_is_not_overtaken() {
        let (executor, owner) = (Executor::new(), Rc::new(Owner(Ranges::default())));
        assert!(owner.0.try_take(&(0..512)) && owner.0.try_take(&(512..1024)));
        assert!(!owner.0.try_take(&(511..513)));
        let (theirs, held) = (owner.clone(), Rc::new(RefCell::new(None)));
        let slot = held.clone();
        executor.spawn(async move {
            slot.replace(Some(Ranges::take(&theirs, 0..u64::MAX).await));
        });
        executor.run_ready();
        assert!(
            !owner.0.try_take(&(4096..8192)),
            "the whole object is awaited"
        );
        owner.0.give_back(&(0..512));
        executor.run_ready();
        assert!(held.borrow().is_none());
        owner.0.give_back(&(512..1024));
        executor.run_ready();
        assert!(held.borrow().is_some() && !owner.0.try_take(&(9..10)));
        drop(held.take());
        assert!(owner.0.try_take(&(9..10)));
    }
}
