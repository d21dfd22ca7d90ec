//! Who starts when: what waits for a freezer, an overlapping write, a lease or a free place.
//!
//! ```text
//!   request --no operation free--> backlog
//!      |  \--frozen, overlaps, or no lease and a scout is out--> volume's queue
//!      v
//!   under way --EBUSY: another node has the volume--> asks again, or back to its queue
//! ```
//! What always holds:
//! - While no lease of a volume is known at most one change of it is under way, its *scout*. A scout
//!   that found another node's lock becomes *patient*: mapperd may keep it waiting. Patient scouts
//!   never take more than half of the operations; further ones take turns with them. So however many
//!   writes wait for other nodes, and however long, everybody else is served. Reads need no lock,
//!   and wait only while their volume is frozen.
//! - Whoever waits in a queue is looked at whenever what it waits for may have come to an end.
//! - Mapperd waits for a lock for a second at most (`mapperd::wait`) and then has its scout asked
//!   again; a CLOSE behind it, or a stop, lets the scout fail instead, and those behind it.

use crate::op::Stage;
use crate::peer::{Kind, Vlmcd, kind_of, range_of};
use crate::volume::Volume;
use std::collections::VecDeque;
use xseg::protocol::Operation;
use xseg::{Incoming, Request};

/// Those who wait for something else than an answer.
#[derive(Default)]
pub(crate) struct Queues {
    /// Requests that found no operation free.
    pub(crate) backlog: VecDeque<(Incoming, Request)>,
    /// Volumes where somebody who waited may go on.
    pub(crate) resume: Vec<usize>,
    /// Volumes where somebody goes on when an operation is free.
    starved: VecDeque<usize>,
    /// Volumes of other nodes where a scout goes out when there are fewer patient ones.
    unscouted: VecDeque<usize>,
    /// How many patient scouts are under way.
    pub(crate) patient: usize,
    /// Who was last served of those that would like a free operation.
    was_unscouted: bool,
}

/// Who of a volume's queue is next.
enum Next {
    /// The one in this place.
    Start(usize),
    /// A change, as soon as there are fewer patient scouts.
    Scout,
    Nobody,
}

impl Vlmcd {
    fn patient_max(&self) -> usize {
        (self.ops.len() / 2).max(1)
    }

    pub(crate) fn start_or_wait(&mut self, incoming: Incoming, request: &Request, kind: Kind) {
        if self.free.is_empty() {
            self.queues.backlog.push_back((incoming, *request));
            return;
        }
        let at = self.volume_of(&request.target);
        let volume = self.volumes[at].as_mut().expect("just found");
        let hindered = match kind {
            _ if volume.frozen => true,
            // Whoever changes something queues behind those who wait to.
            Kind::Change | Kind::Freezer if !volume.waiting.is_empty() => true,
            Kind::Change => volume.overlaps(&range_of(request)) || volume.lease == 0,
            _ => false,
        };
        if !hindered {
            return self.start(at, incoming, request, kind);
        }
        volume.waiting.push_back((incoming, *request));
        if kind == Kind::Change && volume.lease == 0 {
            // Perhaps it is to be the scout.
            self.resume_volume(at);
        }
    }

    /// Lets go on who waited, until nobody more can.
    pub(crate) fn settle(&mut self) {
        loop {
            if let Some(at) = self.queues.resume.pop() {
                self.resume_volume(at);
            } else if self.free.is_empty() {
                return;
            } else if let Some(at) = self.queues.starved.pop_front() {
                self.resume_volume(at);
            } else if let Some(at) = self.next_unscouted() {
                self.resume_volume(at);
            } else if let Some((incoming, request)) = self.queues.backlog.pop_front() {
                self.queues.was_unscouted = false;
                self.accept(incoming, &request);
            } else {
                return;
            }
        }
    }

    /// The backlog and those without a scout take turns.
    fn next_unscouted(&mut self) -> Option<usize> {
        let waits = self.queues.was_unscouted && !self.queues.backlog.is_empty();
        if waits || self.queues.patient >= self.patient_max() {
            return None;
        }
        let at = self.queues.unscouted.pop_front()?;
        self.queues.was_unscouted = true;
        Some(at)
    }

    fn resume_volume(&mut self, at: usize) {
        let Some(volume) = self.volumes[at].as_mut() else {
            return;
        };
        if volume.frozen {
            if volume.active == 0
                && let Some(index) = self.draining(at)
            {
                self.forward(index);
            }
            return;
        }
        loop {
            match self.next_waiting(at) {
                Next::Start(_) if self.free.is_empty() => {
                    return add(&mut self.queues.starved, at);
                }
                Next::Start(place) => self.start_waiting(at, place),
                Next::Scout => return add(&mut self.queues.unscouted, at),
                Next::Nobody => break,
            }
        }
        let volume = self.volumes[at].as_ref().expect("still there");
        if volume.is_idle() && volume.lease == 0 {
            self.drop_volume(at);
        }
    }

