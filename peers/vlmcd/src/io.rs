//! Reads, writes, trims and zeroes: from a range of a volume to parts of objects and back.

use crate::blockmap::Block;
use crate::op::{Once, Op, Stage, Token};
use crate::peer::Vlmcd;
use crate::volume::Volume;
use std::ops::Range;
use xseg::protocol::{MapReply, MapSegment, Operation, flags, mapflags};
use xseg::slot::Address;
use xseg::{Answer, Name, Request};

/// At most so many parts of one request are under way.
const FANOUT: u32 = 64;
/// Mapperd is asked about so many blocks at once.
const WINDOW_BLOCKS: u64 = 64;
/// How much is asked about while the block size is not known: few blocks, whatever their size.
const FIRST_ASK: u64 = 4096;
/// How often a request begins anew before it gives up.
const ROUNDS_MAX: u32 = 64;

/// What is known of the volume that an operation touches.
#[derive(Clone, Copy)]
struct Geometry {
    size: u64,
    block_size: u64,
}

/// Where a part is.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives on the stack, for one part"
)]
enum Place {
    Unknown,
    Zero,
    Object {
        name: Name,
        writable: bool,
        archip: bool,
    },
}

impl Vlmcd {
    fn geometry(&mut self, index: u32) -> Option<Geometry> {
        let now = self.env.clock.now_ns();
        let (op, volume) = self.op_and_volume(index);
        if let Some(once) = &op.once {
            return Some(Geometry {
                size: once.size,
                block_size: once.block_size,
            });
        }
        volume.lease_is_good(now).then_some(Geometry {
            size: volume.size,
            block_size: volume.block_size,
        })
    }

    /// Goes on with operation `index`: asks what is not known, then sends its parts.
    pub(crate) fn route(&mut self, index: u32) {
        let Some(geometry) = self.geometry(index) else {
            return self.ask_map(index, None);
        };
        if self.op(index).range.end > geometry.size {
            return self.fail(index, libc::EINVAL);
        }
        self.op(index).stage = Stage::Parts;
        self.issue(index, geometry);
    }

    /// Sends parts until the operation is through, its share is used up, or something is unknown.
    fn issue(&mut self, index: u32, geometry: Geometry) {
        loop {
            let op = self.op(index);
            if op.errno != 0 || op.stale || op.missing || op.next >= op.range.end {
                break;
            }
            if op.parts >= FANOUT {
                return;
            }
            let block = op.next / geometry.block_size;
            let end = ((block + 1).saturating_mul(geometry.block_size)).min(op.range.end);
            let part = op.next..end;
            let sent = match self.op(index).request.operation() {
                Some(Operation::Read) => self.read_part(index, block, &part, geometry),
                Some(Operation::Write) => self.write_part(index, block, &part, geometry),
                _ => self.zero_part(index, block, &part, geometry),
            };
            match sent {
                Sent::Done => {
                    let op = self.op(index);
                    op.next = part.end;
                    op.asks = 0;
                }
                Sent::Stalled => return,
                Sent::Unknown if self.op(index).parts > 0 => return,
                Sent::Unknown => return self.ask_map(index, Some(geometry)),
                Sent::Failed(errno) => self.op(index).errno = errno,
            }
        }
        if self.op(index).parts == 0 {
            self.round_over(index);
        }
    }

    fn place(&mut self, index: u32, block: u64) -> Place {
        let (op, volume) = self.op_and_volume(index);
        if let Some(once) = &op.once {
            return once.place(block);
        }
        match volume.map.get(block) {
            None => Place::Unknown,
            Some(Block { zero: true, .. }) => Place::Zero,
            Some(found) => Place::Object {
                name: volume.map.object(block, found),
                writable: found.writable,
                archip: found.archip,
            },
        }
    }

    fn read_part(&mut self, index: u32, block: u64, part: &Range<u64>, g: Geometry) -> Sent {
        match self.place(index, block) {
            Place::Unknown => Sent::Unknown,
            Place::Zero => {
                self.zero_fill(index, part);
                Sent::Done
            }
            Place::Object { name, archip, .. } => {
                self.send_part(index, Operation::Read, name, block, part, g, archip)
            }
        }
    }

    fn write_part(&mut self, index: u32, block: u64, part: &Range<u64>, g: Geometry) -> Sent {
        match self.place(index, block) {
            Place::Object {
                name,
                writable: true,
                archip,
            } => self.send_part(index, Operation::Write, name, block, part, g, archip),
            _ => Sent::Unknown,
        }
    }

