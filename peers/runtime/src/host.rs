//! Runs one or more peers on one reactor: first through their recovery, then turn by turn.
//!
//! What always holds:
//! - A peer gets no request before everything that its predecessor sent is answered or taken
//!   back (design section 4); then what the predecessor was serving, those with a step mark
//!   first; then what is new.
//! - A stop goes from the last peer to the first (the order of ROLES, reversed), so that whoever
//!   gives something back still finds whom it gives it to. A peer that stops takes no request any
//!   more; one that comes nevertheless stays with its seat, for its successor.
//! - Nothing here blocks or reads a clock of its own: whoever calls [`Host::turn`] decides when,
//!   so the production loop and the simulation run the same code.

use crate::desk::Desk;
use crate::peer::Peer;
use reactor::{Env, Executor, Timers};
use std::collections::VecDeque;
use xseg::seat::Recovery;
use xseg::{Answer, Event, Incoming, Request};

/// Requests that a peer gets in one turn. What came in beyond that waits for the next one, so
/// that the answers of the first are on their way, and their sender asks anew, while the others
/// are served: with all of them at once the two sides would work in turns.
const BATCH: usize = 16;

enum Phase {
    Recovering(Recovery),
    Serving,
    Stopping,
    Stopped,
}

struct Station {
    desk: Desk,
    peer: Box<dyn Peer>,
    phase: Phase,
    /// Requests taken from the seat and not yet delivered.
    mail: VecDeque<Incoming>,
}

/// The peers of one process.
pub struct Host {
    stations: Vec<Station>,
    executor: Executor,
    timers: Timers,
    env: Env,
    events: Vec<Event>,
    requests: Vec<Incoming>,
    replies: Vec<(u64, Answer)>,
    stopping: bool,
}

impl Host {
    /// A host without peers.
    pub fn new(env: Env, executor: Executor, timers: Timers) -> Host {
        Host {
            stations: Vec::new(),
            executor,
            timers,
            env,
            events: Vec::new(),
            requests: Vec::new(),
            replies: Vec::new(),
            stopping: false,
        }
    }

    /// Adds a peer and begins its recovery.
    pub fn add(&mut self, desk: Desk, peer: Box<dyn Peer>) {
        let recovery = desk.with_seat(|seat| seat.recover());
        self.stations.push(Station {
            desk,
            peer,
            phase: Phase::Recovering(recovery),
            mail: VecDeque::new(),
        });
    }

    /// Does everything that can be done now. True: something was done.
    pub fn turn(&mut self) -> bool {
        let mut progress = self.stop_next();
        for at in 0..self.stations.len() {
            progress |= self.turn_station(at);
        }
        if self.timers.next_deadline_ns().is_some() {
            progress |= self.timers.fire(self.env.clock.now_ns());
        }
        progress | self.executor.run_ready()
    }

    fn turn_station(&mut self, at: usize) -> bool {
        let mut progress = self.receive(at);
        let station = &mut self.stations[at];
        progress |= station.peer.turn();
        match &mut station.phase {
            Phase::Recovering(recovery) => {
                if station.desk.with_seat(|seat| seat.recovered(recovery)) {
                    let requeued = std::mem::take(&mut recovery.requeued);
                    station.begin(requeued);
                    progress = true;
                }
            }
            Phase::Stopping => {
                if station.peer.under_way() == 0
                    && station.desk.asked() == 0
                    && station.peer.finish()
                {
                    station.phase = Phase::Stopped;
                    progress = true;
                }
            }
            Phase::Serving | Phase::Stopped => {}
        }
        progress
    }

    fn receive(&mut self, at: usize) -> bool {
        let station = &mut self.stations[at];
        // While a predecessor's requests are under way their replies are not ours to take.
        if matches!(station.phase, Phase::Recovering(_)) {
            return false;
        }
        let any = station
            .desk
            .receive(&mut self.events, &mut self.requests, &mut self.replies);
        for (token, answer) in self.replies.drain(..) {
            station.peer.reply(token, answer);
        }
        station.mail.extend(self.requests.drain(..));
        any | station.deliver_mail()
    }

    /// Why one of the peers can serve no more.
    pub fn lost(&self) -> Option<String> {
        self.stations.iter().find_map(|s| s.peer.lost())
    }

