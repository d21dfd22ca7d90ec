//! The peer: a table of operations between its desk and its driver.

use crate::fence::Fences;
use crate::parse::{self, Context, Keep};
use crate::reply;
use crate::waiters::{RETRY_NS, Waiters};
use driver::{Detail, Done, Driver, Errno, HashAlgorithm, Op, OpId, Tag};
use reactor::{Env, Executor, Timers};
use runtime::{Desk, LeaseTerm, Peer, volume_tag};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use xseg::protocol::{Operation, flags};
use xseg::seat::{PRIVATE, PUBLIC};
use xseg::{Answer, Incoming, Name, Request};

/// How a blocker is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The role, for logs and STATUS.
    pub role: String,
    /// At most so many operations are with the driver; others queue.
    pub nr_ops: usize,
    /// How HASH hashes.
    pub hash_algorithm: HashAlgorithm,
    /// How long a lease is good for.
    pub lease_term: LeaseTerm,
}

/// What is with the driver.
struct Flight {
    incoming: Incoming,
    request: Request,
    step: Step,
}

enum Step {
    /// The request's own operation.
    Own,
    /// The lock is looked up first, because this instance never saw it taken.
    Relock,
    /// The lock turned out not to be ours: what was just taken is given back.
    Unlock,
}

#[derive(Default, serde::Serialize)]
pub(crate) struct Counters {
    pub(crate) served: u64,
    failed: u64,
    bytes_read: u64,
    bytes_written: u64,
    refused_stale: u64,
    lost_locks: u64,
    /// Those who waited for a lock and were told by the driver, not by the clock.
    pub(crate) waits_heard: u64,
}

/// The blocker.
pub struct Blocker {
    settings: Settings,
    pub(crate) desk: Desk,
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) env: Env,
    pub(crate) timers: Timers,
    pub(crate) executor: Executor,
    keep: Keep,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    backlog: VecDeque<(Incoming, Request)>,
    fences: Fences,
    pub(crate) waiters: Waiters,
    pub(crate) alarm: Option<u64>,
    /// The volumes whose lock this instance knows to be ours.
    locks: HashSet<driver::Name>,
    done: Vec<Done>,
    pub(crate) counters: Counters,
    pub(crate) stopping: bool,
}

impl Blocker {
    /// A blocker at `desk` over `driver`.
    pub fn new(
        settings: Settings,
        desk: Desk,
        driver: Box<dyn Driver>,
        env: Env,
        timers: Timers,
        executor: Executor,
    ) -> Blocker {
        let segments: Arc<Vec<_>> = desk
            .with_seat(|seat| {
                [PUBLIC, PRIVATE]
                    .iter()
                    .filter_map(|&r| seat.segment(r).cloned())
                    .collect::<Vec<_>>()
            })
            .into();
        let nr_ops = settings.nr_ops.max(1);
        let fences = Fences::new(env.clock.now_ns(), settings.lease_term);
        Blocker {
            settings,
            desk,
            driver,
            env,
            timers,
            executor,
            keep: Keep(segments),
            flights: (0..nr_ops).map(|_| None).collect(),
            free: (0..nr_ops).rev().collect(),
            backlog: VecDeque::new(),
            fences,
            waiters: Waiters::default(),
            alarm: None,
            locks: HashSet::new(),
            done: Vec::new(),
            counters: Counters::default(),
            stopping: false,
        }
    }

    fn fail(&mut self, incoming: Incoming, errno: i32) {
        self.counters.failed += 1;
        self.desk.answer(incoming, Answer::failed(errno));
    }

    /// Serves what needs no driver; gives the rest back.
    fn serve_here(&mut self, incoming: Incoming, request: &Request) -> Option<Incoming> {
        let private = incoming.id().region == PRIVATE;
        match request.operation() {
            Some(Operation::Ping) => self.desk.answer(incoming, Answer::served(0)),
            Some(Operation::Fence) if private => {
                self.fences.raise(incoming, request.tag, request.lease);
                if request.has(flags::FORCE) {
                    self.forget(request.tag);
                }
                self.settle_fences();
            }
            Some(Operation::Status) if request.target.is_empty() => self.status(incoming, request),
            Some(Operation::Fence | Operation::SyncTag | Operation::AwaitLock) if !private => {
                self.fail(incoming, libc::EOPNOTSUPP);
            }
            _ => return Some(incoming),
        }
        None
    }

    fn status(&mut self, incoming: Incoming, request: &Request) {
        let report = serde_json::json!({
            "role": self.settings.role,
            "driver": self.driver.capabilities().kind,
            "moving": self.driver.moving(),
            "under_way": self.under_way(),
            "counters": self.counters,
        });
        let bytes = report.to_string().into_bytes();
        match self.desk.reply_bytes(&incoming, request, &bytes) {
            Ok(()) => self
                .desk
                .answer(incoming, Answer::served(bytes.len() as u64)),
            Err(errno) => self.fail(incoming, errno),
        }
    }

