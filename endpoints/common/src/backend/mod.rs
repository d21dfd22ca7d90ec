//! A volume for an event loop: operations go in, completions come out, nothing blocks.
//!
//! ```text
//!            submit                                   poll
//!  endpoint --------> queue --room?--> node --reply--> completions --> endpoint
//!                       ^               |
//!                       +---node gone---+
//! ```
//! What always holds:
//! - An operation is completed exactly once. While no node runs it waits; when one runs again it
//!   is sent again, in the order of submission, before anything newer.
//! - The endpoint's buffers stay where they are until it gives them back, whatever becomes of the
//!   node: at a new node another buffer stands for them, and bytes are copied.
//! - A FLUSH that is sent again is sent after everything that was submitted before it has been
//!   answered. What was answered by a node that is gone is in the kernel (or at RADOS) already,
//!   and the first FLUSH after a start makes all of that durable.
//! - The volume's lock is taken by the first write, not by the mapping: during a live migration
//!   both nodes have the volume mapped (spec/ganeti.md section 8). After a node was away, a
//!   volume that was written to is opened before anything is sent.
//!
//! | file | what it is |
//! |---|---|
//! | `flight` | the operations under way |
//! | `line` | the seat at the segment, and buffers |
//! | `orders` | what other threads ask for: [`Handle`] |
//! | `traffic` | sending and landing |
//! | `stages` | freezing, thawing, coming back |

mod flight;
mod line;
mod orders;
mod stages;
mod traffic;

use crate::error::{Error, ErrorKind};
use crate::keeper::Past;
use client::{Hint, Ports};
use flight::Flights;
use line::Line;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use orders::{Reply, Shared};
use stages::{Errand, Stage};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xseg::join::{Connection, JoinError};
use xseg::protocol::{V0_SIZE_UNKNOWN, flags};
use xseg::{Name, Request, Seat};

pub use line::{Buffer, Reserve};
pub use orders::{Handle, Order, State};

/// Takes a seat at the node: [`xseg::join::connect`] in a process of its own, a seat of the
/// embedded node in others.
pub type Joiner = Box<dyn FnMut() -> Result<(Seat, Option<Connection>), JoinError> + Send>;

/// Which volume, where.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// Its name.
    pub name: Name,
    /// What is known about an old map.
    pub hint: Hint,
    /// Where the peers serve.
    pub ports: Ports,
}

impl Volume {
    fn hinted(&self, request: Request) -> Request {
        if !self.hint.assume_v0 {
            return request;
        }
        Request {
            flags: request.flags | flags::ASSUME_V0,
            v0_size: self.hint.v0_size.unwrap_or(V0_SIZE_UNKNOWN),
            ..request
        }
    }
}

/// One operation; offsets and lengths are bytes inside the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Fills the first `len` bytes of the buffer.
    #[allow(missing_docs, reason = "told at the enum")]
    Read { offset: u64, len: u64 },
    /// Stores the first `len` bytes of the buffer; with `fua`, durably.
    #[allow(missing_docs, reason = "told at the enum")]
    Write { offset: u64, len: u64, fua: bool },
    /// Makes every write that was completed before durable.
    Flush,
    /// The range is no longer needed.
    #[allow(missing_docs, reason = "told at the enum")]
    Discard { offset: u64, len: u64 },
    /// The range reads as zeros from now on; with `fua`, durably.
    #[allow(missing_docs, reason = "told at the enum")]
    Zeroes { offset: u64, len: u64, fua: bool },
    /// Where data is, from `offset` on: [`Outcome::Map`], which may stop before `offset + len`.
    #[allow(missing_docs, reason = "told at the enum")]
    Map { offset: u64, len: u64 },
}

impl Op {
    /// Whether it changes the volume.
    pub fn is_change(&self) -> bool {
        matches!(
            self,
            Op::Write { .. } | Op::Discard { .. } | Op::Zeroes { .. }
        )
    }
}

/// A stretch of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Bytes.
    pub len: u64,
    /// It takes no room and reads as zeros.
    pub hole: bool,
}

