//! The driver: the hot path, what bounds it, and which task does everything else.
//!
//! Hot is a plain read or write: one call of librados, whose state is a slot.
//!
//! ```text
//!   submit -> backlog -> slot or task -> librados -> mailbox -> poll -> done
//!            (only when too many bytes are with librados)
//! ```
//!
//! Unsafe lives here: a slot owns the buffer of its operation until the call back was taken; `drop`
//! waits for it.

use crate::completions::{Completions, Event};
use crate::config::OpenError;
use crate::core::{Answer, CUT_OFF, Core, ObjectName, check};
use crate::locks::Neighbours;
use crate::table::Owner;
use crate::timeouts;
use driver::{Buf, Capabilities, Detail, Done, Driver, Errno, Name, Op, OpId, Reply, Tag};
use std::collections::VecDeque;
use std::rc::Rc;

/// The longest read, write or hash, in bytes: OSDs take writes of up to 90 MiB.
const MAX_IO: usize = 64 << 20;

/// How many bytes of reads and writes librados may have at once; it copies what is written.
const MAX_BYTES: usize = 128 << 20;

/// The driver over a pool.
pub struct Radosd {
    core: Rc<Core>,
    completions: Completions,
    events: Vec<Event>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    backlog: VecDeque<(OpId, Op)>,
    bytes: usize,
    in_flight: usize,
    id: String,
    neighbours: Neighbours,
}

/// One hot operation in flight.
struct Slot {
    id: OpId,
    name: Name,
    offset: u64,
    buf: Buf,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write { tag: Tag, durable: bool },
}

impl Radosd {
    pub(crate) fn new(
        core: Rc<Core>,
        completions: Completions,
        id: String,
        neighbours: Neighbours,
    ) -> Radosd {
        Radosd {
            neighbours,
            core,
            completions,
            events: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            bytes: 0,
            in_flight: 0,
            id,
        }
    }

    /// The pool's identity, to be given as [`Config::expected_id`](crate::Config::expected_id) the
    /// next time: the cluster's id and the pool's number, in one word.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn start(&mut self, id: OpId, op: Op) {
        self.bytes += bytes_of(&op);
        match op {
            Op::Read { name, offset, buf } if !buf.is_empty() => self.start_hot(Slot {
                id,
                name,
                offset,
                buf,
                kind: Kind::Read,
            }),
            Op::Write {
                name,
                offset,
                buf,
                tag,
                fresh: false,
                durable,
            } if !buf.is_empty() && self.may_write_at_once() => self.start_hot(Slot {
                id,
                name,
                offset,
                buf,
                kind: Kind::Write { tag, durable },
            }),
            op => self.spawn(id, op),
        }
    }

    /// Whether no change has to wait, or be looked at, before it is sent.
    fn may_write_at_once(&self) -> bool {
        let gate = &self.core.locks.gate;
        gate.is_open() && !gate.has_lost()
    }

    fn start_hot(&mut self, slot: Slot) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let slot = self.slots[at].insert(slot);
        let (memory, offset) = ((slot.buf.ptr(), slot.buf.len()), slot.offset);
        let name = ObjectName::new(&slot.name);
        let (name, pool) = (name.as_c_str(), &self.core.pool);
        let started = self.core.table.start_hot(at, |token| match slot.kind {
            // SAFETY: the slot owns the buffer, and stays until the call back was taken.
            Kind::Read => unsafe { pool.read(name, memory, offset, token) },
            // SAFETY: the slot owns the buffer.
            Kind::Write { .. } => unsafe { pool.write(name, (memory.0, memory.1), offset, token) },
        });
        if let Err(errno) = started {
            self.finish_hot(at, Err(errno));
        }
    }

    fn finish_hot(&mut self, at: usize, answer: Answer<u32>) {
        let slot = self.slots[at].take().expect("it was started");
        self.free.push(at);
        let (id, len, buf) = (slot.id, slot.buf.len(), slot.buf);
        match (slot.kind, answer) {
            (Kind::Read, Ok(count)) => buf.zero(count as usize..len),
            (Kind::Write { tag, durable }, Err(Errno::TIMEDOUT)) => {
                let (name, offset) = (slot.name, slot.offset);
                let again = Op::Write {
                    name,
                    offset,
                    buf,
                    tag,
                    fresh: false,
                    durable,
                };
                return self.spawn_timed_out(id, again);
            }
            _ => {}
        }
        let result = answer.map(|_| Reply::bytes(len as u64));
        let buf = Some(buf);
        self.core.answer(Done { id, result, buf });
    }

    fn spawn_timed_out(&self, id: OpId, op: Op) {
        let core = self.core.clone();
        self.core.executor.spawn(async move {
            let key = timeouts::key(&op).expect("a write changes something");
            if core.gives_up(key).await {
                core.serve(id, op).await;
            }
        });
    }

    fn spawn(&self, id: OpId, op: Op) {
        let core = self.core.clone();
        self.core
            .executor
            .spawn(async move { core.serve(id, op).await });
    }

    /// Lets tasks go on whose calls have ended.
    pub(crate) fn turn(&mut self) {
        self.take_events();
    }

    fn take_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.completions.take(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Completed { token, result } => {
                    self.core.locks.waits.landed(token, result);
                    if let Owner::Hot(slot) = self.core.table.end(token, result) {
                        self.finish_hot(slot, check(result));
                    }
                }
                Event::Notified { handle, notify } => self.core.notified(handle, notify),
            }
        }
        self.events = events;
        if self.neighbours.changed() {
            self.core.members_changed();
        }
    }

    fn start_backlog(&mut self) {
        while let Some((_, op)) = self.backlog.front() {
            if self.bytes > 0 && self.bytes + bytes_of(op) > MAX_BYTES {
                return;
            }
            let (id, op) = self.backlog.pop_front().expect("it was there");
            self.start(id, op);
        }
    }
}

