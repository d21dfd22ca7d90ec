//! Requests under way on one seat, without waiting: the form that event loops use.
//!
//! What always holds: a request's data buffer belongs to the request from `submit` until its
//! [`Done`] hands it back; a reply that the server put into a larger buffer brings that one
//! besides. So no buffer is freed while something may still land in it.

use std::os::fd::BorrowedFd;
use xseg::protocol::PortNo;
use xseg::seat::PUBLIC;
use xseg::{Answer, Event, Extent, Request, Seat};

/// A finished request.
#[derive(Debug)]
pub struct Done {
    /// What its submitter called it.
    pub token: u64,
    /// What the server says.
    pub answer: Answer,
    /// The buffer that was submitted with it, the submitter's again.
    pub data: Option<Extent>,
    /// The buffer that the server's reply is in instead, the submitter's to free.
    pub larger: Option<Extent>,
}

impl Done {
    /// Where the reply's bytes are.
    pub fn reply(&self) -> Option<&Extent> {
        self.larger.as_ref().or(self.data.as_ref())
    }
}

struct Flight {
    token: u64,
    data: Option<Extent>,
}

/// A seat and what is under way on it.
pub struct Core {
    seat: Seat,
    flights: Vec<Option<Flight>>,
    under_way: usize,
    events: Vec<Event>,
}

impl Core {
    /// A core over a client's seat.
    pub fn new(seat: Seat) -> Core {
        let slots = seat.segment(PUBLIC).map_or(0, |s| s.layout().spec.slots);
        let flights = (0..slots).map(|_| None).collect();
        Core {
            seat,
            flights,
            under_way: 0,
            events: Vec::new(),
        }
    }

    /// How many requests are unanswered.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// The seat itself.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Gets up: what is under way keeps its buffers until it is answered, and nobody hears of it.
    pub fn into_seat(self) -> Seat {
        self.seat
    }

    /// Takes a data buffer of `len` bytes; `None` when none is free now.
    pub fn take_buffer(&mut self, len: u64) -> Option<Extent> {
        self.seat
            .take_buffer(PUBLIC, len.max(1))
            .and_then(|e| e.slice(0, len))
    }

    /// Gives a data buffer back.
    pub fn give_buffer_back(&mut self, buffer: &Extent) {
        self.seat.give_buffer_back(buffer.address());
    }

    /// Sends `request` with `data` to the peer at `port`. Err: EAGAIN when no slot is free now,
    /// ENXIO when no peer serves the port; the data comes back with it.
    pub fn submit(
        &mut self,
        port: PortNo,
        request: &Request,
        data: Option<Extent>,
        token: u64,
    ) -> Result<(), (i32, Option<Extent>)> {
        let Some(ticket) = self.seat.claim(PUBLIC) else {
            return Err((libc::EAGAIN, data));
        };
        let slot = ticket.id().slot.0 as usize;
        let (address, datalen) = data
            .as_ref()
            .map_or((Default::default(), 0), |d| (d.address(), d.len()));
        let request = Request {
            data: address,
            datalen,
            ..*request
        };
        self.flights[slot] = Some(Flight { token, data });
        match self.seat.submit(ticket, port, &request) {
            Ok(_) => {
                self.under_way += 1;
                Ok(())
            }
            Err(errno) => Err((errno, self.flights[slot].take().and_then(|f| f.data))),
        }
    }

    /// Takes what has been answered; true if anything was.
    pub fn poll(&mut self, done: &mut Vec<Done>) -> bool {
        let before = done.len();
        let mut events = std::mem::take(&mut self.events);
        self.seat.poll(&mut events);
        for event in events.drain(..) {
            match event {
                // A client serves nothing: whoever sent this gets told.
                Event::Request(incoming) => {
                    self.seat.answer(incoming, Answer::failed(libc::EOPNOTSUPP));
                }
                Event::Reply(ticket, answer) => done.extend(self.land(ticket, answer)),
            }
        }
        self.events = events;
        done.len() > before
    }

    fn land(&mut self, ticket: xseg::Ticket, answer: Answer) -> Option<Done> {
        let Flight { token, data } = self.flights[ticket.id().slot.0 as usize].take()?;
        let reply = self.seat.reply_data(&ticket);
        self.seat.release(ticket);
        self.under_way -= 1;
        let replaced =
            |r: &Extent| !r.is_empty() && data.as_ref().is_none_or(|d| d.address() != r.address());
        Some(Done {
            token,
            answer,
            larger: reply.filter(replaced),
            data,
        })
    }

    /// Says that we go to sleep until [`Core::bell`] is readable. False: poll again first.
    pub fn doze(&self) -> bool {
        self.seat.doze()
    }

    /// Says that we are awake, and stops the bell.
    pub fn wake(&self) {
        self.seat.wake();
        self.seat.hush();
    }

    /// Readable when something was answered while we slept.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.seat.bells().descriptor(self.seat.no())
    }
}
