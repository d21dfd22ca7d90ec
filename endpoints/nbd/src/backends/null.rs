//! The backend that does nothing: reads are zeros, writes vanish, all complete at once.
//!
//! It is the measure of this server and of its clients, so it shuns even cache misses: all reads
//! share one buffer that nobody writes, all writes one that nobody reads. That is allowed because
//! the content of either does not matter (contract of [`Buffers`]). Data is really sent and
//! received; no hole is told in a read, which would flatter the figures.

use crate::export::{
    BlockSizes, BufferId, Buffers, Done, Export, Extent, Extra, Op, Token, Transfer,
};

const ZEROS: BufferId = BufferId(0);
const SINK: BufferId = BufferId(1);

/// An export of any size that stores nothing.
pub struct NullExport {
    name: String,
    size: u64,
    zeros: *mut [u8],
    sink: *mut [u8],
    done: Vec<Done>,
}

// SAFETY: the two pointers own their allocations, made in `new` and freed only in `drop`; nothing
// is shared with another thread.
unsafe impl Send for NullExport {}

impl NullExport {
    /// An export of `size` bytes.
    pub fn new(name: impl Into<String>, size: u64) -> Self {
        let room = || {
            let bytes = vec![0; BlockSizes::DEFAULT.maximum as usize];
            Box::into_raw(bytes.into_boxed_slice())
        };
        Self {
            name: name.into(),
            size,
            zeros: room(),
            sink: room(),
            done: Vec::with_capacity(256),
        }
    }
}

impl Drop for NullExport {
    fn drop(&mut self) {
        for room in [self.zeros, self.sink] {
            // SAFETY: each came from Box::into_raw in `new` and is freed only here.
            drop(unsafe { Box::from_raw(room) });
        }
    }
}

// SAFETY: both buffers live as long as the export at a fixed place and have the size of the
// longest request; no reference to them is ever made; several requests share one, and the content
// of the one that is written is never read.
unsafe impl Buffers for NullExport {
    fn alloc(&mut self, _len: usize, transfer: Transfer) -> Option<BufferId> {
        Some(match transfer {
            Transfer::ToClient => ZEROS,
            Transfer::FromClient => SINK,
        })
    }

    fn buffer(&mut self, id: BufferId) -> (*mut u8, usize) {
        let room = if id == ZEROS { self.zeros } else { self.sink };
        (room.cast(), room.len())
    }

    fn release(&mut self, _id: BufferId) {}
}

impl Export for NullExport {
    fn size(&self) -> u64 {
        self.size
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn submit(&mut self, token: Token, op: Op) {
        let extra = match op {
            Op::BlockStatus { len, .. } => Extra::Extents(vec![Extent {
                len: u64::from(len),
                hole: true,
                zero: true,
            }]),
            _ => Extra::None,
        };
        self.done.push(Done {
            token,
            result: Ok(extra),
        });
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        done.append(&mut self.done);
    }
}
