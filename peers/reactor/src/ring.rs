//! One io_uring, shared by everything that runs on its thread. (Unsafe lives here.)
//!
//! ```text
//!   Handler 1 --push--\                      /--take--> Handler 1's inbox
//!   Handler 2 --push---+--> SQ  kernel  CQ -+---take--> Handler 2's inbox
//!   Ring::op ---------/                      \--wake--> the task that waits
//! ```
//!
//! The rules that make it sound:
//! 1. Memory named by a submission lives until its completion was taken. For [`Handler::push`] the
//!    caller sees to that; for [`Ring::op`] the ring keeps it itself.
//! 2. The ring ends only when nothing is outstanding: the last handle to go cancels what is left
//!    and waits for it.
//! 3. One thread: a `Ring` is no `Send`, so SINGLE_ISSUER holds, and a `RefCell` guards the queues.
//!
//! user_data is the handler's number (16 bits) and the payload (48 bits).

use crate::flight::Flights;
use io_uring::{IoUring, opcode, squeue, types};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// The largest payload of a submission.
pub const MAX_PAYLOAD: u64 = (1 << PAYLOAD_BITS) - 1;
const PAYLOAD_BITS: u32 = 48;

/// The handler number of [`Ring::op`]'s operations.
const FLIGHTS: u64 = 0;
/// The handler number of completions that nobody waits for.
const NOBODY: u64 = 0xffff;

/// Files that [`Ring::hold_file`] can keep.
const HELD_FILES: u32 = 8;

