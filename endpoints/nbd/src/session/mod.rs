//! One connection, without its socket: bytes in, operations out, completions in, bytes out.
//!
//! ```text
//!           received            submit
//!  socket ----------> Session ----------> backend
//!         <---------- (slots) <----------
//!           message             completed
//! ```
//! Always true:
//! 1. Memory is bounded: the read-ahead buffer, a fixed number of slots, `in_flight_bytes_max` of
//!    the backend's buffers. When one of them is used up, or the server is frozen, the next request
//!    stays unused in the read-ahead buffer (the session is *stalled*); when that is full, nothing
//!    more is received and the client feels it.
//! 2. A buffer is released once: a write's at its completion, a read's when its reply has left, any
//!    other when the connection is dead and neither kernel nor backend can touch it.
//! 3. The caller keeps at most one receive and one send in flight, and calls [`Session::room`],
//!    [`Session::message`] and [`Session::bury`] only when the one concerned is not.

mod input;
mod output;
mod requests;
mod slots;

use std::ops::ControlFlow;

use self::input::ReadAhead;
use self::output::Outbox;
use self::slots::Slots;
use crate::export::{Export, Token};
use crate::handshake::{About, Agreed, Handshake, Next, Step, greeting};
use crate::wire::REQUEST_SIZE;

/// A write at least this long is taken as the first of a stream: the next receive asks for a header
/// only, so that its payload too goes straight into the backend's buffer.
const STREAM_BYTES: u32 = 64 << 10;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) in_flight_max: u16,
    pub(crate) in_flight_bytes_max: usize,
    pub(crate) read_ahead_bytes: usize,
}

/// What the server says about the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) frozen: bool,
    pub(crate) description: &'a str,
}

/// Where a receive should put its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) at: *mut u8,
    pub(crate) len: usize,
    /// Worth waiting until all of it is there.
    pub(crate) whole: bool,
}

enum Phase {
    Handshake(Handshake),
    Transmission,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Serving.
    No,
    /// No new requests; what is in flight is answered.
    Finishing,
    /// Nothing is sent any more.
    Dead,
}

/// A write whose payload is not here yet. It is received straight into the backend's buffer, after
/// what the read-ahead buffer brought of it.
struct Payload {
    slot: u16,
    at: usize,
    len: usize,
}

impl Payload {
    fn is_whole(&self) -> bool {
        self.at == self.len
    }
}

/// A refused write, answered when its payload has been thrown away: a client need not understand
/// an answer to a request that it is still sending (libnbd does not).
struct Unwanted {
    slot: u16,
    left: usize,
}

/// Where the receive in flight puts its bytes. A payload may begin during a receive into the
/// read-ahead buffer, so the state of the session does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    ReadAhead,
    Payload,
}

pub(crate) struct Session {
    index: u32,
    limits: Limits,
    phase: Phase,
    agreed: Agreed,
    input: ReadAhead,
    aim: Aim,
    payload: Option<Payload>,
    unwanted: Option<Unwanted>,
    stream: bool,
    stalled: bool,
    eof: bool,
    ending: Ending,
    slots: Slots,
    outbox: Outbox,
    at_backend: usize,
    buffer_bytes: usize,
}

impl Session {
    /// A fresh connection; `index` comes back in the tokens of its operations.
    pub(crate) fn new(index: u32, limits: Limits) -> Self {
        Self {
            index,
            limits,
            phase: Phase::Handshake(Handshake::default()),
            agreed: Agreed::default(),
            input: ReadAhead::new(limits.read_ahead_bytes),
            aim: Aim::ReadAhead,
            payload: None,
            unwanted: None,
            stream: false,
            stalled: false,
            eof: false,
            ending: Ending::No,
            slots: Slots::new(limits.in_flight_max),
            outbox: Outbox::new(&greeting(), usize::from(limits.in_flight_max)),
            at_backend: 0,
            buffer_bytes: 0,
        }
    }

    /// Session and slot that a token names.
    pub(crate) fn parse_token(token: Token) -> (u32, u16) {
        ((token.0 >> 16) as u32, token.0 as u16)
    }

    /// Operations at the backend.
    pub(crate) fn at_backend(&self) -> usize {
        self.at_backend
    }

    /// Whether the handshake is over.
    pub(crate) fn is_transmitting(&self) -> bool {
        matches!(self.phase, Phase::Transmission)
    }

