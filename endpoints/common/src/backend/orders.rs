//! Orders to a backend from other threads: freeze, thaw, resize, finish.

use crate::error::{Error, ErrorKind};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a backend is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Send nothing more, await what is under way, flush, close the volume, leave the segment.
    Freeze,
    /// Join again and go on.
    Thaw,
    /// Ask for the volume's size.
    Resize,
    /// As `Freeze`, for ever.
    Finish,
}

/// What a backend is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// It serves.
    Running = 0,
    /// It holds nothing of the node; requests wait.
    Frozen = 1,
    /// The volume is somebody else's now, or gone: every request fails.
    Failed = 2,
    /// Its node is away: requests wait for it to come back.
    Waiting = 3,
    /// It has finished.
    Over = 4,
    /// It is about to be frozen; what the node has of it is waited for.
    Freezing = 5,
}

impl State {
    fn from_number(number: u8) -> State {
        let all = [
            State::Running,
            State::Frozen,
            State::Failed,
            State::Waiting,
            State::Freezing,
        ];
        let found = all.into_iter().find(|s| *s as u8 == number);
        found.unwrap_or(State::Over)
    }

    /// The word for it in the registry; a device whose node is away counts as running.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running | State::Waiting => "running",
            State::Frozen => "frozen",
            State::Freezing => "freezing",
            State::Failed => "failed",
            State::Over => "over",
        }
    }
}

pub(super) type Reply = Sender<Result<(), Error>>;

pub(super) struct Shared {
    /// `None`: the backend is gone.
    waiting: Mutex<Option<VecDeque<(Order, Reply)>>>,
    /// Something may be waiting: spares the lock where there is nothing.
    asked: AtomicBool,
    bell: EventFd,
    state: AtomicU8,
    size: AtomicU64,
    wrote: AtomicBool,
    on_first_write: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Shared {
    pub(super) fn new(size: u64) -> io::Result<Arc<Shared>> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Arc::new(Shared {
            waiting: Mutex::new(Some(VecDeque::new())),
            asked: AtomicBool::new(false),
            bell: EventFd::from_value_and_flags(0, flags)?,
            state: AtomicU8::new(State::Running as u8),
            size: AtomicU64::new(size),
            wrote: AtomicBool::new(false),
            on_first_write: OnceLock::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<(Order, Reply)>>> {
        // Nothing is done under the lock that could leave the queue half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(super) fn hush(&self) {
        // EAGAIN: it was not ringing.
        let _ = self.bell.read();
    }

    pub(super) fn next(&self) -> Option<(Order, Reply)> {
        if !self.asked.load(Ordering::Acquire) {
            return None;
        }
        let mut waiting = self.lock();
        let waiting = waiting.as_mut()?;
        let first = waiting.pop_front();
        self.asked.store(!waiting.is_empty(), Ordering::Release);
        first
    }

    pub(super) fn state(&self) -> State {
        State::from_number(self.state.load(Ordering::Acquire))
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The volume will be written to.
    pub(super) fn note_write(&self) {
        // Pairs with the loads after the hook is set: one of both sees the other.
        self.wrote.store(true, Ordering::SeqCst);
        if let Some(tell) = self.on_first_write.get() {
            tell();
        }
    }

    pub(super) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.set_state(State::Over);
        // Dropping the replies ends whoever waits for them.
        self.lock().take();
    }
}

/// Steers a backend from any thread.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

impl Handle {
    /// Gives an order and waits for its end.
    pub fn order(&self, order: Order) -> Result<(), Error> {
        let (reply, end) = channel();
        match self.0.lock().as_mut() {
            Some(waiting) => {
                waiting.push_back((order, reply));
                self.0.asked.store(true, Ordering::Release);
            }
            None => return Err(over()),
        }
        // A full counter means that the bell is ringing already.
        let _ = self.0.bell.write(1);
        end.recv().unwrap_or_else(|_| Err(over()))
    }

    /// What the backend is now.
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Bytes of the volume, as last asked.
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// Whether the volume was written to.
    pub fn wrote(&self) -> bool {
        self.0.wrote.load(Ordering::SeqCst)
    }

    /// Calls `tell` before the volume is written to for the first time from now on. To be given
    /// once.
    pub fn on_first_write(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.on_first_write.set(Box::new(tell));
    }
}

fn over() -> Error {
    Error::new(ErrorKind::Refused, "the device has been taken down")
}
