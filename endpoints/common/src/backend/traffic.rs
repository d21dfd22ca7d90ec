//! Sending operations to the node, and landing its answers.

use super::flight::Flight;
use super::stages::{ERRAND, End, Stage};
use super::{Backend, Completion, Op, Outcome, Stretch};
use client::{Core, Done};
use std::time::Duration;
use xseg::protocol::{MapReply, Operation, PortNo, flags, mapflags};
use xseg::{Extent, Request};

/// How soon a request is tried again that found no slot or buffer: other clients have them.
pub(super) const STARVED: Duration = Duration::from_millis(2);
/// How soon one is tried again whose port nobody serves.
const UNSERVED: Duration = Duration::from_millis(20);
/// Most of a volume that one question about its map is about.
const MAP_LEN_MAX: u64 = 256 << 20;
/// Room for an answer about that much with blocks of 4 MiB; the node makes more.
const MAP_ROOM: u64 = 32 << 10;

/// Why an operation was not sent.
enum Held {
    /// Try again after a while.
    Later(Duration),
    /// It will never be.
    Failed(i32),
}

impl Backend {
    /// Sends as much of the queue as goes.
    pub(super) fn pump(&mut self) {
        while let Some(&index) = self.queue.front() {
            let Some(flight) = self.flights.get(index) else {
                self.queue.pop_front();
                continue;
            };
            let Some(core) = self.line.core() else { return };
            if flight.again && flight.op == Op::Flush && core.under_way() > 0 {
                return;
            }
            let epoch = self.line.epoch();
            let Some(core) = self.line.core() else { return };
            match send(core, flight, epoch, &self.volume, index) {
                Ok(()) => flight.sent = true,
                Err(Held::Failed(errno)) => self.complete(index, Err(errno)),
                Err(Held::Later(wait)) => return self.look_again(wait),
            }
            self.queue.pop_front();
        }
    }

    /// Takes in what the node has answered.
    pub(super) fn collect(&mut self) {
        let Some(core) = self.line.core() else { return };
        let mut done = std::mem::take(&mut self.done);
        let errand = self.errand.is_some();
        if core.poll(&mut done) {
            for one in done.drain(..) {
                match one.token {
                    ERRAND => self.errand_done(one),
                    _ => self.land(one),
                }
            }
        }
        self.done = done;
        if errand || !self.queue.is_empty() || !self.stage.is_running() {
            self.advance();
        }
    }

    fn land(&mut self, done: Done) {
        let index = done.token as u32;
        let Some(flight) = self.flights.get(index) else {
            return;
        };
        let result = done
            .answer
            .result()
            .and_then(|serviced| outcome(flight, &done, serviced));
        if let (Some(shadow), Some((data, _)), Op::Read { .. }) =
            (&flight.shadow, &flight.data, flight.op)
        {
            copy(shadow, data, shadow.len());
        }
        let ours = match flight.op {
            Op::Map { .. } => done.data,
            _ => flight.shadow.take(),
        };
        if let Some(core) = self.line.core() {
            for buffer in ours.iter().chain(&done.larger) {
                core.give_buffer_back(buffer);
            }
        }
        if result == Err(libc::ESTALE) {
            self.tell_of_loss();
        }
        match result {
            Err(libc::EBUSY) if self.stage == Stage::Draining(End::Freeze) => self.put_back(index),
            result => self.complete(index, result),
        }
    }

    /// Says once why operations fail from now on.
    fn tell_of_loss(&mut self) {
        if !std::mem::replace(&mut self.lock_lost, true) {
            tracing::error!(
                "the lock of volume \"{}\" was broken, so requests fail until it is unmapped and \
                 mapped again; `vlmc status` tells who has it",
                self.volume.name
            );
        }
    }

    /// An operation that the node has not begun is to be sent again, in its old place.
    fn put_back(&mut self, index: u32) {
        let Some(flight) = self.flights.get(index) else {
            return;
        };
        flight.sent = false;
        let number = flight.number;
        let flights = &mut self.flights;
        let mut is_later = |other: &u32| flights.get(*other).is_some_and(|f| f.number > number);
        let later = self.queue.iter().position(&mut is_later);
        self.queue.insert(later.unwrap_or(self.queue.len()), index);
    }

    pub(super) fn complete(&mut self, index: u32, result: Result<Outcome, i32>) {
        if let Some(flight) = self.flights.remove(index) {
            self.completions.push(Completion {
                token: flight.token,
                result,
            });
        }
    }