/// Completions that an inbox holds before it has to grow.
const INBOX: usize = 256;

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
#[error(
    "this kernel gives no io_uring (it is needed from Linux 6.1 on, and may be forbidden by \
         kernel.io_uring_disabled or by a container)"
)]
pub struct RingError(#[from] pub io::Error);

impl From<RingError> for io::Error {
    fn from(error: RingError) -> io::Error {
        io::Error::new(error.0.kind(), error)
    }
}

/// A handle to the ring of this thread.
#[derive(Clone)]
pub struct Ring {
    shared: Rc<Shared>,
}

/// One consumer of completions.
pub struct Handler {
    ring: Ring,
    number: u64,
    inbox: Rc<RefCell<Inbox>>,
}

/// Completions in order: payload, result, flags.
type Inbox = Vec<(u64, i32, u32)>;

struct Shared {
    uring: RefCell<IoUring>,
    inboxes: RefCell<Vec<Rc<RefCell<Inbox>>>>,
    flights: RefCell<Flights>,
    outstanding: Cell<usize>,
    held_files: Cell<u32>,
}

impl Ring {
    /// A ring with room for `entries` submissions at once (more are submitted in several calls).
    /// Belongs to the calling thread; a process that daemonises makes it after its last fork.
    pub fn new(entries: u32) -> io::Result<Ring> {
        let uring = build(entries).map_err(RingError)?;
        // Where the table cannot be had, only `hold_file` fails.
        let _ = uring.submitter().register_files_sparse(HELD_FILES);
        let shared = Shared {
            uring: RefCell::new(uring),
            inboxes: RefCell::default(),
            flights: RefCell::default(),
            outstanding: Cell::new(0),
            held_files: Cell::new(0),
        };
        Ok(Ring {
            shared: Rc::new(shared),
        })
    }

    /// A new consumer of completions.
    pub fn handler(&self) -> Handler {
        let inbox = Rc::new(RefCell::new(Inbox::with_capacity(INBOX)));
        let mut inboxes = self.shared.inboxes.borrow_mut();
        inboxes.push(inbox.clone());
        let number = inboxes.len() as u64;
        assert!(number < NOBODY, "a thread has a handful of handlers");
        Handler {
            ring: self.clone(),
            number,
            inbox,
        }
    }

    /// Operations that were pushed and whose completion has not been seen.
    pub fn outstanding(&self) -> usize {
        self.shared.outstanding.get()
    }

    /// Submits what is queued, lets the kernel finish what it has, and hands completions to their
    /// handlers; true when there were any. No system call when there is nothing to do.
    pub fn submit_and_reap(&self) -> io::Result<bool> {
        self.shared.submit_and_reap()
    }

    /// Submits what is queued and waits for a completion, at most `timeout_ns`. Returns at once
    /// when nothing is outstanding and there is no timeout, since nothing could come.
    pub fn wait(&self, timeout_ns: Option<u64>) -> io::Result<()> {
        if self.shared.reap() || (self.outstanding() == 0 && timeout_ns.is_none()) {
            return Ok(());
        }
        self.shared.wait(timeout_ns)?;
        self.shared.reap();
        Ok(())
    }

    /// Runs one operation whose memory is in `keep`, which the ring holds until the completion,
    /// also when the future is dropped before. Gives the result and `keep` back.
    ///
    /// # Safety
    /// Everything that `sqe` points to must be owned by `keep`, at an address that does not change
    /// when `keep` is moved, and touched by nobody else until the completion.
    pub unsafe fn op<K: 'static>(
        &self,
        sqe: squeue::Entry,
        keep: K,
    ) -> impl Future<Output = (i32, K)> + use<K> {
        let (slot, flight) = self.shared.flights.borrow_mut().start(keep);
        self.shared.push(sqe, FLIGHTS, slot);
        flight
    }

    /// Puts a file in the ring's table and closes its descriptor. The kernel then closes the file,
    /// and drops a flock on it, only when the last operation of the ring has ended: also after a
    /// SIGKILL, which ends the process long before.
    pub fn hold_file(&self, file: OwnedFd) -> io::Result<()> {
        let slot = self.shared.held_files.get();
        if slot == HELD_FILES {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let uring = self.shared.uring.borrow();
        uring
            .submitter()
            .register_files_update(slot, &[file.as_raw_fd()])?;
        self.shared.held_files.set(slot + 1);
        Ok(())
    }
}

impl Handler {
    /// Queues a submission; `take` will give `payload` back with the result. When the queue is
    /// full it is submitted first.
    ///
    /// # Safety
    /// Memory named by `sqe` must live, and be touched by nobody else, until the completion was
    /// taken.
    pub unsafe fn push(&self, sqe: squeue::Entry, payload: u64) {
        debug_assert!(payload <= MAX_PAYLOAD);
        self.ring.shared.push(sqe, self.number, payload);
    }

    /// Adds the completions that have been reaped since the last call.
    pub fn take(&self, out: &mut Vec<(u64, i32, u32)>) {
        out.append(&mut self.inbox.borrow_mut());
    }

    /// Whether `take` would give something.
    pub fn has_completions(&self) -> bool {
        !self.inbox.borrow().is_empty()
    }

    /// As [`Ring::op`].
    ///
    /// # Safety
    /// As [`Ring::op`].
    pub unsafe fn op<K: 'static>(
        &self,
        sqe: squeue::Entry,
        keep: K,
    ) -> impl Future<Output = (i32, K)> + use<K> {
        // SAFETY: the caller promises what `Ring::op` asks for.
        unsafe { self.ring.op(sqe, keep) }
    }

    /// The ring that it belongs to.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }
}

impl Shared {
    fn push(&self, sqe: squeue::Entry, handler: u64, payload: u64) {
        let sqe = sqe.user_data(handler << PAYLOAD_BITS | payload);
        self.outstanding.set(self.outstanding.get() + 1);
        let mut uring = self.uring.borrow_mut();
        loop {
            // SAFETY: rule 1, which the two callers' own safety sections pass on.
            if unsafe { uring.submission().push(&sqe) }.is_ok() {
                return;
            }
            match uring.submit() {
                Ok(_) => {}
                // The kernel is short of memory, or wants completions to be taken first.
                Err(error) if is_passing(&error) => {
                    drop(uring);
                    self.reap();
                    uring = self.uring.borrow_mut();
                }
                Err(error) => panic!("io_uring refuses submissions: {error}"),
            }
        }
    }

