//! The line to a node: a seat at its segment and the connection that keeps it.
//!
//! ```text
//!  down --join--> up --holder ends--> orphan --same segment again--> up
//!    ^             |                     |
//!    +---leave-----+      +--other segment: void
//! ```
//! What always holds: a seat is kept for as long as a buffer taken through it is out, because the
//! holder gives the buffers of a seat that was left to others.

use super::Joiner;
use client::Core;
use std::os::fd::BorrowedFd;
use xseg::Extent;
use xseg::join::{Connection, JoinError};

/// A buffer in a node's segment, taken by [`super::Backend::take`]. To be given back.
#[derive(Debug)]
#[must_use = "a dropped buffer stays taken until its endpoint leaves the segment"]
pub struct Buffer {
    pub(super) extent: Extent,
    pub(super) epoch: u32,
}

impl Buffer {
    /// Where it is: shared memory, mapped for as long as the buffer lives, that other processes
    /// may change at any time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.extent.as_ptr()
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.extent.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.extent.is_empty()
    }

    /// Copies `bytes` to its start, as far as there is room.
    pub fn fill(&self, bytes: &[u8]) -> usize {
        self.extent.fill(bytes)
    }

    /// Copies the first `len` bytes of `from` here, as far as both have them.
    pub fn copy_from(&self, from: &Buffer, len: u64) {
        super::traffic::copy(&from.extent, &self.extent, len);
    }

    /// Copies its first bytes into `bytes`. False: it is shorter.
    pub fn copy_out(&self, bytes: &mut [u8]) -> bool {
        bytes.len() as u64 <= self.len()
            && self
                .extent
                .segment()
                .copy_out(self.extent.address().offset, bytes)
    }
}

struct Up {
    core: Core,
    connection: Option<Connection>,
    epoch: u32,
    /// Buffers that are out.
    out: u32,
}

/// What became of the holder.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is there, or its successor holds the same segment.
    Same,
    /// Nobody holds the segment now; its peers may well go on.
    Orphan,
    /// Another segment has taken its place: every answer is lost.
    Void,
}

/// The line, and those left behind while their buffers are out.
pub(super) struct Line {
    joiner: Joiner,
    now: Option<Up>,
    /// Counts the segments, from 1.
    epoch: u32,
    left: Vec<Up>,
}

impl Line {
    pub(super) fn new(joiner: Joiner) -> Line {
        Line {
            joiner,
            now: None,
            epoch: 0,
            left: Vec::new(),
        }
    }

    /// Takes a seat; what is left of the former one stays until its buffers are back.
    pub(super) fn join(&mut self) -> Result<(), JoinError> {
        let (mut seat, connection) = (self.joiner)()?;
        // Without a free dynamic port replies still come: they go to the seat.
        seat.bind_dynamic();
        self.leave();
        self.epoch += 1;
        self.now = Some(Up {
            core: Core::new(seat),
            connection,
            epoch: self.epoch,
            out: 0,
        });
        Ok(())
    }

    /// Gives the seat up.
    pub(super) fn leave(&mut self) {
        self.left.extend(self.now.take().filter(|up| up.out > 0));
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn core(&mut self) -> Option<&mut Core> {
        self.now.as_mut().map(|up| &mut up.core)
    }

    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.now.as_ref()?.core.bell()
    }

    /// Readable when the holder is gone.
    pub(super) fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.now
            .as_ref()?
            .connection
            .as_ref()
            .map(Connection::descriptor)
    }

    /// Looks after the holder.
    pub(super) fn fate(&mut self) -> Fate {
        let Some(connection) = self.now.as_mut().and_then(|up| up.connection.as_mut()) else {
            return Fate::Same;
        };
        if connection.is_up() {
            return Fate::Same;
        }
        match connection.reattach() {
            Ok(()) => Fate::Same,
            Err(JoinError::Refused { .. } | JoinError::OtherVersion(_)) => Fate::Void,
            Err(_) => Fate::Orphan,
        }
    }

    pub(super) fn take(&mut self, len: u64) -> Option<Buffer> {
        let up = self.now.as_mut()?;
        let extent = up.core.take_buffer(len)?;
        up.out += 1;
        Some(Buffer {
            extent,
            epoch: up.epoch,
        })
    }

    pub(super) fn give_back(&mut self, buffer: Buffer) {
        let all = self.now.iter_mut().chain(&mut self.left);
        let Some(up) = all.into_iter().find(|up| up.epoch == buffer.epoch) else {
            return;
        };
        up.core.give_buffer_back(&buffer.extent);
        up.out -= 1;
        self.left.retain(|up| up.out > 0);
    }
}
