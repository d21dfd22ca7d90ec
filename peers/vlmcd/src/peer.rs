//! The peer: starts requests and finishes them.

use crate::admission::Queues;
use crate::op::{Op, Stage, Token};
use crate::volume::Volume;
use reactor::Env;
use runtime::{Desk, LeaseTerm, Peer};
use std::collections::{HashMap, VecDeque};
use xseg::protocol::{Operation, PortNo, flags};
use xseg::{Answer, Incoming, Name, Request};

/// How vlmcd is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where mapperd serves.
    pub mapper_port: PortNo,
    /// Where the blocker of data serves.
    pub blocker_port: PortNo,
    /// At most so many requests are under way; others queue.
    pub nr_ops: usize,
    /// Every write is durable when answered.
    pub write_through: bool,
    /// How long a lease is good for.
    pub lease_term: LeaseTerm,
}

/// What STATUS shows.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Counters {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) flushes: u64,
    pub(crate) failed: u64,
    /// Parts that read as zeros because their object was missing.
    pub(crate) missing_objects: u64,
    /// Requests that began anew because their lease was refused.
    pub(crate) stale_leases: u64,
}

/// vlmcd.
pub struct Vlmcd {
    pub(crate) settings: Settings,
    pub(crate) desk: Desk,
    pub(crate) env: Env,
    pub(crate) ops: Vec<Op>,
    pub(crate) free: Vec<u32>,
    pub(crate) volumes: Vec<Option<Volume>>,
    free_volumes: Vec<usize>,
    names: HashMap<Name, usize>,
    pub(crate) queues: Queues,
    /// Operations that found no free slot for a sub-request.
    pub(crate) stalled: VecDeque<u32>,
    pub(crate) counters: Counters,
    /// The node stops: no write waits for another node's lock any more.
    pub(crate) stopping: bool,
}

impl Vlmcd {
    /// vlmcd at `desk`.
    pub fn new(settings: Settings, desk: Desk, env: Env) -> Vlmcd {
        let nr_ops = settings.nr_ops.max(1);
        Vlmcd {
            settings,
            desk,
            env,
            ops: (0..nr_ops).map(|_| Op::idle()).collect(),
            free: (0..nr_ops as u32).rev().collect(),
            volumes: Vec::new(),
            free_volumes: Vec::new(),
            names: HashMap::new(),
            queues: Queues::default(),
            stalled: VecDeque::new(),
            counters: Counters::default(),
            stopping: false,
        }
    }

    /// The operation at `index`, which is under way.
    pub(crate) fn op(&mut self, index: u32) -> &mut Op {
        let op = &mut self.ops[index as usize];
        debug_assert!(op.is_under_way());
        op
    }

    /// The operation at `index` and its volume.
    pub(crate) fn op_and_volume(&mut self, index: u32) -> (&mut Op, &mut Volume) {
        let op = &mut self.ops[index as usize];
        debug_assert!(op.is_under_way());
        let volume = self.volumes[op.volume]
            .as_mut()
            .expect("its volume's record");
        (op, volume)
    }

    pub(crate) fn volume_of(&mut self, name: &Name) -> usize {
        if let Some(&at) = self.names.get(name) {
            return at;
        }
        let at = self.free_volumes.pop().unwrap_or_else(|| {
            self.volumes.push(None);
            self.volumes.len() - 1
        });
        self.volumes[at] = Some(Volume::new(*name, self.settings.lease_term));
        self.names.insert(*name, at);
        at
    }

    /// Forgets a volume of which nothing is known and that nobody uses.
    pub(crate) fn drop_volume(&mut self, at: usize) {
        if let Some(volume) = self.volumes[at].take() {
            self.names.remove(&volume.name);
            self.free_volumes.push(at);
        }
    }

    pub(crate) fn accept(&mut self, incoming: Incoming, request: &Request) {
        match check(request) {
            Err(errno) => self.refuse(incoming, errno),
            Ok(Kind::Ping) => self.desk.answer(incoming, Answer::served(0)),
            Ok(Kind::OwnStatus) => self.own_status(incoming, request),
            Ok(kind) => self.start_or_wait(incoming, request, kind),
        }
    }

    fn refuse(&mut self, incoming: Incoming, errno: i32) {
        self.counters.failed += 1;
        self.desk.answer(incoming, Answer::failed(errno));
    }

    fn own_status(&mut self, incoming: Incoming, request: &Request) {
        let report = serde_json::json!({
            "role": "vlmcd",
            "under_way": self.under_way(),
            "volumes": self.names.len(),
            "waiting_for_locks": self.queues.patient,
            "counters": self.counters,
        });
        let bytes = report.to_string().into_bytes();
        match self.desk.reply_bytes(&incoming, request, &bytes) {
            Ok(()) => self
                .desk
                .answer(incoming, Answer::served(bytes.len() as u64)),
            Err(errno) => self.refuse(incoming, errno),
        }
    }

    /// Starts a request that nothing hinders.
    pub(crate) fn start(&mut self, at: usize, incoming: Incoming, request: &Request, kind: Kind) {
        let index = self.free.pop().expect("the caller looked");
        let op = &mut self.ops[index as usize];
        op.begin(incoming, request, at);
        let volume = self.volumes[at].as_mut().expect("the caller found it");
        if kind == Kind::Freezer {
            volume.frozen = true;
            op.stage = Stage::Draining;
        } else {
            volume.active += 1;
        }
        if kind == Kind::Change {
            volume.write_starts(index, op.range.clone());
            if volume.lease == 0 {
                self.begin_scouting(index);
            }
        }
        match kind {
            Kind::Read | Kind::Change => self.route(index),
            Kind::Flush => self.flush(index),
            Kind::Forward => self.forward(index),
            Kind::Freezer => self.run_freezer_if_alone(at, index),
            Kind::Ping | Kind::OwnStatus => unreachable!("served on the spot"),
        }
    }

