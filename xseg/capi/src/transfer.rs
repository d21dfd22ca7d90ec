//! Transfers: a read or write of any length, cut into pieces of [`PIECE`] bytes, [`DEPTH`] of them
//! under way. Each byte is copied once, between the program's memory and the segment.
//!
//! A transfer never waits by itself: `step` sends what can be sent and says whether it is over, so
//! that it serves a program that sleeps in `xseg_transfer_wait` and one with a loop of its own.
//! The program's memory is touched by `start`, `step` and `wait` only, never after `end`.

use client::volume::{DEPTH, PIECE};
use client::{Core, Done};
use xseg::protocol::{Operation, PortNo};
use xseg::{Extent, Request};

use crate::abi::xseg_transfer;
use crate::shared::Shared;

/// The program's memory: an address and its length, valid until the transfer's end.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    start: *mut u8,
    len: u64,
}

// SAFETY: an address may be used by any thread; that only one thread at a time does is seen to by
// the lock of the handle that the transfer belongs to.
unsafe impl Send for Memory {}

impl Memory {
    /// # Safety
    /// `len` bytes at `start` may be read, and for a read written, until the transfer has ended.
    pub(crate) unsafe fn new(start: *mut u8, len: u64) -> Memory {
        Memory { start, len }
    }

    /// The part at `at`, if there is one of this length.
    fn part(&self, at: u64, len: u64) -> Option<*mut u8> {
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        inside.then(|| self.start.wrapping_add(at as usize))
    }

    fn copy_to(&self, at: u64, piece: &Extent) {
        if let Some(from) = self.part(at, piece.len()) {
            // SAFETY: `part` checked the range against what `new` was promised; `piece` is memory
            // of the segment, which the program's own never is (rule 4 of `xseg::segment`).
            unsafe { std::ptr::copy_nonoverlapping(from, piece.as_ptr(), piece.len() as usize) };
        }
    }

    fn copy_from(&self, at: u64, piece: &Extent) {
        if let Some(to) = self.part(at, piece.len()) {
            // SAFETY: as in `copy_to`, the other way round.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len() as usize) };
        }
    }
}

/// A transfer under way.
pub(crate) struct Transfer {
    pub(crate) shell: Shared<xseg_transfer>,
    pub(crate) port: PortNo,
    to: PortNo,
    /// What every piece has in common; `offset` is that of the whole.
    request: Request,
    memory: Memory,
    next: u64,
    pub(crate) under_way: usize,
    errno: u32,
    /// The program has dropped it: it is over when the last piece has landed.
    pub(crate) dropped: bool,
}

/// Tokens of pieces are odd, those of requests are addresses, which are even.
const PIECE_BIT: u64 = 1;
/// A token of a piece: where it begins in pieces above, the transfer's number below.
const NUMBER_BITS: u32 = 24;

/// The transfer and the offset of a piece, if the token is that of one.
pub(crate) fn of_token(token: u64) -> Option<(u32, u64)> {
    let number = (token >> 1) as u32 & ((1 << NUMBER_BITS) - 1);
    (token & PIECE_BIT != 0).then_some((number, (token >> (NUMBER_BITS + 1)) * PIECE))
}

fn token(number: u32, at: u64) -> u64 {
    (at / PIECE) << (NUMBER_BITS + 1) | u64::from(number) << 1 | PIECE_BIT
}

/// The number of transfer that follows on `number`.
pub(crate) fn next_number(number: u32) -> u32 {
    (number + 1) & ((1 << NUMBER_BITS) - 1)
}

impl Transfer {
    pub(crate) fn new(port: PortNo, to: PortNo, request: Request, memory: Memory) -> Transfer {
        Transfer {
            shell: Shared::new(xseg_transfer { unused: 0 }),
            port,
            to,
            request,
            memory,
            next: 0,
            under_way: 0,
            errno: 0,
            dropped: false,
        }
    }

    fn writes(&self) -> bool {
        self.request.op == Operation::Write as u32
    }

    /// The error number, 0 for none.
    pub(crate) fn errno(&self) -> u32 {
        self.errno
    }

    /// Fails it: nothing more is sent.
    pub(crate) fn fail(&mut self, errno: i32) {
        if self.errno == 0 {
            self.errno = errno as u32;
        }
    }

    /// Nothing will be answered any more.
    pub(crate) fn abandon(&mut self) {
        self.fail(libc::ENOTCONN);
        self.under_way = 0;
    }

    /// Sends what can be sent. True: it is over.
    pub(crate) fn step(&mut self, number: u32, core: &mut Core) -> bool {
        while self.errno == 0 && self.next < self.memory.len && self.under_way < DEPTH {
            if !self.send(number, core) {
                break;
            }
        }
        self.under_way == 0 && (self.errno != 0 || self.next >= self.memory.len)
    }

    /// Sends one piece; false when that has to wait, or fails.
    fn send(&mut self, number: u32, core: &mut Core) -> bool {
        let len = PIECE.min(self.memory.len - self.next);
        let Some(piece) = core.take_buffer(len) else {
            self.wait_or_fail(core, libc::ENOBUFS);
            return false;
        };
        if self.writes() {
            self.memory.copy_to(self.next, &piece);
        }
        let request = Request {
            offset: self.request.offset.wrapping_add(self.next),
            size: len,
            ..self.request
        };
        match core.submit(self.to, &request, Some(piece), token(number, self.next)) {
            Ok(()) => {
                self.next += len;
                self.under_way += 1;
                true
            }
            Err((errno, back)) => {
                back.iter().for_each(|piece| core.give_buffer_back(piece));
                match errno {
                    libc::EAGAIN => self.wait_or_fail(core, errno),
                    _ => self.fail(errno),
                }
                false
            }
        }
    }

    /// Somebody of this seat will give something back; if there is nobody, it fails.
    fn wait_or_fail(&mut self, core: &Core, errno: i32) {
        if core.under_way() == 0 {
            self.fail(errno);
        }
    }

    /// Takes the answer of the piece at `at` in.
    pub(crate) fn land(&mut self, core: &mut Core, at: u64, done: &Done) {
        self.under_way = self.under_way.saturating_sub(1);
        match done.answer.result() {
            Err(errno) => self.fail(errno),
            Ok(_) if self.writes() || self.dropped => {}
            Ok(_) => done
                .data
                .iter()
                .for_each(|piece| self.memory.copy_from(at, piece)),
        }
        for buffer in done.data.iter().chain(&done.larger) {
            core.give_buffer_back(buffer);
        }
    }
}
