//! Tasks of one thread: operations of several steps, written from top to bottom.
//!
//! A waker may be called on any thread (a worker of `Offload` does), so the list of tasks that are
//! ready is the one thing here behind a lock; the tasks themselves never leave their thread.

use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// A handle to the tasks of this thread.
#[derive(Clone, Default)]
pub struct Executor {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    tasks: RefCell<Tasks>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<usize>,
    alive: usize,
    generation: u64,
}

struct Task {
    /// None while it is being polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    signal: Arc<Signal>,
}

#[derive(Default)]
struct Ready {
    queue: Mutex<VecDeque<Arc<Signal>>>,
}

struct Signal {
    slot: usize,
    generation: u64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Pairs with the store in `run_ready`: who sets it queues the task.
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.queue.lock().push_back(self.clone());
        }
    }
}

impl Executor {
    /// An executor without tasks.
    pub fn new() -> Executor {
        Executor::default()
    }

    /// Adds a task; it runs at the next [`run_ready`](Self::run_ready).
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let mut tasks = self.shared.tasks.borrow_mut();
        tasks.generation += 1;
        tasks.alive += 1;
        let slot = tasks.free.pop().unwrap_or_else(|| {
            tasks.slots.push(None);
            tasks.slots.len() - 1
        });
        let signal = Arc::new(Signal {
            slot,
            generation: tasks.generation,
            queued: AtomicBool::new(false),
            ready: self.shared.ready.clone(),
        });
        signal.wake_by_ref();
        let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(future);
        tasks.slots[slot] = Some(Task {
            future: Some(future),
            signal,
        });
    }

    /// Runs each task that was ready when it was called, once; true when there were any. Tasks that
    /// become ready meanwhile wait for the next call, so that no task can keep the thread.
    pub fn run_ready(&self) -> bool {
        let ready = std::mem::take(&mut *self.shared.ready.queue.lock());
        let any = !ready.is_empty();
        for signal in ready {
            self.run(&signal);
        }
        any
    }

    /// Whether a task is ready.
    pub fn has_ready(&self) -> bool {
        !self.shared.ready.queue.lock().is_empty()
    }

    /// How many tasks have not ended.
    pub fn tasks(&self) -> usize {
        self.shared.tasks.borrow().alive
    }

    /// Drops all tasks where they stand.
    pub fn clear(&self) {
        loop {
            let task = {
                let mut tasks = self.shared.tasks.borrow_mut();
                tasks.alive = 0;
                tasks.free.clear();
                tasks.slots.pop()
            };
            // Dropped with nothing borrowed: a task's own drop may spawn or wake.
            match task {
                Some(task) => drop(task),
                None => return,
            }
        }
    }

    fn run(&self, signal: &Arc<Signal>) {
        signal.queued.store(false, Ordering::Release);
        let Some(mut future) = self.take_future(signal) else {
            return;
        };
        let waker = Waker::from(signal.clone());
        let ended = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        if ended {
            drop(future);
        } else if let Err(homeless) = self.put_back(signal, future) {
            drop(homeless);
        }
        if ended {
            self.remove(signal);
        }
    }

    fn take_future(&self, signal: &Signal) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let mut tasks = self.shared.tasks.borrow_mut();
        tasks.at(signal)?.future.take()
    }

    /// Gives it back when the executor was cleared meanwhile.
    fn put_back(
        &self,
        signal: &Signal,
        future: Pin<Box<dyn Future<Output = ()>>>,
    ) -> Result<(), Pin<Box<dyn Future<Output = ()>>>> {
        match self.shared.tasks.borrow_mut().at(signal) {
            Some(task) => {
                task.future = Some(future);
                Ok(())
            }
            None => Err(future),
        }
    }

    fn remove(&self, signal: &Signal) {
        let mut tasks = self.shared.tasks.borrow_mut();
        if tasks.at(signal).is_some() {
            tasks.slots[signal.slot] = None;
            tasks.free.push(signal.slot);
            tasks.alive -= 1;
        }
    }
}

impl Tasks {
    /// The task that `signal` belongs to, if it still is there.
    fn at(&mut self, signal: &Signal) -> Option<&mut Task> {
        let task = self.slots.get_mut(signal.slot)?.as_mut()?;
        (task.signal.generation == signal.generation).then_some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Notify;
    use std::cell::Cell;

    #[test]
    fn tasks_run_until_they_wait_and_go_on_when_woken() {
        let executor = Executor::new();
        let (notify, steps) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)));
        let (theirs, count) = (notify.clone(), steps.clone());
        executor.spawn(async move {
            count.set(1);
            theirs.notified().await;
            count.set(2);
        });
        assert_eq!(steps.get(), 0);
        assert!(executor.run_ready() && !executor.run_ready());
        assert_eq!((steps.get(), executor.tasks()), (1, 1));
        notify.notify_one();
        assert!(executor.run_ready());
        assert_eq!((steps.get(), executor.tasks()), (2, 0));
    }

    #[test]
    fn a_task_may_spawn_and_clear() {
        let executor = Executor::new();
        let (inner, steps) = (executor.clone(), Rc::new(Cell::new(0)));
        let count = steps.clone();
        executor.spawn(async move {
            let counted = count.clone();
            inner.spawn(async move { counted.set(counted.get() + 1) });
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                std::task::Poll::<()>::Pending
            })
            .await;
        });
        executor.run_ready();
        executor.run_ready();
        assert_eq!((steps.get(), executor.tasks()), (1, 1));
        executor.clear();
        assert_eq!(executor.tasks(), 0);
        executor.run_ready();
        assert!(!executor.run_ready(), "a stale waker wakes nobody");
    }

    #[test]
    fn wakers_work_from_other_threads() {
        let executor = Executor::new();
        let (send, receive) = crate::sync::oneshot();
        let parked = Arc::new(Mutex::new(None::<Waker>));
        let theirs = parked.clone();
        executor.spawn(async move {
            let mut first = true;
            std::future::poll_fn(move |context| {
                *theirs.lock() = Some(context.waker().clone());
                if std::mem::take(&mut first) {
                    return std::task::Poll::Pending;
                }
                std::task::Poll::Ready(())
            })
            .await;
            send.send(7);
        });
        executor.run_ready();
        let waker = parked.lock().take().unwrap();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        assert!(executor.run_ready());
        assert_eq!(receive.try_take(), Some(7));
    }
}