    /// Starts a request, or queues it when the table is full.
    pub(crate) fn start_request(&mut self, incoming: Incoming, request: &Request) {
        let Some(incoming) = self.serve_here(incoming, request) else {
            return;
        };
        if self.free.is_empty() {
            self.backlog.push_back((incoming, *request));
            return;
        }
        match self.admit(&incoming, request) {
            Err(errno) => self.fail(incoming, errno),
            Ok((op, step)) => self.submit(incoming, request, op, step),
        }
    }

    fn submit(&mut self, incoming: Incoming, request: &Request, op: Op, step: Step) {
        let Some(index) = self.free.pop() else {
            self.backlog.push_back((incoming, *request));
            return;
        };
        self.flights[index] = Some(Flight {
            incoming,
            request: *request,
            step,
        });
        self.driver.submit(OpId(index as u64), op);
        self.show_busy();
    }

    fn show_busy(&self) {
        let busy = self.flights.len() - self.free.len();
        self.desk.with_seat(|seat| seat.show_busy(busy));
    }

    /// The first operation for a request: its own, or a look at the lock that it needs.
    fn admit(&mut self, incoming: &Incoming, request: &Request) -> Result<(Op, Step), i32> {
        let region = incoming.id().region;
        if is_data_write(request)
            && !self
                .fences
                .admits(request.tag, request.lease, self.env.clock.now_ns())
        {
            self.counters.refused_stale += 1;
            return Err(libc::ESTALE);
        }
        let op = self.operation(incoming, request)?;
        if region == PRIVATE && request.has(flags::UNDER_LOCK) {
            let volume = lock_of(request)?;
            if !self.locks.contains(&volume) {
                return Ok((Op::Acquire { name: volume }, Step::Relock));
            }
            if !self.driver.lock_is_held(&volume) {
                self.counters.lost_locks += 1;
                return Err(libc::ESTALE);
            }
        }
        Ok((op, Step::Own))
    }

    fn operation(&self, incoming: &Incoming, request: &Request) -> Result<Op, i32> {
        match request.operation() {
            Some(Operation::SyncTag) => {
                return Ok(Op::Sync {
                    tag: Tag(request.tag),
                });
            }
            Some(Operation::List) => {
                return Ok(Op::List {
                    cursor: request.offset,
                    max: page(request),
                });
            }
            Some(Operation::Migrate) => {
                return Ok(Op::Migrate {
                    cursor: request.offset,
                    max: page(request),
                    look: request.has(flags::PEEK),
                });
            }
            _ => {}
        }
        let cx = Context {
            region: incoming.id().region,
            data: self.desk.data(incoming, request),
            keep: &self.keep,
            algorithm: self.settings.hash_algorithm,
        };
        parse::operation(request, &cx)
    }

    fn finish_flight(&mut self, done: Done) {
        let index = done.id.0 as usize;
        let Some(flight) = self.flights.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.free.push(index);
        self.show_busy();
        match flight.step {
            Step::Own => self.finish_own(flight, done),
            Step::Relock => self.finish_relock(flight, done),
            Step::Unlock => self.finish_unlock(flight),
        }
        if self.fences.any_waiting() {
            self.settle_fences();
        }
        if let Some((incoming, request)) = self.backlog.pop_front() {
            self.start_request(incoming, &request);
        }
    }

    fn finish_own(&mut self, flight: Flight, done: Done) {
        let Flight {
            incoming, request, ..
        } = flight;
        let operation = request.operation();
        match done.result {
            Ok(reply) if operation == Some(Operation::AwaitLock) => {
                self.finish_look(incoming, request, &reply);
            }
            Ok(reply) => {
                self.note(operation, &request, &reply);
                let said = reply::say(reply.detail, operation);
                if let Some(bytes) = said.bytes
                    && let Err(errno) = self.desk.reply_bytes(&incoming, &request, &bytes)
                {
                    return self.fail(incoming, errno);
                }
                self.counters.served += 1;
                let serviced = match operation {
                    // As much as was asked for: the source may end before (spec/protocol.md
                    // section 2).
                    Some(Operation::Copy) => request.size,
                    _ => said.serviced.unwrap_or(reply.serviced),
                };
                self.desk.answer(incoming, Answer::served(serviced));
            }
            Err(errno) => self.finish_failed(incoming, request, errno.0),
        }
    }

    fn finish_failed(&mut self, incoming: Incoming, request: Request, errno: i32) {
        let again = request.attempt > 0;
        match (request.operation(), errno) {
            // Somebody died over it after it was done: it is so already.
            (Some(Operation::Delete | Operation::Release), libc::ENOENT) if again => {
                self.desk.answer(incoming, Answer::served(0));
            }
            (Some(Operation::Acquire), libc::EBUSY)
                if !request.has(flags::NOSYNC) && !self.stopping =>
            {
                self.let_wait(self.env.clock.now_ns() + RETRY_NS, incoming, request);
            }
            _ => self.fail(incoming, errno),
        }
    }