impl Core {
    /// Answers, unless the client was cut off.
    pub(crate) fn answer(&self, done: Done) {
        if matches!(&done.result, Err(errno) if *errno == CUT_OFF) {
            self.cut_off();
        }
        if self.lost.borrow().is_none() {
            self.done.borrow_mut().push(done);
        }
    }

    /// Does an operation to its end, as often as it takes.
    async fn serve(self: Rc<Self>, id: OpId, mut op: Op) {
        if changes_something(&op) && !self.passes_gate().await {
            let born_ns = self.born_ns;
            return self.fail(id, op, born_ns).await;
        }
        loop {
            let result = self.execute(&mut op).await;
            let key = match result {
                Err(Errno::TIMEDOUT) => timeouts::key(&op),
                _ => None,
            };
            let Some(key) = key else {
                let buf = buf_of(op);
                return self.answer(Done { id, result, buf });
            };
            if !self.gives_up(key).await {
                return;
            }
        }
    }

    /// Nothing of this client is in flight any more.
    fn end(&self) {
        if let Err(why) = self.locks.registry.end() {
            let file = self.locks.registry.file().display();
            tracing::error!(%file, %why, "cannot be written");
        }
    }

    /// Does an operation once; its memory is in it again afterwards.
    async fn execute(self: &Rc<Self>, op: &mut Op) -> Answer<Reply> {
        let is_lost = |tag| self.is_lost(tag);
        if changes_something(op) && tag_of(op).is_some_and(is_lost) {
            return Err(Errno::STALE);
        }
        match op {
            Op::Read { name, offset, buf } => {
                let memory = std::mem::replace(buf, Buf::empty());
                let (answer, memory) = self.read(name, *offset, memory).await;
                *buf = memory;
                answer
            }
            Op::Write {
                name,
                offset,
                buf,
                fresh,
                ..
            } => {
                let memory = std::mem::replace(buf, Buf::empty());
                let (answer, memory) = self.write(name, *offset, memory, *fresh).await;
                *buf = memory;
                answer
            }
            Op::Zeroes {
                name, offset, len, ..
            } => self.zeroes(name, *offset, *len).await,
            Op::Truncate {
                name, size, fresh, ..
            } => self.set_size(name, *size, *fresh).await,
            Op::Copy { src, dst, max, .. } => self.copy(src, dst, *max).await,
            Op::Delete { name, .. } => self.delete(name).await,
            Op::Info { name } => self.info(name).await,
            Op::Hash {
                name,
                offset,
                size,
                algorithm,
            } => self.hash(name, (*offset, *size), *algorithm).await,
            Op::List { cursor, max } => self.list(*cursor, *max).await,
            // A pool has no paths, so no older ones.
            Op::Migrate { .. } => Ok(Detail::Moved(Box::default()).into()),
            Op::Acquire { name } => self.acquire(name).await,
            Op::Release { name, force } => self.release(name, *force).await,
            Op::LockInfo { name } => self.lock_info(name).await,
            Op::Sync { tag } => self.sync(*tag).await.map(|()| Reply::default()),
            Op::Forget { .. } => Ok(Reply::default()),
        }
    }
}

