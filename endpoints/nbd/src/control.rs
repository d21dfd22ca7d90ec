//! Steering a running server from another thread or a signal handler, and seeing its clients.
//!
//! Always true: [`Handle::stop`], [`Handle::freeze`] and [`Handle::thaw`] only store a flag and
//! write an eventfd, so they may be called in a signal handler; the server reads the flags once a
//! turn. Everything else is behind a mutex that the server takes only when a client comes or goes
//! or a freeze settles, never on the path of a request.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A connected client, by the credentials that the kernel noted when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Process id, for display; 0 when it lives in another pid namespace.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The handshake is over: it uses the export. `false`: it is still asking.
    pub attached: bool,
}

/// Steers a server. Cheap to clone; it stays usable, without effect, after the server is gone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    stop: AtomicBool,
    freeze: AtomicBool,
    wake: EventFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    clients: Vec<(u32, Client)>,
    /// Frozen, and nothing is at the backend.
    settled: bool,
}

impl Handle {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            shared: Arc::new(Shared {
                stop: AtomicBool::new(false),
                freeze: AtomicBool::new(false),
                wake: EventFd::from_value_and_flags(0, flags)?,
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Stops accepting, answers what is in flight, closes, and lets [`crate::Server::run`] return.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
    }

    /// From the server's next turn on, no request goes to the backend and no buffer is taken;
    /// clients wait. [`Handle::wait_frozen`] tells when the backend has nothing left to do.
    pub fn freeze(&self) {
        self.shared.freeze.store(true, Ordering::Release);
        self.shared.wake();
    }

    /// Ends a [`Handle::freeze`]; the waiting requests go on in their order.
    pub fn thaw(&self) {
        self.shared.freeze.store(false, Ordering::Release);
        self.shared.wake();
    }

    /// Waits until the server is frozen and the backend has completed everything. `false`: that
    /// was not so within `timeout`.
    pub fn wait_frozen(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.settled)
    }

    /// Waits until exactly `count` clients are connected. `false`: not within `timeout`.
    pub fn wait_clients(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.clients.len() == count)
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&State) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The clients connected now, oldest first.
    pub fn clients(&self) -> Vec<Client> {
        self.shared
            .lock()
            .clients
            .iter()
            .map(|entry| entry.1)
            .collect()
    }
}

impl Shared {
    fn wake(&self) {
        // A full counter means that a wake-up is already on its way.
        let _ = self.wake.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake_fd(&self) -> RawFd {
        self.wake.as_fd().as_raw_fd()
    }

    pub(crate) fn wants_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn wants_freeze(&self) -> bool {
        self.freeze.load(Ordering::Acquire)
    }

    pub(crate) fn set_settled(&self, settled: bool) {
        self.lock().settled = settled;
        self.changed.notify_all();
    }

    pub(crate) fn came(&self, session: u32, client: Client) {
        self.lock().clients.push((session, client));
        self.changed.notify_all();
    }

    pub(crate) fn attached(&self, session: u32) {
        let mut state = self.lock();
        let client = state.clients.iter_mut().find(|entry| entry.0 == session);
        if let Some((_, client)) = client {
            client.attached = true;
        }
    }

    pub(crate) fn left(&self, session: u32) {
        self.lock().clients.retain(|entry| entry.0 != session);
        self.changed.notify_all();
    }
}