    /// A part of ZEROES or DISCARD: what is zero stays so; what is the volume's own is emptied or
    /// punched; what is shared is left alone by DISCARD and replaced by ZEROES. A snapshot refuses
    /// both, also where they would change nothing.
    fn zero_part(&mut self, index: u32, block: u64, part: &Range<u64>, g: Geometry) -> Sent {
        if self.op_and_volume(index).1.readonly {
            return Sent::Failed(libc::EROFS);
        }
        let discard = self.op(index).request.operation() == Some(Operation::Discard);
        match self.place(index, block) {
            Place::Zero => Sent::Done,
            Place::Object {
                name,
                writable: true,
                archip,
            } => {
                let operation = if is_whole(part, g) {
                    Operation::Truncate
                } else {
                    Operation::Zeroes
                };
                self.send_part(index, operation, name, block, part, g, archip)
            }
            Place::Object { .. } if discard => Sent::Done,
            _ => Sent::Unknown,
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one part is described by so much"
    )]
    fn send_part(
        &mut self,
        index: u32,
        operation: Operation,
        object: Name,
        block: u64,
        part: &Range<u64>,
        geometry: Geometry,
        archip: bool,
    ) -> Sent {
        let write_through = self.settings.write_through;
        let (op, volume) = self.op_and_volume(index);
        // A change without a lease would be fenced by nobody.
        if operation != Operation::Read && (op.once.is_some() || volume.lease == 0) {
            return Sent::Failed(libc::ESTALE);
        }
        op.block_size = geometry.block_size;
        let first = op.range.start / geometry.block_size;
        let len = part.end - part.start;
        let carries = matches!(operation, Operation::Read | Operation::Write);
        let durability = if write_through || op.request.has(flags::FUA) {
            flags::FUA
        } else {
            flags::VOLATILE
        };
        let at = op.request.data.offset + (part.start - op.range.start);
        let request = Request {
            flags: durability,
            // TRUNCATE: the new size.
            offset: match operation {
                Operation::Truncate => 0,
                _ => part.start % geometry.block_size,
            },
            size: if operation == Operation::Truncate {
                0
            } else {
                len
            },
            data: Address {
                region: op.request.data.region,
                offset: at,
            },
            datalen: if carries { len } else { 0 },
            tag: volume.tag,
            lease: if op.once.is_some() { 0 } else { volume.lease },
            root: op.request.root,
            ..Request::new(operation, object)
        };
        let token = Token {
            op: index,
            part: (block - first) as u32,
            archip,
        };
        match self.send(self.settings.blocker_port, &request, token) {
            Ok(true) => {
                self.op(index).parts += 1;
                Sent::Done
            }
            Ok(false) => Sent::Stalled,
            Err(errno) => Sent::Failed(errno),
        }
    }

    /// A part was answered.
    pub(crate) fn part_done(&mut self, token: Token, answer: Answer) {
        let op = self.op(token.op);
        op.parts -= 1;
        let operation = op.request.operation();
        let reads = operation == Some(Operation::Read);
        match answer.errno as i32 {
            0 if op.is_short(token.part, answer.serviced) => op.errno = libc::EIO,
            0 => {}
            libc::ESTALE => op.stale = true,
            // An object that trim or zeroes do not find reads as zeros already.
            libc::ENOENT if !reads && operation != Some(Operation::Write) => {}
            libc::ENOENT if reads && op.asked_again && token.archip => {
                self.missing_part(token);
            }
            libc::ENOENT if reads && !op.asked_again => op.missing = true,
            libc::ENOENT => self.lost_part(token),
            errno => op.errno = errno,
        }
        self.carry_on(token.op);
    }

    /// Goes on after a part was answered, or when a slot may be free again.
    fn carry_on(&mut self, index: u32) {
        let op = self.op(index);
        let broken = op.errno != 0 || op.stale || op.missing;
        if broken {
            if op.parts == 0 {
                self.round_over(index);
            }
            return;
        }
        if op.next < op.range.end {
            return self.route_again(index);
        }
        if op.parts == 0 {
            self.round_over(index);
        }
    }

    fn route_again(&mut self, index: u32) {
        match self.geometry(index) {
            Some(geometry) => self.issue(index, geometry),
            // The map was forgotten meanwhile: ask again once the parts under way are answered.
            None if self.op(index).parts == 0 => self.ask_map(index, None),
            None => {}
        }
    }

    /// Every part that was sent is answered: done, failed, or to begin anew.
    fn round_over(&mut self, index: u32) {
        let (op, volume) = self.op_and_volume(index);
        if op.errno != 0 {
            let errno = op.errno;
            return self.fail(index, errno);
        }
        if !(op.stale || op.missing) {
            return self.parts_over(index);
        }
        if op.rounds >= ROUNDS_MAX {
            return self.fail(index, libc::EIO);
        }
        op.asked_again |= op.missing;
        let stale = op.stale;
        if stale {
            // Another operation may have forgotten it already.
            op.refused = volume.lease.max(1);
        }
        op.restart();
        volume.forget_map();
        self.counters.stale_leases += u64::from(stale);
        self.route(index);
    }

