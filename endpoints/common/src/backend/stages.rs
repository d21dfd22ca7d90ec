//! The stages of a backend's life, and its own errands at the node.
//!
//! ```text
//!            +-- node gone -----------------------------+
//!            v                                          |
//!         Joining --joined--> Reopening --opened--> Running <--flush failed--+
//!            ^                    |                     |                    |
//!          thaw                 taken               freeze, finish           |
//!            |                    v                     v                    |
//!            +------------------ Failed             Draining -> Flushing ----+
//!            |                                                     v
//!            +---------------- Frozen <--freeze-- Closing --finish--> Over
//! ```
//! An order is begun only in Running, Joining, Frozen and Failed; others wait for that.
//!
//! What drains may wait for another node to close the volume. So after a while it is closed here
//! with its operations still under way: the node finishes those that can be, and answers EBUSY for
//! those that wait for a lock. A freeze takes these back; they are sent again after the thaw.

use super::line::Fate;
use super::orders::Order;
use super::{Backend, State, event, gone};
use crate::error::{Error, ErrorKind};
use client::Done;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::time::{Duration, Instant};
use xseg::Request;
use xseg::protocol::Operation;

/// The token of the errand.
pub(super) const ERRAND: u64 = u64::MAX;
/// How often a node that is away is looked for.
const AWAY: Duration = Duration::from_millis(100);
/// How long operations may take to drain before those that wait for a lock are given up.
const DRAIN: Duration = Duration::from_secs(1);

/// Why the volume is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Freeze,
    Finish,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Joining,
    Reopening,
    Running,
    Draining(End),
    Flushing(End),
    Closing(End),
    Frozen,
    Failed,
    Over,
}

impl Stage {
    pub(super) fn is_running(self) -> bool {
        self == Stage::Running
    }

    fn state(self) -> State {
        match self {
            Stage::Frozen => State::Frozen,
            Stage::Failed => State::Failed,
            Stage::Over => State::Over,
            Stage::Joining | Stage::Reopening => State::Waiting,
            Stage::Draining(End::Freeze)
            | Stage::Flushing(End::Freeze)
            | Stage::Closing(End::Freeze) => State::Freezing,
            _ => State::Running,
        }
    }
}

/// A request of the backend's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand {
    operation: Operation,
    sent: bool,
}

impl Backend {
    fn enter(&mut self, stage: Stage) {
        tracing::debug!(from = ?self.stage, to = ?stage, "stage");
        self.stage = stage;
        self.shared.set_state(stage.state());
    }

    /// Joins and asks for the size, for the first time: what fails now is told, not waited out.
    pub(super) fn first_time(&mut self) -> Result<(), Error> {
        self.line
            .join()
            .map_err(|e| Error::new(ErrorKind::NotRunning, e.to_string()))?;
        self.watch_line();
        self.enter(Stage::Reopening);
        self.errand = Some(Errand {
            operation: Operation::Info,
            sent: false,
        });
        let (reply, end) = std::sync::mpsc::channel();
        self.reply = Some(reply);
        while self.stage == Stage::Reopening {
            self.advance();
            if self.errand.is_some_and(|errand| !errand.sent) {
                return Err(gone(&self.volume, libc::ENXIO));
            }
            if self.stage == Stage::Reopening {
                self.wait();
            }
        }
        end.try_recv()
            .unwrap_or_else(|_| Err(gone(&self.volume, libc::ENXIO)))
    }

    /// The first stage of a backend that follows another.
    pub(super) fn resume_as(&mut self, frozen: bool) {
        let stage = if frozen {
            Stage::Frozen
        } else {
            Stage::Joining
        };
        self.enter(stage);
        self.advance();
    }

    /// What a volume is asked first at a node that came back.
    fn first_errand(&self) -> Operation {
        match self.wrote && !self.size_is_old {
            true => Operation::Open,
            false => Operation::Info,
        }
    }

    /// Does whatever can be done now.
    pub(super) fn advance(&mut self) {
        loop {
            let before = self.stage;
            match self.stage {
                Stage::Joining => self.try_join(),
                Stage::Running => self.pump(),
                Stage::Failed => self.fail_queue(),
                Stage::Draining(end) => self.drain(end),
                _ => {}
            }
            self.next_order();
            self.run_errand();
            if self.stage == before {
                return;
            }
        }
    }

