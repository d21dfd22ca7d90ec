//! The loop: one thread, one ring, one backend, many connections.
//!
//! ```text
//! turn: kernel's news -> stalled sessions -> backend's completions -> arm receives and sends
//!       something happened? submit, next turn.  Nothing? spin while the backend works, then sleep.
//! ```
//! Always true: a connection has at most one receive and one send in the ring, and lives until both
//! have completed and the backend has completed all its operations; so no completion ever names a
//! connection that is gone, and an index is reused only when nothing can name it.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Instant;

use crate::connection::Connection;
use crate::control::Shared;
use crate::export::{Done, Export, Turn};
use crate::ring::{News, Ring, Tag};
use crate::server::{Options, Summary};
use crate::session::{Limits, Scene, Session};

/// Entries of the ring; two per connection are in use at most, more are flushed in between.
const RING_ENTRIES: u32 = 256;
/// Looks at the backend between two offers of the cpu to others; about a microsecond.
const POLLS_PER_YIELD: u32 = 32;

/// What the ring holds for the listening socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepting {
    Nothing,
    Accept,
    /// The pause after a failed accept.
    Pause,
}

pub(crate) struct EventLoop<E: Export> {
    ring: Ring,
    listener: UnixListener,
    export: E,
    options: Options,
    shared: Arc<Shared>,
    connections: Vec<Option<Box<Connection>>>,
    count: u32,
    accepting: Accepting,
    frozen: bool,
    settled: bool,
    stopping: bool,
    grace_over: bool,
    done: Vec<Done>,
    summary: Summary,
}

impl<E: Export> EventLoop<E> {
    pub(crate) fn new(
        listener: UnixListener,
        export: E,
        options: Options,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let mut ring = Ring::new(RING_ENTRIES, options.grace)?;
        ring.watch(shared.wake_fd(), Tag::Control);
        if let Some(fd) = export.event_fd() {
            ring.watch(fd, Tag::Event);
        }
        Ok(Self {
            ring,
            listener,
            export,
            shared,
            connections: (0..options.connections_max).map(|_| None).collect(),
            options,
            count: 0,
            accepting: Accepting::Nothing,
            frozen: false,
            settled: false,
            stopping: false,
            grace_over: false,
            done: Vec::with_capacity(256),
            summary: Summary::default(),
        })
    }

    pub(crate) fn run(mut self) -> io::Result<Summary> {
        while !self.is_over() {
            let mut busy = self.take_news();
            self.take_orders();
            self.advance_stalled();
            busy |= self.take_completions();
            self.arm();
            self.rest(busy)?;
        }
        self.summary.abandoned = self.at_backend();
        Ok(self.summary)
    }

    fn is_over(&self) -> bool {
        self.stopping && !self.is_in_kernel() && (self.count == 0 || self.grace_over)
    }

    fn is_in_kernel(&self) -> bool {
        let mut all = self.connections.iter().flatten();
        self.accepting == Accepting::Accept
            || all.any(|connection| connection.receiving || connection.sending)
    }

    fn at_backend(&self) -> usize {
        let all = self.connections.iter().flatten();
        all.map(|connection| connection.session.at_backend()).sum()
    }

    /// Everything the kernel has finished.
    fn take_news(&mut self) -> bool {
        let mut any = false;
        while let Some(news) = self.ring.next() {
            any = true;
            match news.tag {
                Tag::Accept => self.accepted(news.result),
                Tag::AcceptPause => self.accepting = Accepting::Nothing,
                Tag::Recv(index) => self.received(index, news.result),
                Tag::Send(index) => self.sent(index, news.result),
                Tag::Event => self.event(news),
                Tag::Control if !news.more => self.ring.watch(self.shared.wake_fd(), Tag::Control),
                Tag::Control => {}
                Tag::Grace => self.end_grace(),
            }
        }
        any
    }

    fn event(&mut self, news: News) {
        self.export.woken();
        if !news.more
            && let Some(fd) = self.export.event_fd()
        {
            self.ring.watch(fd, Tag::Event);
        }
    }

