//! One thread's requests: which, when, and what is asked again after a death.

use super::late::Watch;
use super::{BLOCK, Load, Outcome, Tally};
use client::{Core, Ports};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use xseg::join::Kind;
use xseg::protocol::{Operation, PortNo, flags};
use xseg::{Name, Request};

/// What a request was for.
pub(super) enum Asked {
    Write {
        blocks: Range<u64>,
        stamp: u64,
    },
    Read {
        blocks: Range<u64>,
    },
    /// A write of blocks that were being written at this death.
    Anew {
        blocks: Range<u64>,
        stamp: u64,
        death: u64,
    },
    /// A look at them after the end of the ring of the dead.
    Late {
        blocks: Range<u64>,
    },
    Question,
}

/// A request under way.
pub(super) struct Flight {
    pub(super) asked: Asked,
    /// The death over which it was unanswered.
    pub(super) death: Option<u64>,
}

/// One thread's state.
pub(super) struct Worker<'a> {
    pub(super) core: Core,
    ports: Ports,
    pub(super) load: Load,
    pub(super) tally: &'a Tally,
    dice: ChaCha8Rng,
    blocks: u64,
    pub(super) stamps: HashMap<u64, u64>,
    /// Blocks with a request under way, or under watch.
    pub(super) busy: HashSet<u64>,
    pub(super) flights: HashMap<u64, Flight>,
    pub(super) watch: Watch,
    /// To be written anew, and for which death.
    pub(super) anew: VecDeque<(u64, Range<u64>)>,
    /// To be looked at.
    pub(super) late: VecDeque<Range<u64>>,
    next: u64,
}

/// Runs one load at `depth` until told to stop, then waits for what is under way and under watch.
pub fn run(
    socket: &Path,
    ports: Ports,
    load: Load,
    depth: usize,
    blocks: u64,
    seed: u64,
    tally: &Tally,
) -> Outcome {
    let joined = match xseg::join::connect(socket, Kind::Client { name: "verifier" }) {
        Ok(joined) => joined,
        Err(why) => {
            return Outcome {
                load,
                wrong: Some(why.to_string()),
                stamps: HashMap::new(),
            };
        }
    };
    let mut seat = joined.seat;
    seat.bind_dynamic();
    let mut worker = Worker {
        core: Core::new(seat),
        ports,
        load,
        tally,
        dice: ChaCha8Rng::seed_from_u64(seed),
        blocks,
        stamps: HashMap::new(),
        busy: HashSet::new(),
        flights: HashMap::new(),
        watch: Watch::default(),
        anew: VecDeque::new(),
        late: VecDeque::new(),
        next: 1,
    };
    let wrong = worker.go(depth);
    drop(joined.connection);
    Outcome {
        load: worker.load,
        wrong,
        stamps: worker.stamps,
    }
}