    /// Ends everything that no node has.
    pub(super) fn fail_queue(&mut self) {
        while let Some(index) = self.queue.pop_front() {
            self.complete(index, Err(libc::EIO));
        }
    }

    /// The node and all its answers are gone: what it had is sent again.
    pub(super) fn recall(&mut self) {
        for index in self.flights.recall().into_iter().rev() {
            self.queue.push_front(index);
        }
    }

    /// Nothing is at the node.
    pub(super) fn is_quiet(&self) -> bool {
        debug_assert!(!matches!(self.stage, Stage::Running));
        self.flights.sent() == 0
    }
}

fn outcome(flight: &Flight, done: &Done, serviced: u64) -> Result<Outcome, i32> {
    match flight.op {
        Op::Read { len, .. } | Op::Write { len, .. } if serviced < len => Err(libc::EIO),
        Op::Map { .. } => stretches(done).map(Outcome::Map).ok_or(libc::EIO),
        _ => Ok(Outcome::Done),
    }
}

fn stretches(done: &Done) -> Option<Vec<Stretch>> {
    let map = MapReply::decode(&done.reply()?.to_vec()).ok()?;
    let stretch = |s: &xseg::protocol::MapSegment| Stretch {
        len: s.size,
        hole: s.flags & mapflags::ZERO != 0,
    };
    Some(map.segments.iter().map(stretch).collect())
}

fn send(
    core: &mut Core,
    flight: &mut Flight,
    epoch: u32,
    volume: &super::Volume,
    index: u32,
) -> Result<(), Held> {
    let (port, request) = request(flight.op, volume);
    let data = match flight.op {
        Op::Read { .. } | Op::Write { .. } => Some(data(core, flight, epoch, request.size)?),
        Op::Map { .. } => Some(core.take_buffer(MAP_ROOM).ok_or(Held::Later(STARVED))?),
        _ => None,
    };
    let request = volume.hinted(request);
    let Err((errno, data)) = core.submit(port, &request, data, u64::from(index)) else {
        return Ok(());
    };
    if matches!(flight.op, Op::Map { .. }) {
        data.iter().for_each(|buffer| core.give_buffer_back(buffer));
    }
    match errno {
        libc::EAGAIN => Err(Held::Later(STARVED)),
        libc::ENXIO => Err(Held::Later(UNSERVED)),
        errno => Err(Held::Failed(errno)),
    }
}

/// The buffer that goes to the node: the endpoint's, or what stands for it there.
fn data(core: &mut Core, flight: &mut Flight, epoch: u32, len: u64) -> Result<Extent, Held> {
    let Some((data, of)) = &flight.data else {
        return Err(Held::Failed(libc::EINVAL));
    };
    let data = data.slice(0, len).ok_or(Held::Failed(libc::EINVAL))?;
    if *of == epoch {
        return Ok(data);
    }
    if flight.shadow.is_none() {
        let shadow = core.take_buffer(len).ok_or(Held::Later(STARVED))?;
        if matches!(flight.op, Op::Write { .. }) {
            copy(&data, &shadow, len);
        }
        flight.shadow = Some(shadow);
    }
    flight.shadow.clone().ok_or(Held::Failed(libc::EINVAL))
}

fn request(op: Op, volume: &super::Volume) -> (PortNo, Request) {
    let (operation, offset, size, fua) = match op {
        Op::Read { offset, len } => (Operation::Read, offset, len, false),
        Op::Write { offset, len, fua } => (Operation::Write, offset, len, fua),
        Op::Flush => (Operation::Flush, 0, 0, false),
        Op::Discard { offset, len } => (Operation::Discard, offset, len, false),
        Op::Zeroes { offset, len, fua } => (Operation::Zeroes, offset, len, fua),
        Op::Map { offset, len } => (Operation::MapRead, offset, len.min(MAP_LEN_MAX), false),
    };
    let (port, peek) = match op {
        Op::Map { .. } => (volume.ports.mapperd, flags::PEEK),
        _ => (volume.ports.vlmcd, 0),
    };
    let fua = if fua { flags::FUA } else { 0 };
    (
        port,
        Request {
            offset,
            size,
            flags: fua | peek,
            ..Request::new(operation, volume.name)
        },
    )
}

/// Copies `len` bytes between two buffers, as far as both have them.
pub(super) fn copy(from: &Extent, to: &Extent, len: u64) {
    let len = len.min(from.len()).min(to.len()) as usize;
    // SAFETY: an extent's range was checked when it was made and stays mapped while the extent
    // lives; they are two buffers, or parts in two segments, so they do not overlap; no reference
    // is made to bytes that other processes may change.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), len) };
}