/// What a successful operation brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// Of [`Op::Map`]: consecutive stretches.
    Map(Vec<Stretch>),
}

/// The end of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// As submitted.
    pub token: u64,
    /// What it brings, or an errno.
    pub result: Result<Outcome, i32>,
}

/// What in the epoll set fired.
mod event {
    pub(super) const BELL: u64 = 1;
    pub(super) const HOLDER: u64 = 2;
    pub(super) const TIMER: u64 = 3;
    pub(super) const ORDERS: u64 = 4;
}

/// A volume for an event loop. See the module's first lines.
pub struct Backend {
    volume: Volume,
    line: Line,
    stage: Stage,
    flights: Flights,
    /// What no node has, in the order in which it will be sent.
    queue: VecDeque<u32>,
    /// The backend's own request: opening, flushing, closing, asking for the size.
    errand: Option<Errand>,
    /// Whose end the errand or the stage is.
    reply: Option<Reply>,
    /// How long what drains may take.
    drain_until: Option<Instant>,
    /// Why the close of a volume that drains has failed.
    drain_failed: Option<i32>,
    done: Vec<client::Done>,
    completions: Vec<Completion>,
    /// The volume was written to since it was last closed.
    wrote: bool,
    /// The size is what another process knew.
    size_is_old: bool,
    /// The volume has not been seen yet: what fails is told, not waited out.
    is_first: bool,
    /// Its lock was broken, and that was said.
    lock_lost: bool,
    /// The holder is away; its peers may go on.
    orphan: bool,
    /// The bell may ring.
    dozing: bool,
    events: Epoll,
    timer: TimerFd,
    timer_set: bool,
    shared: Arc<Shared>,
}

impl Backend {
    /// Joins the node and asks for the volume's size, waiting for both. Buffers come from the
    /// `reserve`, unless it is empty: then from the segment, as long as it has some.
    ///
    /// # Errors
    /// `NotRunning`: no node, or its peers do not serve. `Volume`: there is none of that name.
    pub fn open(volume: Volume, joiner: Joiner, reserve: Reserve) -> Result<Backend, Error> {
        let mut backend = Backend::new(volume, joiner, reserve, 0)?;
        backend.first_time()?;
        Ok(backend)
    }

    /// Goes on where a backend of another process, which died, was. Waits for nothing: while no
    /// node runs, or until it is thawed, its operations wait.
    pub fn resume(
        volume: Volume,
        joiner: Joiner,
        reserve: Reserve,
        past: &Past,
    ) -> Result<Backend, Error> {
        let mut backend = Backend::new(volume, joiner, reserve, past.size)?;
        backend.is_first = false;
        backend.wrote = past.wrote;
        if past.wrote {
            backend.shared.note_write();
        }
        backend.size_is_old = true;
        backend.resume_as(past.frozen);
        Ok(backend)
    }

