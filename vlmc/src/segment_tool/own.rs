//! Commands on a seat of the tool's own that serves: it binds ports, holds request slots, and
//! answers what others send, without doing anything.

use super::Place;
use super::words::Own;
use crate::failure::Failure;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use xseg::join::{self, Connection, Kind};
use xseg::protocol::PortNo;
use xseg::seat::PUBLIC;
use xseg::{Answer, Event, Incoming, Seat, Ticket};

/// The seat, and what it has in hand.
pub(super) struct Counter {
    seat: Seat,
    connection: Connection,
    came: VecDeque<Incoming>,
    held: Vec<Ticket>,
}

pub(super) fn run(
    place: &Place,
    counter: &mut Option<Counter>,
    command: &Own,
) -> Result<(), Failure> {
    let counter = match counter {
        Some(counter) => counter,
        None => counter.insert(Counter::new(place)?),
    };
    match *command {
        Own::Bind(port) => counter.bind(port),
        Own::Free(port) => counter.free(port),
        Own::Alloc(count) => counter.alloc(count),
        Own::FreeRequests(count) => counter.free_requests(count),
        Own::Answer { count, fails } => (0..count).try_for_each(|_| counter.answer(fails)),
    }
}

impl Counter {
    fn new(place: &Place) -> Result<Counter, Failure> {
        let joined = join::connect(&place.socket(), Kind::Client { name: "xseg" })
            .map_err(|e| Failure::new(format!("cannot join segment! {e}")))?;
        Ok(Counter {
            seat: joined.seat,
            connection: joined.connection,
            came: VecDeque::new(),
            held: Vec::new(),
        })
    }

    /// Only a port that nobody serves: its peer would never hear of its requests again.
    fn bind(&mut self, port: PortNo) -> Result<(), Failure> {
        let segment = self.seat.segment(PUBLIC);
        if let Some(seat) = segment.and_then(|segment| segment.seat_of_port(port)) {
            let why = format!("cannot bind port {port}: seat {} serves it", seat.0);
            return Err(Failure::new(why));
        }
        match self.seat.bind(port, port) {
            true => Ok(()),
            false => Err(Failure::new(format!("the segment has no port {port}"))),
        }
    }

    fn free(&mut self, port: PortNo) -> Result<(), Failure> {
        match self.seat.unbind(port) {
            true => Ok(()),
            false => Err(Failure::new(format!("port {port} is not bound here"))),
        }
    }

    fn alloc(&mut self, count: u64) -> Result<(), Failure> {
        for taken in 0..count {
            let ticket = self.seat.claim(PUBLIC).ok_or_else(|| {
                Failure::new(format!("only {taken} of {count} requests are free"))
            })?;
            self.held.push(ticket);
        }
        Ok(())
    }

    fn free_requests(&mut self, count: u64) -> Result<(), Failure> {
        for freed in 0..count {
            let ticket = self.held.pop().ok_or_else(|| {
                Failure::new(format!("only {freed} of {count} requests were allocated"))
            })?;
            self.seat.release(ticket);
        }
        Ok(())
    }

    /// Waits for a request, and answers it.
    fn answer(&mut self, fails: bool) -> Result<(), Failure> {
        let incoming = self.next()?;
        let answer = match self.seat.read(&incoming) {
            Ok(request) if !fails => Answer::served(request.size),
            _ => Answer::failed(libc::EIO),
        };
        self.seat.answer(incoming, answer);
        Ok(())
    }

    fn next(&mut self) -> Result<Incoming, Failure> {
        let mut events = Vec::new();
        loop {
            if let Some(incoming) = self.came.pop_front() {
                return Ok(incoming);
            }
            self.seat.wake();
            self.seat.hush();
            self.seat.poll(&mut events);
            self.came
                .extend(events.drain(..).filter_map(|event| match event {
                    Event::Request(incoming) => Some(incoming),
                    Event::Reply(..) => None,
                }));
            if self.came.is_empty() && self.seat.doze() {
                self.sleep()?;
            }
        }
    }

    fn sleep(&self) -> Result<(), Failure> {
        let bell = self.seat.bells().descriptor(self.seat.no());
        let bell = bell.ok_or_else(|| Failure::new("the segment has no bells"))?;
        let mut fds = [
            PollFd::new(bell, PollFlags::POLLIN),
            PollFd::new(self.connection.descriptor(), PollFlags::POLLIN),
        ];
        // EINTR: look again.
        let _ = poll(&mut fds, PollTimeout::NONE);
        match self.connection.is_up() {
            true => Ok(()),
            false => Err(Failure::new("the segment's holder went away")),
        }
    }
}