    fn start_waiting(&mut self, at: usize, place: usize) {
        let volume = self.volumes[at].as_mut().expect("still there");
        let (incoming, request) = volume.waiting.remove(place).expect("just seen");
        let kind = kind_of(&request).expect("checked when it came");
        self.start(at, incoming, &request, kind);
    }

    /// Changes, and what freezes, go in the order in which they came; others need not wait.
    fn next_waiting(&self, at: usize) -> Next {
        let volume = self.volumes[at].as_ref().expect("still there");
        if volume.frozen {
            return Next::Nobody;
        }
        let mut change = None;
        for (place, (_, request)) in volume.waiting.iter().enumerate() {
            match kind_of(request) {
                Some(Kind::Change) if change.is_none() => match self.next_change(volume, request) {
                    Next::Start(_) => return Next::Start(place),
                    hindered => change = Some(hindered),
                },
                Some(Kind::Change | Kind::Freezer) if change.is_some() => {}
                _ => return Next::Start(place),
            }
        }
        change.unwrap_or(Next::Nobody)
    }

    /// What becomes of the first change in a volume's queue.
    fn next_change(&self, volume: &Volume, request: &Request) -> Next {
        if volume.overlaps(&range_of(request)) {
            return Next::Nobody;
        }
        match volume.lease {
            0 if volume.scout.is_some() => Next::Nobody,
            0 if volume.elsewhere && self.queues.patient >= self.patient_max() => Next::Scout,
            _ => Next::Start(0),
        }
    }

    pub(crate) fn draining(&self, volume: usize) -> Option<u32> {
        let found = self.ops.iter().position(|op| {
            op.is_under_way() && op.volume == volume && op.stage == Stage::Draining
        })?;
        Some(found as u32)
    }

    // ---- other nodes' locks ----

    /// A change begins though no lease is known.
    pub(crate) fn begin_scouting(&mut self, index: u32) {
        let (op, volume) = self.op_and_volume(index);
        volume.scout = Some(index);
        // Otherwise it finds that out first.
        if volume.elsewhere {
            op.patient = true;
            self.queues.patient += 1;
        }
    }

    /// A lease of the volume is known, or its scout is over.
    pub(crate) fn end_scouting(&mut self, at: usize) {
        let volume = self.volumes[at].as_mut().expect("its record");
        if let Some(scout) = volume.scout.take() {
            self.lose_patience(scout);
            self.queues.resume.push(at);
        }
    }

    fn lose_patience(&mut self, index: u32) {
        if std::mem::take(&mut self.ops[index as usize].patient) {
            self.queues.patient -= 1;
        }
    }

    /// Whether a change of the volume that finds another node's lock has to fail: somebody waits to
    /// close the volume, or the node stops.
    pub(crate) fn gives_up(&self, at: usize) -> bool {
        let closes = |request: &Request| request.operation() == Some(Operation::Close);
        let volume = self.volumes[at].as_ref().expect("its record");
        let frozen_by = volume.frozen.then(|| self.draining(at)).flatten();
        self.stopping
            || frozen_by.is_some_and(|index| closes(&self.ops[index as usize].request))
            || volume.waiting.iter().any(|(_, request)| closes(request))
    }

    /// Operation `index`, a change, found another node's lock.
    pub(crate) fn locked_out(&mut self, index: u32) {
        let at = self.op(index).volume;
        if self.gives_up(at) {
            return self.fail(index, libc::EBUSY);
        }
        let wanted = !self.queues.unscouted.is_empty()
            || (self.free.is_empty() && !self.queues.backlog.is_empty());
        let full = self.queues.patient >= self.patient_max();
        let (op, volume) = self.op_and_volume(index);
        volume.elsewhere = true;
        let is_scout = volume.scout == Some(index) && !volume.frozen;
        match op.patient {
            true if is_scout && !wanted => self.route(index),
            false if is_scout && !full => {
                op.patient = true;
                self.queues.patient += 1;
                self.route(index);
            }
            _ => self.park(index),
        }
    }

    /// Puts a change back into its volume's queue: nothing of it is under way.
    fn park(&mut self, index: u32) {
        let op = &mut self.ops[index as usize];
        debug_assert_eq!(op.parts, 0, "no part is sent while mapperd is asked");
        let incoming = op.incoming.take().expect("an operation under way");
        (op.scratch, op.once) = (None, None);
        let (at, request) = (op.volume, op.request);
        self.free.push(index);
        let volume = self.volumes[at].as_mut().expect("its record");
        volume.active -= 1;
        volume.write_ends(index);
        volume.waiting.push_front((incoming, request));
        if volume.frozen {
            self.queues.resume.push(at);
        }
        if volume.scout.take_if(|scout| *scout == index).is_some() {
            // Its turn comes after those that were not asked for meanwhile.
            add(&mut self.queues.unscouted, at);
        }
        self.lose_patience(index);
    }
}

/// Adds a volume to a queue, once.
fn add(queue: &mut VecDeque<usize>, at: usize) {
    if !queue.contains(&at) {
        queue.push_back(at);
    }
}
