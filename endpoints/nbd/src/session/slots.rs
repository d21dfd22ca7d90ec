//! The requests of one connection: a fixed set of slots, allocated when the client connects.
//!
//! Always true: a slot is taken from the moment its header is used until its reply has left (or the
//! connection is dead), so the number of slots bounds what one client can make the server hold. A
//! slot that is at the backend is never freed before its completion.

use crate::error::Refusal;
use crate::export::{BufferId, Failure};
use crate::wire::Request;

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Not yet.
    Open,
    /// Success; a read has its data in the buffer.
    Success,
    /// A read of nothing but zeros.
    Zeroes,
    /// The payload of a block status chunk.
    Status(Vec<u8>),
    /// The server refused.
    Refused(Refusal),
    /// The backend failed.
    Failed(Failure),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) request: Request,
    pub(super) buffer: Option<BufferId>,
    /// Submitted, and not completed.
    pub(super) at_backend: bool,
    pub(super) outcome: Outcome,
}

pub(super) struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<u16>,
}

impl Slots {
    pub(super) fn new(count: u16) -> Self {
        Self {
            slots: (0..count).map(|_| None).collect(),
            free: (0..count).rev().collect(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Takes a slot; there must be a free one.
    pub(super) fn take(&mut self, request: Request, buffer: Option<BufferId>) -> u16 {
        let index = self.free.pop().expect("the caller saw a free slot");
        self.slots[usize::from(index)] = Some(Slot {
            request,
            buffer,
            at_backend: false,
            outcome: Outcome::Open,
        });
        index
    }

    pub(super) fn get(&mut self, index: u16) -> &mut Slot {
        self.slots
            .get_mut(usize::from(index))
            .and_then(Option::as_mut)
            .expect("only taken slots are named")
    }

    pub(super) fn free(&mut self, index: u16) {
        self.slots[usize::from(index)] = None;
        self.free.push(index);
    }
}