    fn submit_and_reap(&self) -> io::Result<bool> {
        {
            let mut uring = self.uring.borrow_mut();
            let submissions = uring.submission();
            let queued = !submissions.is_empty();
            let kernel_waits = submissions.taskrun() || submissions.cq_overflow();
            drop(submissions);
            if queued || kernel_waits {
                match uring.submit() {
                    Err(error) if !is_passing(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(self.reap())
    }

    fn wait(&self, timeout_ns: Option<u64>) -> io::Result<()> {
        let mut uring = self.uring.borrow_mut();
        let waited = match timeout_ns {
            None => wait_as_idle(&mut uring),
            Some(ns) => {
                let time = types::Timespec::new()
                    .sec(ns / 1_000_000_000)
                    .nsec((ns % 1_000_000_000) as u32);
                let arguments = types::SubmitArgs::new().timespec(&time);
                uring.submitter().submit_with_args(1, &arguments)
            }
        };
        match waited {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            Err(error) if !is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Hands completions that are there to their handlers.
    fn reap(&self) -> bool {
        let mut any = false;
        loop {
            let Some(entry) = self.uring.borrow_mut().completion().next() else {
                return any;
            };
            any = true;
            if !io_uring::cqueue::more(entry.flags()) {
                self.outstanding.set(self.outstanding.get() - 1);
            }
            self.dispatch(entry.user_data(), entry.result(), entry.flags());
        }
    }

    fn dispatch(&self, user_data: u64, result: i32, flags: u32) {
        let payload = user_data & MAX_PAYLOAD;
        match user_data >> PAYLOAD_BITS {
            FLIGHTS => {
                let landed = self.flights.borrow_mut().land(payload, result);
                // Waking, and dropping memory, may run code that starts another operation.
                landed.finish();
            }
            NOBODY => {}
            number => {
                let inbox = self.inboxes.borrow()[number as usize - 1].clone();
                inbox.borrow_mut().push((payload, result, flags));
            }
        }
    }
}

impl Drop for Shared {
    /// Rule 2.
    fn drop(&mut self) {
        if self.outstanding.get() > 0 {
            let any = types::CancelBuilder::any();
            self.push(opcode::AsyncCancel2::new(any).build(), NOBODY, 0);
        }
        while self.outstanding.get() > 0 {
            if let Err(error) = self.wait(None) {
                panic!("io_uring cannot be waited for: {error}");
            }
            self.reap();
        }
    }
}

/// Flags of `io_uring_enter`, from `linux/io_uring.h`; the crate has no names for them.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// Submits and waits without being counted as waiting for a disk (kernel 6.15): otherwise the
/// processor that we sleep on wakes in a costlier way, and a hop between sleepers takes up to twice
/// as long.
fn wait_as_idle(uring: &mut IoUring) -> io::Result<usize> {
    if !uring.params().is_feature_no_iowait() {
        return uring.submit_and_wait(1);
    }
    let count = uring.submission().len() as u32;
    let flags = ENTER_GETEVENTS | ENTER_NO_IOWAIT;
    // SAFETY: the kernel knows both flags (its feature bit says so); no argument is passed, and
    // `count` entries are in the queue.
    unsafe {
        uring
            .submitter()
            .enter::<libc::sigset_t>(count, 1, flags, None)
    }
}

/// Whether trying again, after taking completions, helps.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)
    )
}

/// The ring with the best flags that this kernel has: DEFER_TASKRUN lets completions be worked off
/// only where we ask for them, instead of interrupting; the flags came with 5.19, 6.0 and 6.1.
fn build(entries: u32) -> io::Result<IoUring> {
    let entries = entries.clamp(8, 4096).next_power_of_two();
    let mut best = IoUring::builder();
    best.setup_cqsize(entries * 4)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all();
    let mut plain = IoUring::builder();
    plain.setup_cqsize(entries * 4);
    let refused = match best.build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => error,
        other => return other,
    };
    plain.build(entries).map_err(|_| refused)
}
