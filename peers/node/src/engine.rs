//! The production loop: a host of peers on one ring.
//!
//! ```text
//!   +-> completions -> inboxes -> drivers -> timers -> tasks --+
//!   |                                                          | something happened
//!   +----------------------------------------------------------+
//!   |  nothing: stay awake a little (xseg::spin; docs/decisions/0007)
//!   |  still nothing: doze on every seat, then one wait for completions, bells, timers, signals
//!   +----------------------------------------------------------+
//! ```
//! What always holds: between the doze and the wait nothing is missed, because whoever pushes to
//! a dozing inbox rings its bell, and the bells are polled by the ring (edge-triggered, so that a
//! ring costs no read).

use reactor::{Handler, Reactor, opcode, types};
use runtime::{Desk, Host, Peer};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use xseg::join::Connection;
use xseg::spin::Spin;

/// Payload of the stop descriptor's completions; bells have their seat's.
const STOP: u64 = 1 << 32;
/// Payload of the holder's connection.
const HOLDER: u64 = 1 << 33;
/// How often a lost holder is looked for, ns.
const REATTACH_NS: u64 = 200_000_000;

/// A host and what drives it.
pub struct Engine {
    reactor: Reactor,
    host: Host,
    bells: Handler,
    watched: Vec<(u64, RawFd)>,
    stop: Option<OwnedFd>,
    connection: Option<Connection>,
    completions: Vec<(u64, i32, u32)>,
    /// While something is under way.
    busy: Spin,
    /// After the last answer: whoever got it may ask the next thing at once.
    idle: Spin,
    reattach_at: Option<u64>,
    served: bool,
    stopping: bool,
}

impl Engine {
    /// An engine without peers. `stop` (a signalfd or eventfd) becoming readable ends it.
    pub fn new(stop: Option<OwnedFd>) -> io::Result<Engine> {
        let reactor = Reactor::new(512)?;
        let host = Host::new(
            reactor.env.clone(),
            reactor.executor.clone(),
            reactor.timers.clone(),
        );
        let bells = reactor.ring.handler();
        let mut engine = Engine {
            reactor,
            host,
            bells,
            watched: Vec::new(),
            stop: None,
            connection: None,
            completions: Vec::new(),
            busy: Spin::default(),
            idle: Spin::default(),
            reattach_at: None,
            served: false,
            stopping: false,
        };
        if let Some(stop) = stop {
            engine.watch(STOP, stop.as_raw_fd());
            engine.stop = Some(stop);
        }
        Ok(engine)
    }

    /// Looks at most `looks_max` times for work before a sleep; 0: it does not stay awake at all.
    pub fn cap_spins(&mut self, looks_max: u32) {
        self.busy = Spin::capped(looks_max);
        self.idle = Spin::capped(looks_max);
    }

    /// The ring, the tasks and the timers, for what the peers are made of.
    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// Adds a peer at `desk`.
    pub fn add(&mut self, desk: Desk, peer: Box<dyn Peer>) {
        let bell = desk.with_seat(|seat| {
            let no = seat.no();
            seat.bells()
                .descriptor(no)
                .map(|fd| (u64::from(no.0), fd.as_raw_fd()))
        });
        if let Some((seat, fd)) = bell {
            self.watch(seat, fd);
        }
        self.host.add(desk, peer);
    }

    /// Keeps the connection to the segment's holder: while that is away the peers go on, and the
    /// next holder is offered the segment again.
    pub fn keep(&mut self, connection: Connection) {
        let fd = connection.descriptor().as_raw_fd();
        self.connection = Some(connection);
        self.watch(HOLDER, fd);
    }

    /// Polls `fd` until the engine ends: bells live in the desks' seats, which the host keeps,
    /// and `stop` in the engine, so the descriptors outlive the ring's interest in them.
    fn watch(&mut self, payload: u64, fd: RawFd) {
        self.watched.push((payload, fd));
        self.arm(payload, fd);
    }

    fn arm(&self, payload: u64, fd: RawFd) {
        let poll = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
            .multi(true)
            .build();
        // SAFETY: a poll names no memory.
        unsafe { self.bells.push(poll, payload) };
    }

    /// Serves until told to stop and everything is given back. `serving` is called once, when
    /// every peer has recovered.
    pub fn run(&mut self, mut serving: impl FnMut()) -> io::Result<()> {
        while !self.host.is_stopped() {
            let mut progress = self.reactor.ring.submit_and_reap()?;
            progress |= self.take_bells();
            progress |= self.host.turn();
            self.reattach();
            if let Some(sentence) = self.host.lost() {
                return Err(io::Error::other(sentence));
            }
            if !self.served && self.host.is_serving() {
                self.served = true;
                serving();
            }
            if progress || self.spin()? {
                continue;
            }
            self.sleep()?;
        }
        Ok(())
    }

    fn take_bells(&mut self) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        self.bells.take(&mut completions);
        let any = !completions.is_empty();
        for (payload, _, flags) in completions.drain(..) {
            if payload == HOLDER {
                self.holder_spoke();
                continue;
            }
            if flags & MORE == 0
                && let Some(&(_, fd)) = self.watched.iter().find(|(p, _)| *p == payload)
            {
                self.arm(payload, fd);
            }
            if payload == STOP && !self.stopping {
                self.stopping = true;
                self.host.stop();
            }
        }
        self.completions = completions;
        any
    }

    /// The holder sends nothing unasked: it is gone. Looks for the next one.
    fn holder_spoke(&mut self) {
        self.watched.retain(|(payload, _)| *payload != HOLDER);
        let Some(connection) = &self.connection else {
            return;
        };
        if !connection.is_up() && !self.stopping {
            tracing::warn!("the supervisor is gone; serving on, and looking for the next one");
            self.reattach_at = Some(self.reactor.env.clock.now_ns());
        }
    }

    fn reattach(&mut self) {
        let Some(at) = self.reattach_at else {
            return;
        };
        let now = self.reactor.env.clock.now_ns();
        if at > now {
            return;
        }
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if connection.reattach().is_ok() {
            self.reattach_at = None;
            self.keep(connection);
            return;
        }
        self.connection = Some(connection);
        let at = now + REATTACH_NS;
        self.reattach_at = Some(at);
        self.reactor
            .executor
            .spawn(self.reactor.timers.sleep_until(at));
    }

    /// Stays awake a little. True: something came.
    fn spin(&mut self) -> io::Result<bool> {
        let clock = self.reactor.env.clock.clone();
        let (ring, host) = (&self.reactor.ring, &self.host);
        let spin = match host.under_way() {
            true => &mut self.busy,
            false => &mut self.idle,
        };
        spin.until(
            || clock.now_ns(),
            || Ok(ring.submit_and_reap()? || host.has_mail()),
        )
    }

    fn sleep(&mut self) -> io::Result<()> {
        if !self.host.doze() {
            return Ok(());
        }
        let now = self.reactor.env.clock.now_ns();
        let timeout = self
            .host
            .next_deadline_ns()
            .map(|at| at.saturating_sub(now));
        let waited = match self.reactor.executor.has_ready() {
            true => Ok(()),
            false => self.reactor.ring.wait(timeout),
        };
        self.host.wake();
        waited
    }
}

/// IORING_CQE_F_MORE: the poll stays armed.
const MORE: u32 = 1 << 1;
