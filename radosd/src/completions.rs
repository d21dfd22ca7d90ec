//! From librados' threads to the reactor's: a queue without locks, and a bell.
//!
//! What holds: an event is pushed before the bell is looked at, and the reactor looks at the bell
//! before it takes events; so none is left lying while the reactor sleeps. The bell is an eventfd
//! that the ring polls; it is rung once for all events that come before the reactor takes them.

use crate::sys::Sink;
use crossbeam_queue::SegQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use reactor::{Handler, Ring, opcode, types};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What librados reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// An operation ended.
    Completed { token: u64, result: i32 },
    /// Somebody notified the watchers of an object.
    Notified { handle: u64, notify: u64 },
}

/// The side of librados' threads.
pub(crate) struct Mailbox {
    events: SegQueue<Event>,
    rung: AtomicBool,
    bell: EventFd,
}

impl Mailbox {
    fn push(&self, event: Event) {
        self.events.push(event);
        // Pairs with the swap in `Completions::take`: who finds it false rings.
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It refuses only when its counter is full, and then it is readable already.
            let _ = self.bell.write(1);
        }
    }
}

impl Sink for Mailbox {
    fn completed(&self, token: u64, result: i32) {
        self.push(Event::Completed { token, result });
    }

    fn notified(&self, handle: u64, notify: u64) {
        self.push(Event::Notified { handle, notify });
    }
}

/// The reactor's side.
pub(crate) struct Completions {
    mailbox: Arc<Mailbox>,
    handler: Handler,
    rings: Vec<(u64, i32, u32)>,
}

/// IORING_CQE_F_MORE: the poll stays armed.
const MORE: u32 = 1 << 1;

impl Completions {
    pub(crate) fn new(ring: &Ring) -> io::Result<Completions> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let completions = Completions {
            mailbox: Arc::new(Mailbox {
                events: SegQueue::new(),
                rung: AtomicBool::new(false),
                bell,
            }),
            handler: ring.handler(),
            rings: Vec::new(),
        };
        completions.listen();
        Ok(completions)
    }

    /// What librados is to report to.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    fn listen(&self) {
        let fd = types::Fd(self.mailbox.bell.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .multi(true)
            .build();
        // SAFETY: a poll names no memory. The ring holds the file itself.
        unsafe { self.handler.push(poll, 0) };
    }

    /// Takes all events that have come.
    pub(crate) fn take(&mut self, events: &mut Vec<Event>) {
        self.handler.take(&mut self.rings);
        if self.rings.drain(..).any(|(_, _, flags)| flags & MORE == 0) {
            self.listen();
        }
        // Pairs with the swap in `push`: what is pushed after the last `pop` rings.
        self.mailbox.rung.swap(false, Ordering::AcqRel);
        while let Some(event) = self.mailbox.events.pop() {
            events.push(event);
        }
    }

    /// Waits until something was reported, at most `ns`: for an end that nobody turns the reactor
    /// for.
    pub(crate) fn wait(&self, ns: u64) -> io::Result<()> {
        self.handler.ring().wait(Some(ns))
    }
}