    /// Everything landed: what must be durable when answered takes the map along.
    fn parts_over(&mut self, index: u32) {
        let write_through = self.settings.write_through;
        let (op, volume) = self.op_and_volume(index);
        let size = op.request.size;
        if op.request.operation() == Some(Operation::Read) {
            self.counters.reads += 1;
            return self.finish(index, Answer::served(size));
        }
        let durable = write_through || op.request.has(flags::FUA);
        if durable && (volume.dirty_map || volume.map_syncs > 0) {
            self.counters.writes += 1;
            return self.sync_map(index);
        }
        if !durable {
            volume.dirty_data = true;
        }
        self.counters.writes += 1;
        self.finish(index, Answer::served(size));
    }

    fn missing_part(&mut self, token: Token) {
        if self.geometry(token.op).is_none() {
            self.op(token.op).missing = true;
            return;
        }
        self.counters.missing_objects += 1;
        let op = self.op(token.op);
        let part = op.part(token.part);
        let block = part.start / op.block_size;
        tracing::warn!(volume = %op.request.target, block, "an object is missing, it reads as zeros");
        self.zero_fill(token.op, &part);
    }

    /// An object that Archipelago did not make (Pithos did) is gone: that is no zero, it is lost
    /// data. Whoever asked hears of an I/O error; the log says of what.
    fn lost_part(&mut self, token: Token) {
        let op = self.op(token.op);
        op.errno = libc::EIO;
        let (volume, block) = (op.request.target, op.part(token.part).start / op.block_size);
        let object = match self.place(token.op, block) {
            Place::Object { name, .. } => name.to_string(),
            _ => "unknown".into(),
        };
        tracing::error!(%volume, block, object, "an object is missing, its data is lost");
    }

    fn zero_fill(&mut self, index: u32, part: &Range<u64>) {
        let desk = self.desk.clone();
        let op = self.op(index);
        let at = part.start - op.range.start;
        let incoming = op.incoming.as_ref();
        let data = incoming.and_then(|incoming| desk.data(incoming, &op.request));
        if let Some(place) = data.and_then(|d| d.slice(at, part.end - part.start)) {
            place.zero();
        }
    }

    // ---- the map ----

    /// Asks mapperd about what comes next; no part is under way.
    fn ask_map(&mut self, index: u32, geometry: Option<Geometry>) {
        let desk = self.desk.clone();
        let write_through = self.settings.write_through;
        let waits = self.op(index).patient && !self.gives_up(self.ops[index as usize].volume);
        let (op, volume) = self.op_and_volume(index);
        let Ok(scratch) = desk.scratch(MapReply::len_for(WINDOW_BLOCKS as usize + 2) as u64) else {
            return self.stall(index);
        };
        let (operation, range) = ask_range(op, volume, geometry);
        op.asks_to_write = operation == Operation::MapWrite;
        let whole = geometry.is_some_and(|g| {
            op.request.operation() == Some(Operation::Zeroes) && covers_whole(&range, op, g)
        });
        let mut asked = op.request.flags & flags::ASSUME_V0;
        if operation == Operation::MapWrite {
            asked |= if whole { flags::WHOLE } else { 0 };
            let durable = write_through || op.request.has(flags::FUA);
            asked |= if durable { flags::FUA } else { 0 };
            asked |= if waits { 0 } else { flags::NOSYNC };
        }
        let request = Request {
            flags: asked,
            offset: range.start,
            size: range.end - range.start,
            v0_size: op.request.v0_size,
            data: scratch.address(),
            datalen: scratch.len(),
            tag: volume.tag,
            // Mapperd looks at the lock before it gives another.
            lease: op.refused,
            attempt: op.request.attempt,
            root: op.request.root,
            ..Request::new(operation, op.request.target)
        };
        op.stage = Stage::Mapping;
        op.asked = range.start;
        op.scratch = Some(scratch);
        if operation == Operation::MapWrite && asked & flags::FUA == 0 {
            volume.dirty_map = true;
        }
        match self.send(self.settings.mapper_port, &request, Token::of(index)) {
            Ok(true) => {}
            Ok(false) => self.op(index).stage = Stage::Parts,
            Err(errno) => self.fail(index, errno),
        }
    }

