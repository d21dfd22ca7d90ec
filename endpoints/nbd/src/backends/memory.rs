//! A volume in memory, for tests: sparse, so that holes can be seen, with a bounded buffer pool.
//!
//! Always true: a grain that is not marked as allocated is all zeros. Operations complete in the
//! order of their submission, at the next poll.

use std::collections::HashMap;
use std::ops::Range;

use crate::export::{BufferId, Buffers, Done, Export, Extent, Extra, Op, Token, Transfer};

/// Unit of allocation, in bytes.
pub const GRAIN_BYTES: usize = 4096;

/// A volume whose content dies with it.
pub struct MemoryExport {
    name: String,
    read_only: bool,
    data: Vec<u8>,
    /// Which grains are allocated.
    grains: Vec<bool>,
    /// Buffers given out, and free ones by size.
    taken: HashMap<u64, *mut [u8]>,
    free: HashMap<usize, Vec<*mut [u8]>>,
    next_id: u64,
    buffers_max: usize,
    done: Vec<Done>,
}

// SAFETY: the pointers own their allocations (made in `alloc`, freed in `drop`) and are shared
// with no other thread.
unsafe impl Send for MemoryExport {}

impl MemoryExport {
    /// A volume of `size` bytes, all hole.
    pub fn new(name: impl Into<String>, size: usize) -> Self {
        Self {
            name: name.into(),
            read_only: false,
            data: vec![0; size],
            grains: vec![false; size.div_ceil(GRAIN_BYTES)],
            taken: HashMap::new(),
            free: HashMap::new(),
            next_id: 0,
            buffers_max: usize::MAX,
            done: Vec::new(),
        }
    }

    /// Refuses writes.
    #[must_use]
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Gives out at most `count` buffers at a time.
    #[must_use]
    pub fn with_buffers_max(mut self, count: usize) -> Self {
        self.buffers_max = count;
        self
    }

    /// Buffers that are given out now.
    pub fn buffers_taken(&self) -> usize {
        self.taken.len()
    }

    fn run(&mut self, op: Op) -> Extra {
        match op {
            Op::Read { offset, len, buf } => return self.read(range(offset, len), buf),
            Op::Write {
                offset, len, buf, ..
            } => self.write(range(offset, len), buf),
            Op::Flush => {}
            Op::Trim { offset, len, .. } => self.zero(range(offset, len), false),
            Op::WriteZeroes {
                offset,
                len,
                no_hole,
                ..
            } => {
                self.zero(range(offset, len), no_hole);
            }
            Op::BlockStatus { offset, len, .. } => {
                return Extra::Extents(self.extents(range(offset, len)));
            }
        }
        Extra::None
    }

    fn read(&mut self, range: Range<usize>, buffer: BufferId) -> Extra {
        if self.extents(range.clone()).iter().all(|extent| extent.zero) {
            return Extra::Zeroes;
        }
        let target = self.buffer(buffer).0;
        let source = &self.data[range];
        // SAFETY: the buffer is at least as long as the read and this backend's alone until its
        // completion; it is an allocation of its own.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) };
        Extra::None
    }

    fn write(&mut self, range: Range<usize>, buffer: BufferId) {
        let source = self.buffer(buffer).0;
        self.grains[grains(&range)].fill(true);
        let target = &mut self.data[range];
        // SAFETY: as in `read`, the other way round.
        unsafe { std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len()) };
    }

    fn zero(&mut self, range: Range<usize>, keep: bool) {
        self.data[range.clone()].fill(0);
        match keep {
            true => self.grains[grains(&range)].fill(true),
            false => {
                let whole = range.start.div_ceil(GRAIN_BYTES)..range.end / GRAIN_BYTES;
                if whole.start < whole.end {
                    self.grains[whole].fill(false);
                }
            }
        }
    }

    fn extents(&self, range: Range<usize>) -> Vec<Extent> {
        grains(&range)
            .map(|grain| {
                let start = range.start.max(grain * GRAIN_BYTES);
                let end = range.end.min((grain + 1) * GRAIN_BYTES);
                Extent {
                    len: (end - start) as u64,
                    hole: !self.grains[grain],
                    zero: !self.grains[grain],
                }
            })
            .collect()
    }
}

fn range(offset: u64, len: u32) -> Range<usize> {
    offset as usize..offset as usize + len as usize
}

/// The grains that a byte range touches.
fn grains(range: &Range<usize>) -> Range<usize> {
    range.start / GRAIN_BYTES..range.end.div_ceil(GRAIN_BYTES)
}

impl Drop for MemoryExport {
    fn drop(&mut self) {
        let free = self.free.drain().flat_map(|entry| entry.1);
        let taken = self.taken.drain().map(|entry| entry.1);
        for buffer in free.chain(taken) {
            // SAFETY: each came from Box::into_raw in `alloc`, is in exactly one of the two maps,
            // and the server that used it has ended (it owns this export).
            drop(unsafe { Box::from_raw(buffer) });
        }
    }
}

// SAFETY: a buffer is one allocation of the size asked for or more, moved between the two maps but
// never in memory, and freed only in `drop`; references to it are never made.
unsafe impl Buffers for MemoryExport {
    fn alloc(&mut self, len: usize, _transfer: Transfer) -> Option<BufferId> {
        if self.taken.len() >= self.buffers_max {
            return None;
        }
        let size = len.next_power_of_two().max(GRAIN_BYTES);
        let reused = self.free.get_mut(&size).and_then(Vec::pop);
        let buffer = reused.unwrap_or_else(|| Box::into_raw(vec![0; size].into_boxed_slice()));
        self.next_id += 1;
        self.taken.insert(self.next_id, buffer);
        Some(BufferId(self.next_id))
    }

    fn buffer(&mut self, id: BufferId) -> (*mut u8, usize) {
        let buffer = self.taken[&id.0];
        (buffer.cast(), buffer.len())
    }

    fn release(&mut self, id: BufferId) {
        let buffer = self.taken.remove(&id.0).expect("a buffer is released once");
        self.free.entry(buffer.len()).or_default().push(buffer);
    }
}

impl Export for MemoryExport {
    fn size(&self) -> u64 {
        self.data.len() as u64
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn submit(&mut self, token: Token, op: Op) {
        let extra = self.run(op);
        self.done.push(Done {
            token,
            result: Ok(extra),
        });
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        done.append(&mut self.done);
    }
}
