//! One peer's place: its seat, the requests it waits for, its buffers.
//!
//! A desk is a handle; its clones name the same place, within one thread. Peers that are state
//! machines send under a token and get `Peer::reply`; multi-step operations await [`Desk::call`].
//! A call is never abandoned: its future runs to the reply, because buffers that the request
//! names are in use until then. What names none may be ([`Desk::listen`]).

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use xseg::protocol::PortNo;
use xseg::seat::{PRIVATE, RequestId};
use xseg::slot::Address;
use xseg::{Answer, Event, Extent, Incoming, Request, Seat, Ticket};

/// Who waits for a reply.
enum Waiter {
    Nobody,
    Token(u64),
    Call(Rc<RefCell<Call>>),
}

#[derive(Default)]
struct Call {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

struct Inner {
    seat: Seat,
    waiters: Vec<Waiter>,
    /// Where the data of each request was when it was sent.
    sent_data: Vec<Address>,
    asked: usize,
    severed: bool,
}

/// A peer's place.
#[derive(Clone)]
pub struct Desk(Rc<RefCell<Inner>>);

impl Desk {
    /// A desk over a peer's seat (one with a private region).
    pub fn new(seat: Seat) -> Desk {
        let slots = seat.segment(PRIVATE).map_or(0, |s| s.layout().spec.slots);
        let waiters = (0..slots).map(|_| Waiter::Nobody).collect();
        Desk(Rc::new(RefCell::new(Inner {
            seat,
            waiters,
            sent_data: vec![Address::default(); slots as usize],
            asked: 0,
            severed: false,
        })))
    }

    /// Does something with the seat itself.
    pub fn with_seat<T>(&self, act: impl FnOnce(&mut Seat) -> T) -> T {
        act(&mut self.0.borrow_mut().seat)
    }

    /// Plays the death of the process: nothing that is dropped from here on gives anything back,
    /// as nothing does after a SIGKILL.
    pub(crate) fn sever(&self) {
        self.0.borrow_mut().severed = true;
    }

    /// How many of its requests are unanswered.
    pub fn asked(&self) -> usize {
        self.0.borrow().asked
    }

    /// Sends `request` to the peer at `port`; the answer comes as `Peer::reply(token, ..)`.
    pub fn send(&self, port: PortNo, request: &Request, token: u64) -> Result<(), i32> {
        let waiter = Waiter::Token(token);
        self.0.borrow_mut().ask(port, request, waiter).map(drop)
    }

    /// Sends `request` to the peer at `port` and awaits the answer. The caller keeps the data's
    /// buffer until then.
    pub async fn call(&self, port: PortNo, request: &Request) -> Answer {
        let call = Rc::new(RefCell::new(Call::default()));
        let waiter = Waiter::Call(call.clone());
        let asked = self.0.borrow_mut().ask(port, request, waiter);
        match asked {
            Ok(_) => answer_of(&call).await,
            Err(errno) => Answer::failed(errno),
        }
    }

    /// The same for a request without data, which may be answered late: dropping the future gives
    /// it up. Its server answers all the same, and nobody reads that.
    pub async fn listen(&self, port: PortNo, request: &Request) -> Answer {
        debug_assert_eq!(request.datalen, 0, "its buffer would be in use");
        let call = Rc::new(RefCell::new(Call::default()));
        let waiter = Waiter::Call(call.clone());
        let asked = self.0.borrow_mut().ask(port, request, waiter);
        let id = match asked {
            Ok(id) => id,
            Err(errno) => return Answer::failed(errno),
        };
        let _unless_answered = Listening { desk: self, id };
        answer_of(&call).await
    }

    /// Answers a request.
    pub fn answer(&self, incoming: Incoming, answer: Answer) {
        self.0.borrow_mut().seat.answer(incoming, answer);
    }

    /// The data of a request that this peer serves, as checked when it was read.
    pub fn data(&self, incoming: &Incoming, request: &Request) -> Option<Extent> {
        let inner = self.0.borrow();
        inner
            .seat
            .extent(incoming.id().region, request.data, request.datalen)
    }

    /// Any data that a request from this peer may name.
    pub fn extent(&self, address: Address, len: u64) -> Option<Extent> {
        self.0.borrow().seat.extent(PRIVATE, address, len)
    }

