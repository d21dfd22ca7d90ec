//! Load on a volume through the client: what is asked, where, and how deep.
//!
//! What always holds: the loop holds one buffer of the segment for each request of its depth,
//! taken before the first and given back after the last, so that a turn copies and allocates
//! nothing; it returns only when nothing is under way, or when the node is gone for good.

use crate::case::{Trouble, Turn};
use crate::random::Random;
use client::wait::Patience;
use client::{Core, Done};
use std::time::{Duration, Instant};
use xseg::join::{Connection, Joined};
use xseg::protocol::{Operation, PortNo};
use xseg::{Extent, Name, Request};

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    /// Writes, or reads.
    pub write: bool,
    /// At random offsets, or one after the other.
    pub random: bool,
    /// Bytes of each.
    pub block: usize,
    /// How many at once.
    pub depth: usize,
}

impl Work {
    /// For titles: `4k random write, depth 16`.
    pub fn title(&self) -> String {
        let order = if self.random { "random" } else { "sequential" };
        let verb = if self.write { "write" } else { "read" };
        format!("{} {order} {verb}, depth {}", self.size(), self.depth)
    }

    /// For names of cases: `randwrite-4k-qd16`.
    pub fn slug(&self) -> String {
        let order = if self.random { "rand" } else { "seq" };
        let verb = if self.write { "write" } else { "read" };
        format!("{order}{verb}-{}-qd{}", self.size(), self.depth)
    }

    /// `4k`, `4M`.
    fn size(&self) -> String {
        match self.block >> 20 {
            0 => format!("{}k", self.block >> 10),
            mib => format!("{mib}M"),
        }
    }
}

/// Where the next request goes.
#[derive(Clone, Debug)]
pub struct Pattern {
    random: Option<Random>,
    blocks: u64,
    block: u64,
    next: u64,
}

impl Pattern {
    /// Offsets of `work` in something of `size` bytes.
    pub fn new(work: &Work, size: u64, seed: u64) -> Pattern {
        let block = work.block as u64;
        Pattern {
            random: work.random.then(|| Random::new(seed)),
            blocks: (size / block).max(1),
            block,
            next: 0,
        }
    }

    /// The next offset.
    #[inline]
    pub fn offset(&mut self) -> u64 {
        let at = match &mut self.random {
            Some(random) => random.below(self.blocks),
            None => self.next % self.blocks,
        };
        self.next += 1;
        at * self.block
    }
}

/// A client's place at a node, for work on one volume. It waits as our clients do: a short spin,
/// then the bell.
pub struct Place {
    core: Core,
    node: Connection,
    /// Where vlmcd serves.
    port: PortNo,
    volume: Name,
    patience: Patience,
}

impl Place {
    /// For work on `volume`, which vlmcd serves at `port`.
    pub fn new(joined: Joined, port: PortNo, volume: Name) -> Place {
        let Joined {
            mut seat,
            connection,
        } = joined;
        seat.bind_dynamic();
        Place {
            core: Core::new(seat),
            node: connection,
            port,
            volume,
            patience: Patience::default(),
        }
    }

    /// Does `work` for `budget`.
    pub fn run(
        &mut self,
        work: &Work,
        pattern: &mut Pattern,
        budget: Duration,
    ) -> Result<Turn, Trouble> {
        let mut idle = self.buffers(work)?;
        let mut turn = Turn::default();
        let outcome = Load::new(self, work).turn(&mut turn, pattern, budget, &mut idle);
        idle.iter()
            .for_each(|buffer| self.core.give_buffer_back(buffer));
        outcome.map(|()| turn)
    }

    fn buffers(&mut self, work: &Work) -> Result<Vec<Extent>, Trouble> {
        let bytes = vec![0xa5; work.block];
        let mut buffers = Vec::with_capacity(work.depth);
        for _ in 0..work.depth {
            let Some(buffer) = self.core.take_buffer(work.block as u64) else {
                buffers
                    .iter()
                    .for_each(|buffer| self.core.give_buffer_back(buffer));
                return Err(Trouble::Failed("the segment has no free buffer".into()));
            };
            buffer.fill(&bytes);
            buffers.push(buffer);
        }
        Ok(buffers)
    }
}