impl Driver for Radosd {
    fn submit(&mut self, id: OpId, op: Op) {
        self.in_flight += 1;
        if let Err(errno) = check_range(&op) {
            self.bytes += bytes_of(&op);
            let (result, buf) = (Err(errno), buf_of(op));
            self.core.done.borrow_mut().push(Done { id, result, buf });
            return;
        }
        if let Some(since_ns) = self.core.failed_before(id, &op) {
            self.bytes += bytes_of(&op);
            let failing = self.core.clone().fail(id, op, since_ns);
            self.core.executor.spawn(failing);
            return;
        }
        self.backlog.push_back((id, op));
        self.start_backlog();
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        self.take_events();
        done.append(&mut self.core.done.borrow_mut());
        let ended = &done[before..];
        self.in_flight -= ended.len();
        let buffers = ended.iter().flat_map(|done| &done.buf);
        self.bytes -= buffers.map(Buf::len).sum::<usize>();
        self.core.note_answers(ended);
        self.start_backlog();
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "rados",
            alignment: 1,
            size_multiple: 1,
            max_io: MAX_IO,
            write_through: true,
            fences: true,
            hears: true,
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// As far as we know; RADOS itself refuses us when it is not so.
    fn lock_is_held(&mut self, volume: &Name) -> bool {
        self.core.lost.borrow().is_none() && self.core.locks.is_held(volume)
    }

    fn await_lock(&mut self, volume: &Name) {
        self.core.watch_lock(volume);
    }

    fn freed_locks(&mut self, volumes: &mut Vec<Name>) {
        self.core.locks.waits.take_freed(volumes);
    }

    fn lost(&self) -> Option<String> {
        self.core.lost.borrow().clone()
    }
}

impl Drop for Radosd {
    /// librados still writes to the buffers of what is in flight, so that is given up: the calls
    /// back come at once, though it may still land, as after a death.
    fn drop(&mut self) {
        let in_order = self.in_flight == 0 && self.core.lost.borrow().is_none();
        self.core.end_watches();
        self.core.table.cancel(&self.core.pool);
        let until = self.core.env.clock.now_ns() + PATIENCE_NS;
        while self.core.table.count() > 0 {
            let left = until.saturating_sub(self.core.env.clock.now_ns());
            if left == 0 {
                // An OSD that is away: what librados still has must stay where it is.
                std::mem::forget(self.core.clone());
                return;
            }
            if let Err(error) = self.completions.wait(left) {
                panic!("io_uring cannot be waited for: {error}");
            }
            self.take_events();
            // Some may stand only now.
            self.core.end_watches();
        }
        if in_order {
            self.core.end();
        }
    }
}

/// How long `drop` waits for the calls back, in nanoseconds.
const PATIENCE_NS: u64 = 5_000_000_000;

/// An object that never exists.
pub(crate) const NOTHING: &str = ".archipelago-nothing";

/// Whether the gate holds it back: changes of objects, but not of locks.
fn changes_something(op: &Op) -> bool {
    matches!(
        op,
        Op::Write { .. }
            | Op::Zeroes { .. }
            | Op::Truncate { .. }
            | Op::Copy { .. }
            | Op::Delete { .. }
            | Op::Hash { .. }
    )
}

/// The volume that a change is of.
fn tag_of(op: &Op) -> Option<Tag> {
    match op {
        Op::Write { tag, .. }
        | Op::Zeroes { tag, .. }
        | Op::Truncate { tag, .. }
        | Op::Copy { tag, .. } => Some(*tag),
        _ => None,
    }
}

/// What counts against [`MAX_BYTES`]; it comes back with the buffer.
fn bytes_of(op: &Op) -> usize {
    match op {
        Op::Read { buf, .. } | Op::Write { buf, .. } => buf.len(),
        _ => 0,
    }
}

pub(crate) fn buf_of(op: Op) -> Option<Buf> {
    match op {
        Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
        _ => None,
    }
}

/// No range passes the largest offset.
fn check_range(op: &Op) -> Answer<()> {
    let (offset, len) = match op {
        Op::Read { offset, buf, .. } | Op::Write { offset, buf, .. } => (*offset, buf.len() as u64),
        Op::Zeroes { offset, len, .. } => (*offset, *len),
        Op::Truncate { size, .. } => (*size, 0),
        Op::Hash { offset, size, .. } if *size > MAX_IO as u64 || *offset > i64::MAX as u64 => {
            return Err(Errno::INVAL);
        }
        _ => return Ok(()),
    };
    let end = offset
        .checked_add(len)
        .filter(|end| *end <= i64::MAX as u64);
    end.map(drop).ok_or(Errno::INVAL)
}

impl Radosd {
    /// Opens a pool, on the reactor of this thread. Blocks for some round trips, and no longer than
    /// the timeouts of `ceph.conf` (10 s for the monitors, where it says nothing).
    pub fn open(config: crate::Config, reactor: &reactor::Reactor) -> Result<Radosd, OpenError> {
        crate::open::open(config, reactor)
    }
}