    fn accepted(&mut self, result: i32) {
        self.accepting = Accepting::Nothing;
        if result < 0 {
            return self.accept_failed(io::Error::from_raw_os_error(-result));
        }
        // SAFETY: a successful accept returns a new descriptor that nobody else owns.
        let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(result) });
        let free = self.connections.iter().position(Option::is_none);
        let index = free.expect("accepts are armed only while a place is free");
        let connection = Connection::new(socket, index as u32, self.limits());
        let client = connection.client();
        tracing::debug!(session = index, pid = client.pid, "client connected");
        self.shared.came(index as u32, client);
        self.count += 1;
        self.summary.connections += 1;
        self.connections[index] = Some(Box::new(connection));
    }

    /// Descriptors have run out, most likely; at a stop, the shut listener fails too.
    fn accept_failed(&mut self, error: io::Error) {
        if !self.stopping {
            tracing::warn!("no connection could be accepted: {error}");
            self.accepting = Accepting::Pause;
            self.ring.pause_accept();
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            in_flight_max: self.options.in_flight_max,
            in_flight_bytes_max: self.options.in_flight_bytes_max,
            read_ahead_bytes: self.options.read_ahead_bytes,
        }
    }

    fn received(&mut self, index: u32, result: i32) {
        let connection = connection(&mut self.connections, index);
        connection.receiving = false;
        match usize::try_from(result) {
            Ok(count) => connection.session.received(count, &mut self.export),
            Err(_) => connection.session.kill("the socket can't be read"),
        }
        self.advance(index);
    }

    fn sent(&mut self, index: u32, result: i32) {
        let connection = connection(&mut self.connections, index);
        connection.sending = false;
        match usize::try_from(result) {
            _ if connection.session.is_dead() => {}
            Ok(count) => connection.session.sent(count, &mut self.export),
            Err(_) => connection.session.kill("the client is gone"),
        }
    }

    fn advance(&mut self, index: u32) {
        let scene = Scene {
            frozen: self.frozen,
            description: &self.options.description,
        };
        let connection = connection(&mut self.connections, index);
        connection.session.advance(&mut self.export, &scene);
        if !connection.attached && connection.session.is_transmitting() {
            connection.attached = true;
            self.shared.attached(index);
        }
    }

    fn advance_stalled(&mut self) {
        for index in 0..self.connections.len() {
            let stalled = self.connections[index]
                .as_ref()
                .is_some_and(|connection| connection.session.is_stalled());
            if stalled {
                self.advance(index as u32);
            }
        }
    }

    /// What the handle and the backend want.
    fn take_orders(&mut self) {
        let turn = self.export.turn();
        self.frozen = turn == Turn::Freeze || self.shared.wants_freeze();
        let settled = self.frozen && self.at_backend() == 0;
        if settled != self.settled {
            self.settled = settled;
            self.shared.set_settled(settled);
        }
        if !self.stopping && (turn == Turn::Stop || self.shared.wants_stop()) {
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.shut_listener();
        self.ring.start_grace();
        for connection in self.connections.iter_mut().flatten() {
            connection.session.finish();
        }
    }

    /// Ends the accept in the ring, and refuses clients from now on.
    fn shut_listener(&self) {
        let how = nix::sys::socket::Shutdown::Both;
        if let Err(error) = nix::sys::socket::shutdown(self.listener.as_raw_fd(), how) {
            tracing::warn!("the listening socket can't be shut: {error}");
        }
    }

    fn end_grace(&mut self) {
        self.grace_over = true;
        for connection in self.connections.iter_mut().flatten() {
            connection
                .session
                .kill("the server stops and the grace is over");
        }
    }

    /// Everything the backend has finished.
    fn take_completions(&mut self) -> bool {
        self.export.poll(&mut self.done);
        let any = !self.done.is_empty();
        for done in self.done.drain(..) {
            let (index, slot) = Session::parse_token(done.token);
            let session = &mut connection(&mut self.connections, index).session;
            session.completed(slot, done.result, &mut self.export);
        }
        any
    }

    /// Puts into the ring whatever each connection can do next, and closes those that are over.
    fn arm(&mut self) {
        let place = !self.stopping && self.count < self.options.connections_max;
        if place && self.accepting == Accepting::Nothing {
            self.accepting = Accepting::Accept;
            self.ring.accept(self.listener.as_raw_fd());
        }
        for index in 0..self.connections.len() {
            if let Some(connection) = &mut self.connections[index] {
                let over = connection.arm(index as u32, &mut self.ring, &mut self.export);
                if over {
                    self.close(index);
                }
            }
        }
    }

    fn close(&mut self, index: usize) {
        self.connections[index] = None;
        self.count -= 1;
        self.shared.left(index as u32);
        tracing::debug!(session = index, "connection closed");
    }

    /// Hands entries to the kernel, and waits if there is nothing else to do: first by polling
    /// the backend, which spares both sides a wake-up, then asleep.
    fn rest(&mut self, busy: bool) -> io::Result<()> {
        self.ring.submit()?;
        if busy || self.ring.has_news() || self.is_over() || self.spin() {
            return Ok(());
        }
        match self.export.prepare_sleep() {
            true => self.ring.submit_and_sleep(),
            false => Ok(()),
        }
    }

    /// `true`: there is something to do. Only while the backend works on something, and with the
    /// cpu offered to others again and again: on a busy machine they may be the ones waited for.
    fn spin(&mut self) -> bool {
        if self.options.spin.is_zero() || self.at_backend() == 0 {
            return false;
        }
        let begin = Instant::now();
        while begin.elapsed() < self.options.spin {
            for _ in 0..POLLS_PER_YIELD {
                if self.take_completions() || self.ring.has_news() {
                    return true;
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
        false
    }
}

impl<E: Export> Drop for EventLoop<E> {
    /// Nothing that the kernel may still write to is freed, also after a panic.
    fn drop(&mut self) {
        self.shut_listener();
        for connection in self.connections.iter_mut().flatten() {
            connection.shut(Shutdown::Both);
        }
        while self.is_in_kernel() && self.ring.submit_and_sleep().is_ok() {
            while let Some(news) = self.ring.next() {
                match news.tag {
                    Tag::Recv(index) => connection(&mut self.connections, index).receiving = false,
                    Tag::Send(index) => connection(&mut self.connections, index).sending = false,
                    Tag::Accept => self.accepting = Accepting::Nothing,
                    _ => {}
                }
            }
        }
    }
}

fn connection(connections: &mut [Option<Box<Connection>>], index: u32) -> &mut Connection {
    connections[index as usize]
        .as_mut()
        .expect("a connection outlives what names it")
}