    /// Puts `bytes` where the sender of a request finds its reply: into its own buffer when they
    /// fit, else into a larger one that becomes the sender's. Err: no such buffer is free.
    pub fn reply_bytes(
        &self,
        incoming: &Incoming,
        request: &Request,
        bytes: &[u8],
    ) -> Result<(), i32> {
        let len = bytes.len() as u64;
        let mut inner = self.0.borrow_mut();
        let region = incoming.id().region;
        if request.datalen >= len {
            let own = inner
                .seat
                .extent(region, request.data, len)
                .ok_or(libc::EFAULT)?;
            own.fill(bytes);
            return Ok(());
        }
        let larger = inner
            .seat
            .take_buffer_for(incoming.owner(), region, len)
            .ok_or(libc::ENOBUFS)?;
        larger.fill(bytes);
        inner.seat.replace_data(incoming, larger.address(), len);
        Ok(())
    }

    /// A private buffer of `len` bytes; ENOBUFS when none is free.
    pub fn scratch(&self, len: u64) -> Result<Scratch, i32> {
        let extent = self
            .0
            .borrow_mut()
            .seat
            .take_buffer(PRIVATE, len.max(1))
            .ok_or(libc::ENOBUFS)?;
        Ok(Scratch {
            desk: self.clone(),
            extent,
        })
    }

    /// Takes what came in: requests into `requests`, the tokens of answered sends into `replies`;
    /// answered calls wake their tasks. True: something came in.
    pub(crate) fn receive(
        &self,
        events: &mut Vec<Event>,
        requests: &mut Vec<Incoming>,
        replies: &mut Vec<(u64, Answer)>,
    ) -> bool {
        let mut inner = self.0.borrow_mut();
        events.clear();
        let any = inner.seat.poll(events);
        for event in events.drain(..) {
            match event {
                Event::Request(incoming) => requests.push(incoming),
                Event::Reply(ticket, answer) => {
                    if let Some(token) = inner.settle(ticket, answer) {
                        replies.push((token, answer));
                    }
                }
            }
        }
        any
    }
}

/// Waits for the answer of a call that was sent.
async fn answer_of(call: &RefCell<Call>) -> Answer {
    poll_fn(|cx| {
        let mut call = call.borrow_mut();
        match call.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                call.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

/// A request that is given up when this is dropped, if it is not answered by then.
struct Listening<'a> {
    desk: &'a Desk,
    id: RequestId,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.desk.0.borrow_mut().give_up(self.id);
    }
}

impl Inner {
    fn ask(&mut self, port: PortNo, request: &Request, waiter: Waiter) -> Result<RequestId, i32> {
        let ticket = self.seat.claim(PRIVATE).ok_or(libc::EAGAIN)?;
        let id: RequestId = ticket.id();
        self.waiters[id.slot.0 as usize] = waiter;
        self.sent_data[id.slot.0 as usize] = request.data;
        self.asked += 1;
        let sent = self.seat.submit(ticket, port, request);
        if let Err(errno) = sent {
            self.waiters[id.slot.0 as usize] = Waiter::Nobody;
            self.asked -= 1;
            return Err(errno);
        }
        Ok(id)
    }

    /// Nobody waits for a request any more, unless it was answered already.
    fn give_up(&mut self, id: RequestId) {
        // Answered and settled, its slot may be another request's by now.
        if self.seat.forget(id) {
            self.waiters[id.slot.0 as usize] = Waiter::Nobody;
            self.asked -= 1;
        }
    }

    /// Peers make room for the replies that they expect. One that came in a larger buffer is not
    /// read, but that buffer is ours now.
    fn free_larger_reply(&mut self, ticket: &Ticket) {
        let sent = self.sent_data[ticket.id().slot.0 as usize];
        let answered = self.seat.reply_address(ticket);
        if let Some(larger) = answered.filter(|answered| *answered != sent) {
            self.seat.give_buffer_back(larger);
        }
    }

    fn settle(&mut self, ticket: Ticket, answer: Answer) -> Option<u64> {
        let slot = ticket.id().slot.0 as usize;
        self.free_larger_reply(&ticket);
        self.seat.release(ticket);
        self.asked -= 1;
        match std::mem::replace(&mut self.waiters[slot], Waiter::Nobody) {
            Waiter::Nobody => None,
            Waiter::Token(token) => Some(token),
            Waiter::Call(call) => {
                let mut call = call.borrow_mut();
                call.answer = Some(answer);
                if let Some(waker) = call.waker.take() {
                    waker.wake();
                }
                None
            }
        }
    }
}

/// A private buffer, given back when dropped: only after every request that names it is answered.
pub struct Scratch {
    desk: Desk,
    extent: Extent,
}

impl std::ops::Deref for Scratch {
    type Target = Extent;
    fn deref(&self) -> &Extent {
        &self.extent
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut inner = self.desk.0.borrow_mut();
        if !inner.severed {
            inner.seat.give_buffer_back(self.extent.address());
        }
    }
}