struct Load<'a> {
    place: &'a mut Place,
    request: Request,
    size: u64,
    /// When the request of each token was sent.
    started: Vec<Instant>,
    failed: Option<i32>,
}

impl<'a> Load<'a> {
    fn new(place: &'a mut Place, work: &Work) -> Load<'a> {
        let operation = if work.write {
            Operation::Write
        } else {
            Operation::Read
        };
        let request = Request::new(operation, place.volume);
        Load {
            place,
            request,
            size: work.block as u64,
            started: vec![Instant::now(); work.depth],
            failed: None,
        }
    }

    fn turn(
        &mut self,
        turn: &mut Turn,
        pattern: &mut Pattern,
        budget: Duration,
        idle: &mut Vec<Extent>,
    ) -> Result<(), Trouble> {
        let start = Instant::now();
        for token in 0..self.started.len() {
            self.send(token, pattern.offset(), start, idle);
        }
        let mut done: Vec<Done> = Vec::with_capacity(self.started.len());
        while self.place.core.under_way() > 0 {
            let Place {
                core,
                node,
                patience,
                ..
            } = &mut *self.place;
            if !patience.wait(core, Some(node.descriptor()), &mut done) {
                self.failed = Some(libc::ENOTCONN);
                break;
            }
            let now = Instant::now();
            for one in done.drain(..) {
                let token = one.token as usize;
                turn.latencies
                    .record((now - self.started[token]).as_nanos() as u64);
                self.take(one, idle);
                if now - start < budget && self.failed.is_none() {
                    self.send(token, pattern.offset(), now, idle);
                }
            }
            turn.elapsed = now - start;
        }
        turn.ops = turn.latencies.count();
        match self.failed {
            Some(errno) => Err(Trouble::failed("request")(
                std::io::Error::from_raw_os_error(errno),
            )),
            None => Ok(()),
        }
    }

    fn send(&mut self, token: usize, offset: u64, now: Instant, idle: &mut Vec<Extent>) {
        self.started[token] = now;
        let request = Request {
            offset,
            size: self.size,
            ..self.request
        };
        if let Err((errno, data)) =
            self.place
                .core
                .submit(self.place.port, &request, idle.pop(), token as u64)
        {
            idle.extend(data);
            self.failed = Some(errno);
        }
    }

    fn take(&mut self, done: Done, idle: &mut Vec<Extent>) {
        match done.answer.result() {
            Ok(serviced) if serviced == self.size => {}
            Ok(_) => self.failed = Some(libc::EIO),
            Err(errno) => self.failed = Some(errno),
        }
        if let Some(larger) = &done.larger {
            self.place.core.give_buffer_back(larger);
        }
        idle.extend(done.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work {
        write: true,
        random: true,
        block: 4096,
        depth: 1,
    };

    #[test]
    fn random_offsets_are_aligned_inside_and_everywhere() {
        let mut pattern = Pattern::new(&WORK, 16 * 4096, 5);
        let seen: std::collections::BTreeSet<u64> = (0..500).map(|_| pattern.offset()).collect();
        let all: Vec<u64> = (0..16).map(|n| n * 4096).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn sequential_offsets_begin_again_at_the_end() {
        let work = Work {
            random: false,
            block: 512 << 10,
            ..WORK
        };
        let mut pattern = Pattern::new(&work, 1 << 20, 5);
        let offsets: Vec<u64> = (0..3).map(|_| pattern.offset()).collect();
        assert_eq!(offsets, [0, 512 << 10, 0]);
        assert_eq!(
            (work.slug(), work.title()),
            (
                "seqwrite-512k-qd1".into(),
                "512k sequential write, depth 1".into()
            )
        );
    }
}