    fn run_freezer_if_alone(&mut self, at: usize, index: u32) {
        if self.volumes[at].as_ref().is_some_and(|v| v.active == 0) {
            self.forward(index);
        }
    }

    /// Answers operation `index` and frees it.
    pub(crate) fn finish(&mut self, index: u32, answer: Answer) {
        let op = &mut self.ops[index as usize];
        let incoming = op.incoming.take().expect("an operation under way");
        (op.scratch, op.once) = (None, None);
        debug_assert_eq!(op.parts, 0, "nothing is answered while a part may land");
        self.free.push(index);
        if answer.errno != 0 {
            self.counters.failed += 1;
        }
        self.desk.answer(incoming, answer);
        let at = op.volume;
        let volume = self.volumes[at].as_mut().expect("its record");
        match kind_of(&op.request) {
            Some(Kind::Freezer) => {
                volume.frozen = false;
                volume.elsewhere = false;
                volume.forget_map();
            }
            Some(Kind::Change) => {
                volume.active -= 1;
                volume.write_ends(index);
            }
            _ => volume.active -= 1,
        }
        if volume.scout == Some(index) {
            self.end_scouting(at);
        }
        self.queues.resume.push(at);
    }

    /// Fails operation `index`.
    pub(crate) fn fail(&mut self, index: u32, errno: i32) {
        self.finish(index, Answer::failed(errno));
    }

    /// Operation `index` goes on when a slot or buffer may be free again.
    pub(crate) fn stall(&mut self, index: u32) {
        if !std::mem::replace(&mut self.op(index).stalled, true) {
            self.stalled.push_back(index);
        }
    }

    /// Sends a sub-request of operation `token.op`. False: no slot is free, it is tried again.
    pub(crate) fn send(
        &mut self,
        port: PortNo,
        request: &Request,
        token: Token,
    ) -> Result<bool, i32> {
        match self.desk.send(port, request, token.encode()) {
            Ok(()) => {
                self.op(token.op).stalled = false;
                Ok(true)
            }
            Err(libc::EAGAIN) => {
                self.stall(token.op);
                Ok(false)
            }
            Err(errno) => Err(errno),
        }
    }
}

/// How a request is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Read,
    Change,
    Flush,
    Forward,
    Freezer,
    Ping,
    OwnStatus,
}

/// How `request` is treated; `None`: not at all.
pub(crate) fn kind_of(request: &Request) -> Option<Kind> {
    Some(match request.operation()? {
        Operation::Ping => Kind::Ping,
        Operation::Status if request.target.is_empty() => Kind::OwnStatus,
        Operation::Read => Kind::Read,
        Operation::Write if request.size == 0 && request.has(flags::FLUSH) => Kind::Flush,
        Operation::Write | Operation::Zeroes | Operation::Discard => Kind::Change,
        Operation::Flush => Kind::Flush,
        Operation::Info | Operation::Open => Kind::Forward,
        Operation::Close
        | Operation::Snapshot
        | Operation::Delete
        | Operation::Rename
        | Operation::Truncate => Kind::Freezer,
        _ => return None,
    })
}

/// The bytes of the volume that a request touches.
pub(crate) fn range_of(request: &Request) -> std::ops::Range<u64> {
    request.offset..request.offset.saturating_add(request.size)
}

/// Everything that can be wrong with a request before its volume is looked at.
fn check(request: &Request) -> Result<Kind, i32> {
    let kind = kind_of(request).ok_or(libc::EOPNOTSUPP)?;
    if request.target.is_empty() && !matches!(kind, Kind::Ping | Kind::OwnStatus) {
        return Err(libc::EINVAL);
    }
    if request.offset.checked_add(request.size).is_none() {
        return Err(libc::EINVAL);
    }
    let carries = matches!(
        request.operation(),
        Some(Operation::Read | Operation::Write)
    );
    if carries && request.size > request.datalen {
        return Err(libc::EINVAL);
    }
    Ok(kind)
}

impl Peer for Vlmcd {
    fn request(&mut self, incoming: Incoming, request: &Request) {
        self.accept(incoming, request);
        self.settle();
    }

    fn reply(&mut self, token: u64, answer: Answer) {
        let token = Token::decode(token);
        match self.op(token.op).stage {
            Stage::Mapping => self.mapped(token.op, answer),
            Stage::Parts => self.part_done(token, answer),
            Stage::SyncData => self.data_synced(token.op, answer),
            Stage::SyncMap => self.map_synced(token.op, answer),
            Stage::Forwarded => self.forwarded(token.op, answer),
            Stage::Draining => debug_assert!(false, "a freezer that waits asked nobody"),
        }
        self.settle();
    }

    fn turn(&mut self) -> bool {
        let count = self.stalled.len();
        for _ in 0..count {
            let Some(index) = self.stalled.pop_front() else {
                break;
            };
            self.unstall(index);
        }
        if count > 0 {
            self.settle();
        }
        // Whoever still stalls waits for a slot, whose release is an event.
        count > self.stalled.len()
    }

    fn under_way(&self) -> usize {
        self.ops.len() - self.free.len() + self.queues.backlog.len()
    }

    fn give_up_waiting(&mut self) {
        self.stopping = true;
    }
}
