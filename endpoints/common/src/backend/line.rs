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
use xseg::join::{Connection, JoinError};
use xseg::seat::PUBLIC;
use xseg::{Extent, Seat};

/// A buffer in a node's segment, taken by [`super::Backend::take`]. To be given back.
#[derive(Debug)]
#[must_use = "a dropped buffer stays taken until its endpoint leaves the segment"]
pub struct Buffer {
    pub(super) extent: Extent,
    pub(super) epoch: u32,
    /// Which pile of the reserve it came from.
    pile: Option<usize>,
}

/// Buffers that are taken, and touched, before any request comes: so many of so many bytes,
/// smaller ones first. A process that the kernel writes its dirty pages through must not touch
/// new memory then: in a memory group at its limit that waits for those very pages.
pub type Reserve = &'static [(u64, usize)];

impl Buffer {
    /// Where it is: shared memory, mapped for as long as the buffer lives, that other processes
    /// may change at any time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.extent.as_ptr()
    }

    /// Bytes: at least as many as were asked for.
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
    /// The free ones of the reserve.
    piles: Vec<Vec<Extent>>,
}

impl Up {
    fn new(seat: Seat, connection: Option<Connection>, epoch: u32, reserve: Reserve) -> Up {
        let mut core = Core::new(seat);
        let piles = reserve
            .iter()
            .map(|&(len, count)| pile(&mut core, len, count))
            .collect();
        if !reserve.is_empty() {
            touch_slots(core.seat());
        }
        Up {
            core,
            connection,
            epoch,
            out: 0,
            piles,
        }
    }

    fn take(&mut self, len: u64, reserve: Reserve) -> Option<(Extent, Option<usize>)> {
        if reserve.is_empty() {
            return Some((self.core.take_buffer(len)?, None));
        }
        let fitting = (0..reserve.len()).filter(|&pile| reserve[pile].0 >= len);
        let mut found = fitting.filter_map(|pile| Some((self.piles[pile].pop()?, Some(pile))));
        found.next()
    }
}

/// As many buffers as are free, at most `count`.
fn pile(core: &mut Core, len: u64, count: usize) -> Vec<Extent> {
    let taken: Vec<Extent> = (0..count).map_while(|_| core.take_buffer(len)).collect();
    taken.iter().for_each(Extent::zero);
    taken
}

/// Has the pages of the request slots there, too.
fn touch_slots(seat: &Seat) {
    let slots = seat
        .segment(PUBLIC)
        .map_or(&[][..], |segment| segment.slots());
    for slot in slots {
        std::hint::black_box(slot.state.load());
    }
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
    reserve: Reserve,
    now: Option<Up>,
    /// Counts the segments, from 1.
    epoch: u32,
    left: Vec<Up>,
}

impl Line {
    pub(super) fn new(joiner: Joiner, reserve: Reserve) -> Line {
        Line {
            joiner,
            reserve,
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
        self.now = Some(Up::new(seat, connection, self.epoch, self.reserve));
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
        let (extent, pile) = up.take(len, self.reserve)?;
        up.out += 1;
        Some(Buffer {
            extent,
            epoch: up.epoch,
            pile,
        })
    }

    pub(super) fn give_back(&mut self, buffer: Buffer) {
        let all = self.now.iter_mut().chain(&mut self.left);
        let Some(up) = all.into_iter().find(|up| up.epoch == buffer.epoch) else {
            return;
        };
        match buffer.pile {
            Some(pile) => up.piles[pile].push(buffer.extent),
            None => up.core.give_buffer_back(&buffer.extent),
        }
        up.out -= 1;
        self.left.retain(|up| up.out > 0);
    }
}
