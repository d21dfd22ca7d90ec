//! The driver: the hot path, and which task does everything else.
//!
//! Hot is a read or write of whole blocks, of an object whose descriptor is in the cache, that
//! nobody stands in the way of. It costs one lookup and one submission, allocates nothing, and its
//! state is a slot:
//!
//! ```text
//!   submit -> in flight -> completion -- all of it -> done
//!                ^             |
//!                +--- short ---+
//! ```
//!
//! Unsafe lives here: a slot owns the buffer and the open file of its submission, and is freed only
//! by the completion (or by `drop`, which waits for it).

#[cfg(test)]
mod tests;

use crate::core::Core;
use crate::dispatch::{MAX_IO, check_range};
use crate::fs::{self, Answer, check, clamp, is_passing};
use crate::object::Object;
use crate::spot::Way;
use driver::{Buf, Capabilities, Done, Driver, Errno, Name, Op, OpId, Reply, Tag};
use reactor::{Handler, opcode};
use std::ops::Range;
use std::rc::Rc;

/// Completions that are taken at once before the list of them has to grow.
const COMPLETIONS: usize = 256;

/// The driver over files.
pub struct Filed {
    core: Rc<Core>,
    handler: Handler,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    completions: Vec<(u64, i32, u32)>,
    in_flight: usize,
    /// Writes among the slots.
    ring_writes: usize,
    id: String,
}

/// One hot operation in flight.
struct Slot {
    id: OpId,
    object: Rc<Object>,
    buf: Buf,
    offset: u64,
    done: usize,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write { tag: Tag, durable: bool },
}

impl Filed {
    pub(crate) fn new(core: Rc<Core>, id: String) -> Filed {
        Filed {
            handler: core.fs.ring.handler(),
            core,
            slots: Vec::new(),
            free: Vec::new(),
            completions: Vec::with_capacity(COMPLETIONS),
            in_flight: 0,
            ring_writes: 0,
            id,
        }
    }

    /// The directory's id, to be given as [`Config::expected_id`](crate::Config) the next time.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it hot if it can be, and takes its memory; else leaves it as it is.
    fn submit_hot(&mut self, id: OpId, op: &mut Op) -> bool {
        let (name, offset, buf, kind) = match op {
            Op::Read { name, offset, buf } => (name, *offset, buf, Kind::Read),
            Op::Write {
                name,
                offset,
                buf,
                tag,
                fresh: false,
                durable,
            } => {
                let durable = self.core.must_be_durable(*tag, *durable);
                (name, *offset, buf, Kind::Write { tag: *tag, durable })
            }
            _ => return false,
        };
        if buf.is_empty() || !self.core.is_aligned(offset, buf) {
            return false;
        }
        let Some(object) = self.core.cache.borrow().get(name).cloned() else {
            return false;
        };
        if !self.may_be_hot(&object, offset, buf.len(), kind) {
            return false;
        }
        self.start(Slot {
            id,
            object,
            buf: std::mem::replace(buf, Buf::empty()),
            offset,
            done: 0,
            kind,
        });
        true
    }

    /// Takes the range of a write.
    fn may_be_hot(&self, object: &Rc<Object>, offset: u64, len: usize, kind: Kind) -> bool {
        let Kind::Write { durable, .. } = kind else {
            return true;
        };
        let tags = &self.core.tags;
        let needs_more =
            durable && (!tags.has_baseline() || tags.has_new_entry(object.place.get()));
        !needs_more && object.ranges.try_take(&(offset..offset + len as u64))
    }