    fn new(volume: Volume, joiner: Joiner, reserve: Reserve, size: u64) -> Result<Backend, Error> {
        let what = "can't make the descriptors of an event loop";
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::system(what))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(Error::system(what))?;
        let shared = Shared::new(size).map_err(Error::system(what))?;
        let readable = |data| EpollEvent::new(EpollFlags::EPOLLIN, data);
        events
            .add(timer.as_fd(), readable(event::TIMER))
            .and_then(|()| events.add(shared.bell(), readable(event::ORDERS)))
            .map_err(Error::system(what))?;
        Ok(Backend {
            volume,
            line: Line::new(joiner, reserve),
            stage: Stage::Joining,
            flights: Flights::new(),
            queue: VecDeque::with_capacity(256),
            errand: None,
            reply: None,
            drain_until: None,
            drain_failed: None,
            done: Vec::with_capacity(256),
            completions: Vec::with_capacity(256),
            wrote: false,
            size_is_old: false,
            is_first: true,
            lock_lost: false,
            orphan: false,
            dozing: false,
            events,
            timer,
            timer_set: false,
            shared,
        })
    }

    /// Steers it.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Bytes of the volume, as last asked.
    pub fn size(&self) -> u64 {
        self.shared.size()
    }

    /// Its name.
    pub fn name(&self) -> Name {
        self.volume.name
    }

    /// What it is now.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Takes a buffer of at least `len` bytes; `None` when there is none now (also while frozen).
    pub fn take(&mut self, len: u64) -> Option<Buffer> {
        if matches!(self.stage, Stage::Frozen | Stage::Over) {
            return None;
        }
        let buffer = self.line.take(len);
        if buffer.is_none() {
            // Other clients give theirs back without a word.
            self.look_again(traffic::STARVED);
        }
        buffer
    }

    /// Gives a buffer back.
    pub fn give_back(&mut self, buffer: Buffer) {
        self.line.give_back(buffer);
    }

    /// Starts an operation. `data` (of reads and writes) is the backend's too until the
    /// completion.
    pub fn submit(&mut self, token: u64, op: Op, data: Option<&Buffer>) {
        let data = data.map(|buffer| (buffer.extent.clone(), buffer.epoch));
        let index = self.flights.add(token, op, data);
        if op.is_change() && !self.wrote {
            self.wrote = true;
            self.shared.note_write();
        }
        self.queue.push_back(index);
        self.advance();
    }

    /// Appends what was completed since the last call.
    pub fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.rouse();
        self.collect();
        completions.append(&mut self.completions);
    }

    /// Before a sleep. True: nothing is ready, and [`Backend::descriptor`] will be readable when
    /// something is. False: poll first.
    pub fn doze(&mut self) -> bool {
        if !self.completions.is_empty() {
            return false;
        }
        self.dozing = self.line.core().is_some_and(|core| core.doze());
        self.dozing || self.line.core().is_none()
    }

    /// A descriptor, the same for ever, that is readable when [`Backend::woken`] should be called.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.events.0.as_fd()
    }

    /// Looks at everything that may have woken us: also to be called now and then by a loop that
    /// never sleeps.
    pub fn woken(&mut self) {
        let mut fired = [EpollEvent::empty(); 8];
        // EINTR: the descriptor stays readable.
        let count = self.events.wait(&mut fired, PollTimeout::ZERO).unwrap_or(0);
        for one in &fired[..count] {
            match one.data() {
                event::BELL => self.rouse(),
                event::HOLDER => self.look_after_holder(),
                event::TIMER => self.tick(),
                _ => self.shared.hush(),
            }
        }
        self.advance();
    }

    fn rouse(&mut self) {
        if std::mem::take(&mut self.dozing)
            && let Some(core) = self.line.core()
        {
            core.wake();
        }
    }

    /// Looks again after `wait` at the latest.
    fn look_again(&mut self, wait: Duration) {
        if self.timer_set {
            return;
        }
        let once = Expiration::OneShot(TimeSpec::from_duration(wait));
        self.timer_set = self.timer.set(once, TimerSetTimeFlags::empty()).is_ok();
    }

    fn tick(&mut self) {
        self.timer_set = false;
        // EAGAIN: it was set anew meanwhile.
        let _ = nix::unistd::read(&self.timer, &mut [0; 8]);
        if self.orphan {
            self.look_after_holder();
        }
    }

    /// Waits until something happens, for the time before an event loop runs.
    fn wait(&mut self) {
        if self.doze() {
            // EINTR: look again.
            let mut fds = [PollFd::new(self.events.0.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            self.woken();
        }
        self.rouse();
        self.collect();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.end();
    }
}

fn gone(volume: &Volume, errno: i32) -> Error {
    let name = String::from_utf8_lossy(volume.name.as_bytes()).into_owned();
    let (kind, why) = match errno {
        libc::ENOENT => (ErrorKind::Volume, "there is no such volume"),
        libc::EBUSY | libc::ESTALE => (ErrorKind::Volume, "another node holds it"),
        libc::EROFS => (ErrorKind::Volume, "it is read-only now"),
        libc::ENXIO | libc::ENOTCONN => (ErrorKind::NotRunning, "the node does not run"),
        errno => (ErrorKind::Volume, nix::errno::Errno::from_raw(errno).desc()),
    };
    Error::new(kind, format!("volume \"{name}\": {why}"))
}