    /// Takes no new requests; those in flight are answered.
    pub(crate) fn finish(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::Finishing;
        }
    }

    /// Gives the client up: nothing more is read or sent.
    pub(crate) fn kill(&mut self, why: &str) {
        if self.ending != Ending::Dead {
            tracing::debug!(session = self.index, "connection given up: {why}");
            self.ending = Ending::Dead;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.ending == Ending::Dead
    }

    /// Something received could not be used yet; [`Session::advance`] may help.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// No new requests are taken.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending != Ending::No
    }

    /// Ended, and everything was answered (or dropped, if dead). The caller closes.
    pub(crate) fn is_over(&self) -> bool {
        self.is_ending() && self.slots.is_empty() && self.outbox.is_empty()
    }

    /// Where to receive next; `None`: nothing should be received now.
    pub(crate) fn room<E: Export>(&mut self, export: &mut E) -> Option<Room> {
        if self.is_ending() || self.eof {
            return None;
        }
        if let Some(payload) = &self.payload {
            if payload.is_whole() {
                return None;
            }
            self.aim = Aim::Payload;
            let slot = self.slots.get(payload.slot);
            let start = export.buffer(slot.buffer.expect("a write has one")).0;
            return Some(Room {
                at: start.wrapping_add(payload.at),
                len: payload.len - payload.at,
                whole: true,
            });
        }
        self.aim = Aim::ReadAhead;
        let missing = REQUEST_SIZE.saturating_sub(self.input.unused().len());
        let room = self.input.room();
        let len = match self.stream && missing > 0 {
            true => missing,
            false => room.len(),
        };
        (len > 0).then_some(Room {
            at: room.as_mut_ptr(),
            len,
            whole: false,
        })
    }

    /// A receive into the last [`Session::room`] brought `count` bytes; 0 is the end of the stream.
    pub(crate) fn received<E: Export>(&mut self, count: usize, export: &mut E) {
        match (self.aim, &mut self.payload) {
            _ if self.ending != Ending::No => {}
            (_, Some(_)) if count == 0 => self.kill("the client left in the middle of a write"),
            (_, None) if count == 0 => self.eof = true,
            (Aim::ReadAhead, _) => {
                self.input.received(count);
                self.fill_payload(export);
            }
            (Aim::Payload, payload) => {
                let payload = payload.as_mut().expect("it stays while aimed at");
                payload.at += count;
            }
        }
    }

    /// Uses as much of what was received as possible. Call it after each receive, and, while
    /// stalled, whenever a slot, a buffer or the freeze may have gone.
    pub(crate) fn advance<E: Export>(&mut self, export: &mut E, scene: &Scene<'_>) {
        self.stalled = false;
        while !self.is_ending() {
            let flow = match self.phase {
                _ if self.payload.is_some() => self.end_payload(export, scene),
                _ if self.unwanted.is_some() => self.throw_away(),
                Phase::Handshake(_) => self.negotiate(export, scene),
                Phase::Transmission => self.next_request(export, scene),
            };
            if flow.is_break() {
                break;
            }
        }
        if self.eof && !self.stalled {
            self.finish();
        }
    }

    /// Throws away what is here of a refused payload.
    fn throw_away(&mut self) -> ControlFlow<()> {
        let here = self.input.unused().len();
        if let Some(unwanted) = &mut self.unwanted {
            let count = here.min(unwanted.left);
            self.input.consume(count);
            unwanted.left -= count;
        }
        match self.unwanted.take_if(|unwanted| unwanted.left == 0) {
            None => ControlFlow::Break(()),
            Some(unwanted) => {
                self.outbox.push(unwanted.slot);
                ControlFlow::Continue(())
            }
        }
    }

    /// One option, once the reply to the one before is out.
    fn negotiate<E: Export>(&mut self, export: &E, scene: &Scene<'_>) -> ControlFlow<()> {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return ControlFlow::Continue(());
        };
        if !self.outbox.is_empty() {
            self.stalled = true;
            return ControlFlow::Break(());
        }
        let about = About {
            name: export.name(),
            description: scene.description,
            size: export.size(),
            blocks: export.block_sizes(),
            read_only: export.read_only(),
        };
        let step = handshake.step(self.input.unused(), &about, self.outbox.plain());
        let agreed = handshake.agreed;
        match step {
            Step::More => return ControlFlow::Break(()),
            Step::Broken(why) => self.kill(why),
            Step::Used(count, next) => {
                self.input.consume(count);
                match next {
                    Next::Option => {}
                    Next::HangUp => self.finish(),
                    Next::Transmission => {
                        self.phase = Phase::Transmission;
                        self.agreed = agreed;
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The message to send now, if any.
    pub(crate) fn message<E: Export>(&mut self, export: &mut E) -> Option<*const libc::msghdr> {
        if self.is_dead() {
            return None;
        }
        let structured = self.agreed.structured;
        self.outbox.message(&mut self.slots, structured, export)
    }

    /// The kernel took `count` bytes of the message.
    pub(crate) fn sent<E: Export>(&mut self, count: usize, export: &mut E) {
        if self.outbox.sent(count) {
            while let Some(slot) = self.outbox.next_sent() {
                self.retire(slot, export);
            }
        }
    }

    /// Drops what a dead or finishing connection no longer needs. `receiving`, `sending`: whether
    /// the kernel may still touch a buffer for that.
    pub(crate) fn bury<E: Export>(&mut self, receiving: bool, sending: bool, export: &mut E) {
        if self.is_ending() && !receiving {
            let payload = self.payload.take().map(|payload| payload.slot);
            let unwanted = self.unwanted.take().map(|unwanted| unwanted.slot);
            for slot in payload.into_iter().chain(unwanted) {
                self.retire(slot, export);
            }
        }
        if self.is_dead() && !sending {
            self.outbox.clear();
            while let Some(slot) = self.outbox.next_dropped() {
                self.retire(slot, export);
            }
        }
    }

    fn retire<E: Export>(&mut self, slot: u16, export: &mut E) {
        self.release_buffer(slot, export);
        self.slots.free(slot);
    }
}
