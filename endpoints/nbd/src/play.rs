//! A connection played by hand, without a socket: a client's bytes go in, cut anywhere, and the
//! server's come out. For the tests of sessions and for their fuzz target.
//!
//! What always holds: one receive and one send are in flight at most, as in the real loop, and a
//! completion may come while they are.
//!
//! Unsafe lives here because a session hands out where to receive and what to send as addresses.

use crate::backends::MemoryExport;
use crate::export::Export;
use crate::session::{Limits, Scene, Session};

/// Bytes of the volume.
pub(crate) const SIZE: usize = 64 << 10;
/// Bounds that a client meets soon.
pub(crate) const LIMITS: Limits = Limits {
    in_flight_max: 8,
    in_flight_bytes_max: 1 << 20,
    read_ahead_bytes: 16 << 10,
};

/// A session over memory, played by hand.
pub(crate) struct Play {
    pub(crate) session: Session,
    pub(crate) export: MemoryExport,
    pub(crate) frozen: bool,
    /// What the session sent.
    pub(crate) out: Vec<u8>,
    /// The client takes nothing.
    pub(crate) deaf: bool,
}

impl Play {
    pub(crate) fn new(limits: Limits) -> Self {
        let export = MemoryExport::new("vol", SIZE).with_buffers_max(4);
        let session = Session::new(0, limits);
        let mut play = Self {
            session,
            export,
            frozen: false,
            out: Vec::new(),
            deaf: false,
        };
        play.settle(usize::MAX);
        play
    }

    /// Gives the session what it has room for, in pieces; returns what it did not take. As in the
    /// real loop, completions and replies move while a receive is in flight.
    pub(crate) fn feed<'a>(&mut self, mut bytes: &'a [u8], piece: usize) -> &'a [u8] {
        while !bytes.is_empty()
            && let Some(room) = self.session.room(&mut self.export)
        {
            self.settle(piece);
            let count = room.len.min(bytes.len()).min(piece);
            // SAFETY: the room is valid for `len` bytes (of the session's read-ahead buffer or of
            // an export's buffer) and nothing else uses it between `room` and `received`.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), room.at, count) };
            bytes = &bytes[count..];
            self.session.received(count, &mut self.export);
            self.advance();
            if self.session.room(&mut self.export).is_none() {
                self.settle(piece);
            }
        }
        self.settle(piece);
        bytes
    }

    pub(crate) fn advance(&mut self) {
        let scene = Scene {
            frozen: self.frozen,
            description: "",
        };
        self.session.advance(&mut self.export, &scene);
    }

    /// Lets completions in and replies out, `piece` bytes at a time, until nothing moves.
    pub(crate) fn settle(&mut self, piece: usize) {
        loop {
            let mut done = Vec::new();
            self.export.poll(&mut done);
            let mut moved = !done.is_empty();
            for done in done {
                let slot = Session::parse_token(done.token).1;
                self.session.completed(slot, done.result, &mut self.export);
            }
            while !self.deaf
                && let Some(count) = self.send(piece)
            {
                self.session.sent(count, &mut self.export);
                moved = true;
            }
            if self.session.is_stalled() && moved {
                self.advance();
            } else if !moved {
                break;
            }
        }
        self.session.bury(false, false, &mut self.export);
    }

    fn send(&mut self, piece: usize) -> Option<usize> {
        let message = self.session.message(&mut self.export)?;
        // SAFETY: the message and the iovecs that it names stay in place until `sent`.
        let parts =
            unsafe { std::slice::from_raw_parts((*message).msg_iov, (*message).msg_iovlen) };
        let mut left = piece;
        for part in parts {
            let count = part.iov_len.min(left);
            // SAFETY: as above; each part names initialised bytes.
            let bytes = unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), count) };
            self.out.extend_from_slice(bytes);
            left -= count;
        }
        Some(piece - left)
    }

    pub(crate) fn end(&mut self) {
        self.session.received(0, &mut self.export);
        self.advance();
        self.settle(usize::MAX);
    }
}
