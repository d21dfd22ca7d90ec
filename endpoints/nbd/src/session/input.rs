//! The read-ahead buffer: where headers, options and small payloads arrive.
//!
//! Always true: `start <= end <= size`; the bytes between are received and not yet used. The kernel
//! writes only behind `end`, and `end` moves only in [`ReadAhead::room`] and
//! [`ReadAhead::received`], which the session calls when no receive is in flight. Using bytes moves
//! `start` alone, so it may go on during a receive.

use crate::wire::REQUEST_SIZE;

pub(super) struct ReadAhead {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReadAhead {
    pub(super) fn new(size: usize) -> Self {
        Self {
            bytes: vec![0; size].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    pub(super) fn unused(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn header(&self) -> Option<&[u8; REQUEST_SIZE]> {
        self.unused().first_chunk()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "used more than was received");
    }

    /// Where the next bytes go. Moves what is left to the front, when that is nothing or the tail
    /// has become short.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let empty = self.start == self.end;
        let short = self.bytes.len() - self.end < self.bytes.len() / 2;
        if self.start > 0 && (empty || short) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    pub(super) fn received(&mut self, count: usize) {
        self.end += count;
        assert!(self.end <= self.bytes.len(), "received more than the room");
    }
}