    fn note(&mut self, operation: Option<Operation>, request: &Request, reply: &driver::Reply) {
        match operation {
            Some(Operation::Read) => self.counters.bytes_read += reply.serviced,
            Some(Operation::Write) => self.counters.bytes_written += reply.serviced,
            Some(Operation::Acquire) => {
                if let Ok(name) = parse::name(&request.target) {
                    self.locks.insert(name);
                }
            }
            Some(Operation::Release) => {
                let tag = volume_tag(&request.target);
                if let Ok(name) = parse::name(&request.target) {
                    self.locks.remove(&name);
                }
                self.waiters.released(&request.target);
                self.forget(tag);
            }
            _ => {}
        }
    }

    /// The volume is closed: the driver may forget what it knows of its tag.
    fn forget(&mut self, tag: u32) {
        self.driver
            .submit(OpId(u64::MAX), Op::Forget { tag: Tag(tag) });
    }

    fn finish_relock(&mut self, flight: Flight, done: Done) {
        let Flight {
            incoming, request, ..
        } = flight;
        let volume = match lock_of(&request) {
            Ok(volume) => volume,
            Err(errno) => return self.fail(incoming, errno),
        };
        match done.result {
            Ok(reply) if was_ours(&reply) => {
                self.locks.insert(volume);
                self.start_request(incoming, &request);
            }
            // It was nobody's, or a dead process's: it is not ours to keep.
            Ok(_) => {
                let op = Op::Release {
                    name: volume,
                    force: false,
                };
                self.submit(incoming, &request, op, Step::Unlock);
            }
            Err(Errno::BUSY | Errno::STALE) => {
                self.counters.lost_locks += 1;
                self.fail(incoming, libc::ESTALE);
            }
            // Nobody knows whose it is.
            Err(errno) => self.fail(incoming, errno.0),
        }
    }

    /// What was taken by looking was given back: the lock is not ours.
    fn finish_unlock(&mut self, flight: Flight) {
        self.counters.lost_locks += 1;
        self.fail(flight.incoming, libc::ESTALE);
    }

    fn settle_fences(&mut self) {
        let flights = &self.flights;
        let settled = self.fences.settled(|tag, lease| {
            flights.iter().flatten().any(|f| {
                f.request.tag == tag
                    && f.request.lease != 0
                    && f.request.lease < lease
                    && is_data_write(&f.request)
            })
        });
        for incoming in settled {
            self.counters.served += 1;
            self.desk.answer(incoming, Answer::served(0));
        }
    }
}

/// How many names a page is to have.
fn page(request: &Request) -> usize {
    usize::try_from(request.size)
        .unwrap_or(usize::MAX)
        .clamp(1, 4096)
}

/// Whether a lease guards the request, if it names one: it changes a volume's data.
fn is_data_write(request: &Request) -> bool {
    matches!(
        request.operation(),
        Some(
            Operation::Write
                | Operation::Zeroes
                | Operation::Discard
                | Operation::Truncate
                | Operation::Copy
                | Operation::Delete
        )
    )
}

/// Whether ACQUIRE found the lock ours already.
fn was_ours(reply: &driver::Reply) -> bool {
    matches!(&reply.detail, Detail::Lock(lock) if lock.already_ours)
}

/// The volume whose lock a request is about; EINVAL when its tag is another's.
fn lock_of(request: &Request) -> Result<driver::Name, i32> {
    let bytes = parse::volume_of(&request.target);
    let volume = Name::new(bytes).ok_or(libc::EINVAL)?;
    if volume_tag(&volume) != request.tag {
        return Err(libc::EINVAL);
    }
    parse::name(bytes)
}

impl Peer for Blocker {
    fn request(&mut self, incoming: Incoming, request: &Request) {
        self.start_request(incoming, request);
    }

    fn reply(&mut self, _token: u64, _answer: Answer) {
        unreachable!("a blocker asks nobody");
    }

    fn turn(&mut self) -> bool {
        let mut done = std::mem::take(&mut self.done);
        self.driver.poll(&mut done);
        let mut progress = !done.is_empty();
        for one in done.drain(..) {
            self.finish_flight(one);
        }
        self.done = done;
        progress |= self.retry_waiters();
        progress
    }

    fn lost(&self) -> Option<String> {
        self.driver.lost()
    }

    fn under_way(&self) -> usize {
        (self.flights.len() - self.free.len()) + self.backlog.len() + self.fences.waiting()
    }

    fn finish(&mut self) -> bool {
        self.stopping = true;
        let waiting: Vec<_> = self.waiters.drain().collect();
        for incoming in waiting {
            self.fail(incoming, libc::EINTR);
        }
        self.driver.in_flight() == 0 && self.driver.moving() == 0
    }
}