impl Worker<'_> {
    fn go(&mut self, depth: usize) -> Option<String> {
        let mut patience = client::wait::Patience::default();
        let mut done = Vec::new();
        let mut first = None;
        loop {
            let stopping = self.tally.stop.load(Relaxed);
            first = first.or(self.look_at_what_is_due().err());
            self.ask_after_deaths();
            while !stopping && self.flights.len() < depth && self.ask() {}
            if self.flights.is_empty() {
                if stopping && self.watch.is_empty() && self.anew.is_empty() && self.late.is_empty()
                {
                    return first;
                }
                std::thread::yield_now();
                continue;
            }
            patience.wait(&mut self.core, None, &mut done);
            self.notice_deaths();
            for one in done.drain(..) {
                first = first.or(self.settle(one).err());
            }
        }
    }

    /// Whatever is unanswered now may be in the ring of the dead. The count is raised before the
    /// kill, so nothing that the ring has is missed.
    fn notice_deaths(&mut self) {
        if let Some(death) = self.watch.notice(self.tally.deaths.load(Relaxed)) {
            let flights = self.flights.values_mut();
            flights.for_each(|flight| flight.death = Some(death));
        }
    }

    fn ask_after_deaths(&mut self) {
        while let Some((death, blocks)) = self.anew.pop_front() {
            let (stamp, range) = (self.next, blocks.clone());
            let asked = Asked::Anew {
                blocks: range,
                stamp,
                death,
            };
            if !self.write(blocks.clone(), stamp, asked) {
                return self.anew.push_front((death, blocks));
            }
        }
        while let Some(blocks) = self.late.pop_front() {
            let asked = Asked::Late {
                blocks: blocks.clone(),
            };
            if !self.read(blocks.clone(), asked) {
                return self.late.push_front(blocks);
            }
        }
    }

    fn free_blocks(&mut self) -> Option<Range<u64>> {
        let most = if matches!(self.load, Load::Objects(_)) {
            1
        } else {
            8
        };
        let start = self.dice.random_range(0..self.blocks);
        let end = (start + self.dice.random_range(1..=most)).min(self.blocks);
        let free = (start..end).all(|block| !self.busy.contains(&block));
        free.then_some(start..end)
    }

    fn ask(&mut self) -> bool {
        if let Load::Maps(volumes) = &self.load {
            let volume = &volumes[self.dice.random_range(0..volumes.len())];
            let question = Request {
                size: BLOCK,
                flags: flags::PEEK,
                ..request(Operation::MapRead, volume)
            };
            let info = request(Operation::Info, volume);
            let asked = if self.dice.random() { question } else { info };
            return self.submit(self.ports.mapperd, asked, 4096, None, Asked::Question);
        }
        let Some(blocks) = self.free_blocks() else {
            return true;
        };
        if self.dice.random_bool(0.5) {
            let (stamp, range) = (self.next, blocks.clone());
            let asked = Asked::Write {
                blocks: range,
                stamp,
            };
            return self.write(blocks, stamp, asked);
        }
        // An object that was never written is missing, and reading it would fail.
        if matches!(self.load, Load::Objects(_)) && !self.stamps.contains_key(&blocks.start) {
            return true;
        }
        let range = blocks.clone();
        self.read(blocks, Asked::Read { blocks: range })
    }

    fn write(&mut self, blocks: Range<u64>, stamp: u64, asked: Asked) -> bool {
        let (port, request) = self.addressed(Operation::Write, &blocks);
        let data = stamp.to_le_bytes().repeat((request.size / 8) as usize);
        self.submit(port, request, request.size, Some(&data), asked)
    }

    fn read(&mut self, blocks: Range<u64>, asked: Asked) -> bool {
        let (port, request) = self.addressed(Operation::Read, &blocks);
        self.submit(port, request, request.size, None, asked)
    }

    fn addressed(&self, operation: Operation, blocks: &Range<u64>) -> (PortNo, Request) {
        let size = (blocks.end - blocks.start) * BLOCK;
        match &self.load {
            Load::Volume(volume) => {
                let request = Request {
                    offset: blocks.start * BLOCK,
                    size,
                    ..request(operation, volume)
                };
                (self.ports.vlmcd, request)
            }
            Load::Objects(prefix) => {
                let object = format!("{prefix}-{:06}", blocks.start);
                let request = Request {
                    size,
                    ..request(operation, &object)
                };
                (self.ports.blockerm, request)
            }
            Load::Maps(_) => unreachable!("questions name no blocks"),
        }
    }

    /// False: no slot or no buffer is free now.
    fn submit(
        &mut self,
        port: PortNo,
        request: Request,
        len: u64,
        data: Option<&[u8]>,
        asked: Asked,
    ) -> bool {
        let Some(buffer) = self.core.take_buffer(len) else {
            return false;
        };
        if let Some(data) = data {
            buffer.fill(data);
        }
        let token = self.next;
        match self.core.submit(port, &request, Some(buffer), token) {
            Ok(()) => {
                self.next += 1;
                if let Asked::Write { blocks, .. } | Asked::Read { blocks } = &asked {
                    self.busy.extend(blocks.clone());
                }
                let death = None;
                self.flights.insert(token, Flight { asked, death });
                true
            }
            Err((_, back)) => {
                back.iter().for_each(|b| self.core.give_buffer_back(b));
                false
            }
        }
    }
}

fn request(operation: Operation, target: &str) -> Request {
    Request::new(operation, Name::try_from(target).expect("a short name"))
}