    fn start(&mut self, mut slot: Slot) {
        if self.try_on_the_spot(&mut slot) {
            let done = self.finish(slot, Ok(()));
            self.core.done.borrow_mut().push(done);
            return;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.ring_writes += usize::from(slot.is_write());
        self.slots[at] = Some(slot);
        self.push(at);
    }

    /// Does it at once if that is quicker; false: what is left is for the ring, which also finds
    /// out again why the rest failed.
    fn try_on_the_spot(&self, slot: &mut Slot) -> bool {
        let way = match slot.kind {
            Kind::Read => Way::Read,
            Kind::Write { durable: false, .. } => Way::Write,
            Kind::Write { durable: true, .. } => return false,
        };
        let (spot, clock) = (&self.core.spot, &*self.core.env.clock);
        if !spot.takes(way, slot.buf.len(), clock) {
            return false;
        }
        let alone = self.ring_writes == 0;
        while slot.done < slot.buf.len() {
            let (memory, offset) = ((&slot.buf, slot.done), slot.offset + slot.done as u64);
            match spot.transfer(way, &slot.object.file, memory, offset, (clock, alone)) {
                Ok(more) if more > 0 => slot.done += more,
                // Only a read of nothing is the end of the file; a short one may be an error.
                Ok(_) => return way == Way::Read,
                Err(_) => return false,
            }
        }
        true
    }

    /// Submits what is left of a slot's operation.
    fn push(&mut self, at: usize) {
        let slot = self.slots[at].as_ref().expect("a slot in flight");
        let len = clamp(slot.buf.len() - slot.done);
        // SAFETY: `done` is at most the buffer's length, so the pointer stays inside it.
        let pointer = unsafe { slot.buf.ptr().add(slot.done) };
        let offset = slot.offset + slot.done as u64;
        let entry = match slot.kind {
            Kind::Read => opcode::Read::new(slot.object.fd(), pointer, len)
                .offset(offset)
                .build(),
            Kind::Write { durable, .. } => fs::write_entry(&slot.object, pointer, len, durable)
                .offset(offset)
                .build(),
        };
        // SAFETY: the slot owns the buffer and the open file, and stays until the completion.
        unsafe { self.handler.push(entry, at as u64) };
    }

    fn complete(&mut self, at: usize, result: i32) -> Option<Done> {
        let slot = self.slots[at].as_mut().expect("a completion has its slot");
        let answer = match check(result) {
            Err(errno) if is_passing(errno) => {
                self.push(at);
                return None;
            }
            Err(errno) => Err(errno),
            Ok(0) if matches!(slot.kind, Kind::Read) => Ok(()),
            Ok(0) => Err(Errno::IO),
            Ok(more) => {
                slot.done += more as usize;
                let ended = slot.done == slot.buf.len() || slot.is_at_end(self.core.fs.block);
                if !ended {
                    self.push(at);
                    return None;
                }
                Ok(())
            }
        };
        let slot = self.slots[at].take().expect("it was there");
        self.free.push(at);
        self.ring_writes -= usize::from(slot.is_write());
        Some(self.finish(slot, answer))
    }

    fn finish(&mut self, slot: Slot, answer: Answer<()>) -> Done {
        let len = slot.buf.len();
        match slot.kind {
            Kind::Read => slot.buf.zero(slot.done..len),
            Kind::Write { tag, durable } => {
                let range = slot.range();
                slot.object.ranges.give_back(&range);
                match answer {
                    Ok(()) if !durable => self.core.tags.dirty(tag, &slot.object),
                    Err(errno) => self.core.write_failed(errno, durable),
                    Ok(()) => {}
                }
            }
        }
        Done {
            id: slot.id,
            result: answer.map(|()| Reply::bytes(len as u64)),
            buf: Some(slot.buf),
        }
    }

    fn spawn(&self, id: OpId, op: Op) {
        let core = self.core.clone();
        self.core.executor.spawn(async move {
            let (result, buf) = core.clone().execute(op).await;
            core.done.borrow_mut().push(Done { id, result, buf });
        });
    }
}

impl Slot {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.buf.len() as u64
    }

    fn is_write(&self) -> bool {
        matches!(self.kind, Kind::Write { .. })
    }

    /// With O_DIRECT a read ends inside a block only at the end of the file.
    fn is_at_end(&self, block: u64) -> bool {
        matches!(self.kind, Kind::Read) && !(self.done as u64).is_multiple_of(block)
    }
}

impl Driver for Filed {
    fn submit(&mut self, id: OpId, mut op: Op) {
        self.in_flight += 1;
        if let Err(errno) = check_range(&op) {
            let buf = match op {
                Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
                _ => None,
            };
            let result = Err(errno);
            self.core.done.borrow_mut().push(Done { id, result, buf });
        } else if !self.submit_hot(id, &mut op) {
            self.spawn(id, op);
        }
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        let mut completions = std::mem::take(&mut self.completions);
        self.handler.take(&mut completions);
        for (at, result, _) in completions.drain(..) {
            done.extend(self.complete(at as usize, result));
        }
        self.completions = completions;
        done.append(&mut self.core.done.borrow_mut());
        self.in_flight -= done.len() - before;
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "files",
            alignment: self.core.fs.block as usize,
            size_multiple: self.core.fs.block,
            max_io: MAX_IO,
            write_through: self.core.write_through,
            fences: false,
            hears: false,
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whoever asks waits for their end.
    fn moving(&self) -> usize {
        self.core.moves.hurry();
        self.core.moves.count()
    }

    fn lock_is_held(&mut self, volume: &Name) -> bool {
        self.core.locks.is_held(volume)
    }
}

impl Drop for Filed {
    /// The kernel still writes to the buffers of what is in flight.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.slots.iter().any(Option::is_some) {
            self.poll(&mut done);
            if let Err(error) = self.handler.ring().wait(None) {
                panic!("io_uring cannot be waited for: {error}");
            }
        }
    }
}
