//! A few threads for the system calls that io_uring does not have (syncfs, FICLONE, getdents).
//!
//! Threads start when there is work and none is idle, and end with the pool. A worker that ends a
//! job wakes the task that waits for it and rings an eventfd that the ring reads, so that a thread
//! asleep in the ring turns. The pool does not join its threads: one may be in a system call that
//! takes long, and whatever it holds is its own.

use crate::{Executor, Ring, opcode, types};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A handle to the pool of this reactor.
#[derive(Clone)]
pub struct Offload {
    pool: Rc<Pool>,
}

struct Pool {
    shared: Arc<Shared>,
    max_threads: usize,
}

struct Shared {
    jobs: Mutex<Jobs>,
    arrived: Condvar,
    bell: OwnedFd,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

type Job = Box<dyn FnOnce() + Send>;

/// Where a job leaves its result, and the waker of the task that waits for it.
struct Outcome<T> {
    result: Option<std::thread::Result<T>>,
    waker: Option<Waker>,
}

impl Offload {
    /// A pool of at most `max_threads` threads, none of which runs yet.
    pub fn new(max_threads: usize, ring: &Ring, executor: &Executor) -> io::Result<Offload> {
        let shared = Arc::new(Shared {
            jobs: Mutex::default(),
            arrived: Condvar::new(),
            bell: eventfd()?,
        });
        executor.spawn(listen(ring.clone(), shared.bell.try_clone()?));
        let max_threads = max_threads.max(1);
        let pool = Rc::new(Pool {
            shared,
            max_threads,
        });
        Ok(Offload { pool })
    }

    /// Runs `job` on a thread of the pool. It runs to its end also when the future is dropped. A
    /// panic in it goes on in the task that waits.
    pub fn run<T, F>(&self, job: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let outcome = Arc::new(Mutex::new(Outcome {
            result: None,
            waker: None,
        }));
        let theirs = outcome.clone();
        let shared = self.pool.shared.clone();
        self.pool.start(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(job));
            let waker = {
                let mut outcome = theirs.lock();
                outcome.result = Some(result);
                outcome.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
            shared.ring_bell();
        }));
        std::future::poll_fn(move |context| {
            let mut outcome = outcome.lock();
            match outcome.result.take() {
                Some(Ok(value)) => Poll::Ready(value),
                Some(Err(panic)) => resume_unwind(panic),
                None => {
                    outcome.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

impl Pool {
    fn start(&self, job: Job) {
        let mut jobs = self.shared.jobs.lock();
        jobs.queue.push_back(job);
        if jobs.queue.len() > jobs.idle && jobs.threads < self.max_threads {
            jobs.threads += 1;
            let shared = self.shared.clone();
            let started = std::thread::Builder::new()
                .name("offload".into())
                .spawn(move || shared.work());
            if started.is_err() {
                jobs.threads -= 1;
                assert!(jobs.threads > 0, "not even one thread can be started");
            }
        }
        self.shared.arrived.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.jobs.lock().closed = true;
        self.shared.arrived.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut jobs = self.jobs.lock();
        loop {
            if let Some(job) = jobs.queue.pop_front() {
                drop(jobs);
                job();
                jobs = self.jobs.lock();
            } else if jobs.closed {
                return;
            } else {
                jobs.idle += 1;
                self.arrived.wait(&mut jobs);
                jobs.idle -= 1;
            }
        }
    }

    fn ring_bell(&self) {
        // An eventfd refuses only when its counter is full, and then it rings already.
        let _ = nix::unistd::write(&self.bell, &1u64.to_ne_bytes());
    }
}

/// Reads the bell for ever, so that ringing it ends a wait of the ring.
async fn listen(ring: Ring, bell: OwnedFd) {
    let mut count = Box::new([0u8; 8]);
    loop {
        let fd = types::Fd(bell.as_raw_fd());
        let read = opcode::Read::new(fd, count.as_mut_ptr(), 8).build();
        // SAFETY: the read's memory is the box given as keeper, whose heap address is fixed. The
        // descriptor is closed only by the end of this task, when the ring itself holds the file.
        let (result, back) = unsafe { ring.op(read, count) }.await;
        count = back;
        if result < 0 && ![-libc::EINTR, -libc::EAGAIN].contains(&result) {
            return;
        }
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