    /// Mapperd said where the objects are.
    pub(crate) fn mapped(&mut self, index: u32, answer: Answer) {
        let scratch = self.op(index).scratch.take();
        match answer.errno as i32 {
            0 => {}
            libc::EBUSY if self.op(index).asks_to_write => return self.locked_out(index),
            errno => return self.fail(index, errno),
        }
        let reply = scratch.and_then(|s| MapReply::decode(&s.to_vec()).ok());
        let Some(reply) = reply.filter(|_| answer.block_size > 0) else {
            return self.fail(index, libc::EIO);
        };
        let now = self.env.clock.now_ns();
        let write_through = self.settings.write_through;
        let (op, volume) = self.op_and_volume(index);
        let current = volume.lease_granted(&answer, now);
        // Its entries may have been written after a sync that was under way began.
        let durable = write_through || op.request.has(flags::FUA);
        volume.dirty_map |= op.request.operation() != Some(Operation::Read) && !durable;
        op.refused = 0;
        op.asks += 1;
        let asks = op.asks;
        let first = op.asked / u64::from(answer.block_size);
        let frozen = |segment: &MapSegment| segment.flags & mapflags::FROZEN != 0;
        volume.readonly = reply.segments.iter().any(frozen);
        if answer.lease == 0 {
            op.once = Some(Once {
                first_block: first,
                block_size: answer.block_size.into(),
                size: answer.volume_size,
                segments: reply.segments,
            });
        } else {
            // What was said without a lease is older.
            op.once = None;
            if current {
                for (block, segment) in (first..).zip(&reply.segments) {
                    volume.map.learn(block, segment);
                }
            }
        }
        if volume.lease != 0 {
            volume.elsewhere = false;
            let at = op.volume;
            self.end_scouting(at);
        }
        if asks >= ROUNDS_MAX {
            return self.fail(index, libc::EIO);
        }
        self.route(index);
    }

    /// A slot may be free again. Whoever went on meanwhile, or ended, is left alone.
    pub(crate) fn unstall(&mut self, index: u32) {
        let op = &mut self.ops[index as usize];
        if !op.is_under_way() || !std::mem::take(&mut op.stalled) {
            return;
        }
        match op.stage {
            Stage::Parts if op.parts == 0 => self.route(index),
            Stage::Parts => self.carry_on(index),
            Stage::SyncData => self.flush(index),
            Stage::SyncMap => self.sync_map(index),
            Stage::Forwarded => self.forward(index),
            Stage::Mapping | Stage::Draining => {}
        }
    }
}

/// How the sending of a part went.
enum Sent {
    Done,
    Unknown,
    Stalled,
    Failed(i32),
}

impl Once {
    fn place(&self, block: u64) -> Place {
        let at = block
            .checked_sub(self.first_block)
            .and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| self.segments.get(at)) {
            None => Place::Unknown,
            Some(s) if s.flags & mapflags::ZERO != 0 => Place::Zero,
            Some(s) => Place::Object {
                name: s.name,
                writable: s.flags & mapflags::WRITABLE != 0,
                archip: s.flags & mapflags::ARCHIP != 0,
            },
        }
    }
}

/// Whether a part is all that its block has.
fn is_whole(part: &Range<u64>, g: Geometry) -> bool {
    let block = part.start / g.block_size;
    let end = ((block + 1).saturating_mul(g.block_size)).min(g.size);
    part.start == block * g.block_size && part.end == end
}

/// What mapperd is asked, and about which bytes.
fn ask_range(op: &Op, volume: &Volume, geometry: Option<Geometry>) -> (Operation, Range<u64>) {
    let Some(g) = geometry else {
        let end = op.range.end.min(op.next.saturating_add(FIRST_ASK));
        return (Operation::MapRead, op.next..end.max(op.next));
    };
    let window = WINDOW_BLOCKS * g.block_size;
    let block = op.next / g.block_size;
    let writes = match op.request.operation() {
        Some(Operation::Write) => true,
        Some(Operation::Zeroes) => volume.map.get(block).is_some() || op.once.is_some(),
        _ => false,
    };
    if !writes {
        let start = block / WINDOW_BLOCKS * window;
        return (
            Operation::MapRead,
            start..start.saturating_add(window).min(g.size),
        );
    }
    // Zeroes ask block by block: each is either whole, and need not be copied up, or not.
    let most = if op.request.operation() == Some(Operation::Zeroes) {
        (block + 1).saturating_mul(g.block_size)
    } else {
        (block * g.block_size).saturating_add(window)
    };
    (Operation::MapWrite, op.next..op.range.end.min(most))
}

fn covers_whole(range: &Range<u64>, op: &Op, g: Geometry) -> bool {
    let block = range.start / g.block_size;
    let end = ((block + 1).saturating_mul(g.block_size)).min(g.size);
    op.range.start <= block * g.block_size && range.end >= end
}