    fn next_order(&mut self) {
        let steady = match self.stage {
            Stage::Running | Stage::Frozen | Stage::Failed => self.errand.is_none(),
            Stage::Joining => true,
            _ => false,
        };
        if !steady {
            return;
        }
        let Some((order, reply)) = self.shared.next() else {
            return;
        };
        tracing::info!(?order, stage = ?self.stage, "order");
        // Who waited for a thaw that another order ends hears that it was given up.
        self.reply = Some(reply);
        match (order, self.stage) {
            (Order::Freeze, Stage::Running) => self.start_draining(End::Freeze),
            (Order::Freeze, _) => self.stop_at(Stage::Frozen, Ok(())),
            (Order::Thaw, Stage::Running) => self.tell(Ok(())),
            (Order::Thaw, _) => self.start_joining(),
            (Order::Resize, Stage::Running) => self.set_errand(Operation::Info),
            (Order::Resize, _) => self.tell(Err(self.away())),
            (Order::Finish, Stage::Running) => self.start_draining(End::Finish),
            (Order::Finish, Stage::Failed) => self.stop_at(Stage::Over, Ok(())),
            (Order::Finish, _) => self.stop_at(Stage::Over, Err(self.away())),
        }
    }

    fn away(&self) -> Error {
        gone(&self.volume, libc::ENXIO)
    }