    /// Whether anything is outstanding for which it is worth to stay awake a little.
    pub fn under_way(&self) -> bool {
        self.stations
            .iter()
            .any(|s| s.peer.under_way() > 0 || s.desk.asked() > 0)
    }

    /// Says on every seat that we go to sleep. False: something came in, turn again.
    pub fn doze(&self) -> bool {
        let asleep = self.stations.iter().all(|s| match s.phase {
            Phase::Recovering(_) => s.desk.with_seat(|seat| seat.doze_for_recovery()),
            _ => s.desk.with_seat(|seat| seat.doze()),
        });
        if !asleep {
            self.wake();
        }
        asleep
    }

    /// Says that we are awake.
    pub fn wake(&self) {
        for station in &self.stations {
            station.desk.with_seat(|seat| seat.wake());
        }
    }

    /// Whether mail waits in an inbox.
    pub fn has_mail(&self) -> bool {
        self.stations
            .iter()
            .any(|s| s.desk.with_seat(|seat| seat.has_mail()))
    }

    /// The desks, in the order in which the peers were added.
    pub fn desks(&self) -> impl Iterator<Item = &Desk> {
        self.stations.iter().map(|s| &s.desk)
    }

    /// Begins to stop: what is under way is finished, then the peers give back what they hold.
    pub fn stop(&mut self) {
        self.stopping = true;
        for station in &mut self.stations {
            station.peer.give_up_waiting();
        }
    }

    /// Lets the next peer stop, once those behind it have. True: it begins to.
    fn stop_next(&mut self) -> bool {
        if !self.stopping {
            return false;
        }
        let mut left = self
            .stations
            .iter_mut()
            .rev()
            .skip_while(|s| matches!(s.phase, Phase::Stopped));
        match left.next() {
            // What its predecessor left is for its successor as much as for us.
            Some(next) if matches!(next.phase, Phase::Serving | Phase::Recovering(_)) => {
                next.phase = Phase::Stopping;
                true
            }
            _ => false,
        }
    }

    /// Plays the death of the process, for simulations: everything is dropped as it stands, and
    /// nothing in the segment is given back.
    pub fn kill(self) {
        for station in &self.stations {
            station.desk.sever();
        }
        self.executor.clear();
    }

    /// Whether every peer has stopped.
    pub fn is_stopped(&self) -> bool {
        self.stations
            .iter()
            .all(|s| matches!(s.phase, Phase::Stopped))
    }

    /// Whether every peer serves.
    pub fn is_serving(&self) -> bool {
        self.stations
            .iter()
            .all(|s| matches!(s.phase, Phase::Serving))
    }

    /// When the next timer fires, ns of the clock.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.timers.next_deadline_ns()
    }
}

impl Station {
    fn begin(&mut self, requeued: Vec<Incoming>) {
        self.phase = Phase::Serving;
        self.peer.start();
        let (marked, plain): (Vec<_>, Vec<_>) = requeued
            .into_iter()
            .partition(|incoming| self.is_marked(incoming));
        for incoming in marked.into_iter().chain(plain) {
            self.deliver(incoming);
        }
    }

    /// Delivers a batch. What comes to a peer that stops is left as it is, for its successor.
    fn deliver_mail(&mut self) -> bool {
        if !matches!(self.phase, Phase::Serving) {
            self.mail.clear();
            return false;
        }
        let count = self.mail.len().min(BATCH);
        for _ in 0..count {
            if let Some(incoming) = self.mail.pop_front() {
                self.deliver(incoming);
            }
        }
        count > 0
    }

    fn is_marked(&self, incoming: &Incoming) -> bool {
        self.desk
            .with_seat(|seat| seat.read(incoming).is_ok_and(|r| seat.mark(r.root) != 0))
    }

    fn deliver(&mut self, incoming: Incoming) {
        let mut request = Request::default();
        match self
            .desk
            .with_seat(|seat| seat.read_into(&incoming, &mut request))
        {
            Ok(()) => self.peer.request(incoming, &request),
            Err(why) => {
                tracing::warn!(%why, "a request was refused unread");
                self.desk.answer(incoming, Answer::failed(libc::EINVAL));
            }
        }
    }
}