    fn tell(&mut self, end: Result<(), Error>) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have gone.
            let _ = reply.send(end);
        }
    }

    fn stop_at(&mut self, stage: Stage, end: Result<(), Error>) {
        self.leave();
        self.enter(stage);
        self.tell(end);
    }

    fn leave(&mut self) {
        self.unwatch_line();
        self.line.leave();
        self.errand = None;
        self.orphan = false;
    }

    // ---- coming ----

    fn start_joining(&mut self) {
        self.leave();
        self.enter(Stage::Joining);
    }

    fn try_join(&mut self) {
        if self.timer_set {
            return;
        }
        match self.line.join() {
            Ok(()) => {
                self.watch_line();
                self.enter(Stage::Reopening);
                self.set_errand(self.first_errand());
            }
            Err(why) => {
                tracing::debug!(%why, "no node yet");
                self.look_again(AWAY);
            }
        }
    }

    fn opened(&mut self, result: Result<u64, i32>) {
        match result {
            Ok(_) if self.size_is_old && self.wrote => {
                self.size_is_old = false;
                self.set_errand(Operation::Open);
            }
            Ok(_) => {
                self.size_is_old = false;
                self.lock_lost = false;
                tracing::info!("the volume is there");
                self.is_first = false;
                self.enter(Stage::Running);
                self.tell(Ok(()));
            }
            Err(errno) if self.is_first || is_final(errno) => {
                let why = gone(&self.volume, errno);
                tracing::error!("{why}: every request fails from now on");
                self.stop_at(Stage::Failed, Err(why));
            }
            Err(errno) => {
                tracing::warn!(errno, "the volume can't be opened yet");
                self.set_errand(self.first_errand());
                self.look_again(AWAY);
            }
        }
    }

    // ---- going ----

    fn start_draining(&mut self, end: End) {
        self.enter(Stage::Draining(end));
        self.drain_until = Some(Instant::now() + DRAIN);
        self.drain_failed = None;
    }

    fn drain(&mut self, end: End) {
        if self.errand.is_some() {
            return;
        }
        if self.is_quiet() {
            return match self.drain_failed.take() {
                None => self.close(end),
                Some(errno) => self.flushed(end, Err(errno)),
            };
        }
        match self
            .drain_until
            .map(|until| until.saturating_duration_since(Instant::now()))
        {
            Some(Duration::ZERO) => {
                self.drain_until = None;
                self.set_errand(Operation::Close);
            }
            Some(left) => self.look_again(left),
            None => {}
        }
    }

    fn close(&mut self, end: End) {
        if self.wrote {
            self.enter(Stage::Flushing(end));
            self.set_errand(Operation::Flush);
        } else {
            self.enter(Stage::Closing(end));
            self.set_errand(Operation::Close);
        }
    }

    fn flushed(&mut self, end: End, result: Result<u64, i32>) {
        if let Err(errno) = result {
            let why = gone(&self.volume, errno);
            tracing::error!("the flush failed: {why}");
            let why = Error::new(why.kind, format!("{why}: not everything is on disk"));
            self.tell(Err(why));
            if end == End::Freeze {
                return self.enter(Stage::Running);
            }
        }
        self.enter(Stage::Closing(end));
        self.set_errand(Operation::Close);
    }

    fn closed(&mut self, end: End, result: Result<u64, i32>) {
        // A volume that was only read, or is closed already, is not held: its CLOSE fails, and that
        // is right.
        if let (Err(errno), true) = (result, self.wrote)
            && errno != libc::EINVAL
        {
            tracing::warn!(errno, "the volume was not closed: its lock may remain");
        }
        match end {
            End::Freeze => self.stop_at(Stage::Frozen, Ok(())),
            End::Finish => self.stop_at(Stage::Over, Ok(())),
        }
    }

    // ---- errands ----

    fn set_errand(&mut self, operation: Operation) {
        self.errand = Some(Errand {
            operation,
            sent: false,
        });
    }

    fn run_errand(&mut self) {
        let Some(errand) = self.errand.filter(|errand| !errand.sent && !self.timer_set) else {
            return;
        };
        let Some(core) = self.line.core() else { return };
        let (port, room) = match errand.operation {
            Operation::Info => (self.volume.ports.mapperd, 8),
            _ => (self.volume.ports.vlmcd, 0),
        };
        let data = match room {
            0 => None,
            room => core.take_buffer(room),
        };
        if room > 0 && data.is_none() {
            return self.look_again(AWAY);
        }
        let request = self
            .volume
            .hinted(Request::new(errand.operation, self.volume.name));
        match core.submit(port, &request, data, ERRAND) {
            Ok(()) => {
                self.errand = Some(Errand {
                    sent: true,
                    ..errand
                })
            }
            Err((_, data)) => {
                data.iter().for_each(|buffer| core.give_buffer_back(buffer));
                self.look_again(AWAY);
            }
        }
    }

    pub(super) fn errand_done(&mut self, done: Done) {
        let mut result = done.answer.result();
        let Some(errand) = self.errand.take() else {
            return;
        };
        if errand.operation == Operation::Info {
            result = result.and_then(|_| size_of(&done).ok_or(libc::EIO));
            if let Ok(size) = result {
                self.shared.set_size(size);
            }
        }
        if let Some(core) = self.line.core() {
            for buffer in done.data.iter().chain(&done.larger) {
                core.give_buffer_back(buffer);
            }
        }
        match self.stage {
            Stage::Reopening => self.opened(result),
            Stage::Flushing(end) => self.flushed(end, result),
            Stage::Closing(end) => self.closed(end, result),
            // EINVAL: it was not open, and there was nothing to flush.
            Stage::Draining(_) => self.drain_failed = result.err().filter(|e| *e != libc::EINVAL),
            _ => self.tell(result.map(drop).map_err(|errno| gone(&self.volume, errno))),
        }
    }

    // ---- the line ----

    fn watch_line(&mut self) {
        let bell = EpollEvent::new(EpollFlags::EPOLLIN, event::BELL);
        let holder = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, event::HOLDER);
        let watched = [(self.line.bell(), bell), (self.line.connection(), holder)];
        for (descriptor, what) in watched {
            let Some(descriptor) = descriptor else {
                continue;
            };
            if let Err(why) = self.events.add(descriptor, what) {
                tracing::error!(%why, "can't watch the node");
            }
        }
        self.orphan = false;
    }

    fn unwatch_line(&mut self) {
        self.rouse();
        for descriptor in [self.line.bell(), self.line.connection()]
            .into_iter()
            .flatten()
        {
            // It may have been removed when its holder went away.
            let _ = self.events.delete(descriptor);
        }
    }

    pub(super) fn look_after_holder(&mut self) {
        if !self.orphan {
            self.unwatch_line();
        }
        match self.line.fate() {
            Fate::Same if self.line.connection().is_some() => {
                tracing::info!("the segment's holder is there");
                self.watch_line();
            }
            Fate::Same => {}
            Fate::Orphan => self.become_orphan(),
            Fate::Void => self.lose(),
        }
    }

    /// The holder is away: its peers may go on, so we do; and we look for its successor.
    fn become_orphan(&mut self) {
        if !std::mem::replace(&mut self.orphan, true) {
            tracing::warn!("the segment's holder went away; waiting for another");
            let bell = EpollEvent::new(EpollFlags::EPOLLIN, event::BELL);
            if let Some(descriptor) = self.line.bell()
                && let Err(why) = self.events.add(descriptor, bell)
            {
                tracing::error!(%why, "can't watch the bell");
            }
        }
        self.look_again(AWAY);
    }

    /// The segment is another one now.
    fn lose(&mut self) {
        tracing::warn!("the node is a new one: what the old one left unanswered is sent again");
        self.recall();
        match self.stage {
            Stage::Draining(End::Freeze)
            | Stage::Flushing(End::Freeze)
            | Stage::Closing(End::Freeze) => self.stop_at(Stage::Frozen, Ok(())),
            Stage::Draining(End::Finish)
            | Stage::Flushing(End::Finish)
            | Stage::Closing(End::Finish) => self.stop_at(Stage::Over, Err(self.away())),
            Stage::Running | Stage::Reopening => {
                let order = self.reply.take().filter(|_| self.stage == Stage::Reopening);
                self.start_joining();
                self.reply = order;
            }
            _ => {}
        }
    }
}

/// Whether trying again would change nothing: the volume is gone, or somebody else's.
fn is_final(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENOENT | libc::EBUSY | libc::ESTALE | libc::EROFS
    )
}

fn size_of(done: &Done) -> Option<u64> {
    let bytes = done.reply()?.to_vec();
    Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
}
