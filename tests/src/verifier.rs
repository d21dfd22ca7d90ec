//! Clients that keep every role busy and know every byte that they may see.
//!
//! Each thread owns what it writes, and never has two requests under way on one block, so what a
//! block must show is exact: the stamp acknowledged last. A stamp fills its block and names the
//! writer's count.

use client::{Core, Done, Ports};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use xseg::join::Kind;
use xseg::protocol::{Operation, flags};
use xseg::{Name, Request};

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// What the threads count.
#[derive(Default)]
pub struct Tally {
    /// Requests that ended as they should.
    pub served: AtomicU64,
    /// Requests that failed.
    pub errors: AtomicU64,
    /// Blocks that showed another stamp.
    pub wrong: AtomicU64,
    /// Told to end.
    pub stop: AtomicBool,
}

/// What one thread does.
#[derive(Clone, Debug)]
pub enum Load {
    /// Reads and writes of a volume.
    Volume(String),
    /// Reads and writes of objects, straight at the blocker of maps.
    Objects(String),
    /// Questions about a volume's map and size.
    Maps(String),
}

enum Asked {
    Write { blocks: Range<u64>, stamp: u64 },
    Read { blocks: Range<u64> },
    Question,
}

struct Worker<'a> {
    core: Core,
    ports: Ports,
    load: Load,
    tally: &'a Tally,
    dice: ChaCha8Rng,
    blocks: u64,
    stamps: HashMap<u64, u64>,
    busy: HashSet<u64>,
    asked: HashMap<u64, Asked>,
    next: u64,
}

/// Runs one load at `depth` until told to stop, then waits for what is under way. Returns the first
/// thing that was wrong, if any was.
pub fn run(
    socket: &Path,
    ports: Ports,
    load: Load,
    depth: usize,
    blocks: u64,
    seed: u64,
    tally: &Tally,
) -> Option<String> {
    let joined = match xseg::join::connect(socket, Kind::Client { name: "verifier" }) {
        Ok(joined) => joined,
        Err(why) => return Some(why.to_string()),
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
        asked: HashMap::new(),
        next: 1,
    };
    let outcome = worker.go(depth);
    drop(joined.connection);
    outcome
}

impl Worker<'_> {
    fn go(&mut self, depth: usize) -> Option<String> {
        let mut patience = client::wait::Patience::default();
        let mut done = Vec::new();
        let mut first = None;
        loop {
            let stopping = self.tally.stop.load(Ordering::Relaxed);
            while !stopping && self.asked.len() < depth && self.ask() {}
            if self.asked.is_empty() {
                if stopping {
                    return first;
                }
                continue;
            }
            patience.wait(&mut self.core, None, &mut done);
            for one in done.drain(..) {
                let judged = self.judge(&one);
                for buffer in one.data.iter().chain(&one.larger) {
                    self.core.give_buffer_back(buffer);
                }
                if let Err(wrong) = judged {
                    first.get_or_insert(wrong);
                }
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
        if let Load::Maps(volume) = &self.load {
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
        let writes = self.dice.random_bool(0.5);
        let bytes = (blocks.end - blocks.start) * BLOCK;
        let operation = if writes {
            Operation::Write
        } else {
            Operation::Read
        };
        let (port, asked) = match &self.load {
            // An object that was never written is missing, and reading it would fail.
            Load::Objects(_) if !writes && !self.stamps.contains_key(&blocks.start) => return true,
            Load::Objects(prefix) => {
                let object = format!("{prefix}-{:06}", blocks.start);
                (
                    self.ports.blockerm,
                    Request {
                        size: bytes,
                        ..request(operation, &object)
                    },
                )
            }
            Load::Volume(volume) | Load::Maps(volume) => {
                let offset = blocks.start * BLOCK;
                (
                    self.ports.vlmcd,
                    Request {
                        offset,
                        size: bytes,
                        ..request(operation, volume)
                    },
                )
            }
        };
        if !writes {
            return self.submit(port, asked, bytes, None, Asked::Read { blocks });
        }
        let stamp = self.next;
        let data = stamp.to_le_bytes().repeat((bytes / 8) as usize);
        self.submit(
            port,
            asked,
            bytes,
            Some(&data),
            Asked::Write { blocks, stamp },
        )
    }

    fn submit(
        &mut self,
        port: u32,
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
                self.asked.insert(token, asked);
                true
            }
            Err((_, back)) => {
                back.iter().for_each(|b| self.core.give_buffer_back(b));
                false
            }
        }
    }

    fn judge(&mut self, done: &Done) -> Result<(), String> {
        let asked = self
            .asked
            .remove(&done.token)
            .ok_or("an answer to nothing")?;
        if let Asked::Write { blocks, .. } | Asked::Read { blocks } = &asked {
            self.busy.retain(|block| !blocks.contains(block));
        }
        if let Err(errno) = done.answer.result() {
            self.tally.errors.fetch_add(1, Ordering::Relaxed);
            return Err(format!(
                "{:?}: a request failed with errno {errno}",
                self.load
            ));
        }
        self.tally.served.fetch_add(1, Ordering::Relaxed);
        match asked {
            Asked::Question => Ok(()),
            Asked::Write { blocks, stamp } => {
                self.stamps.extend(blocks.map(|block| (block, stamp)));
                Ok(())
            }
            Asked::Read { blocks } => self.compare(blocks, done),
        }
    }

    fn compare(&mut self, blocks: Range<u64>, done: &Done) -> Result<(), String> {
        let data = done.data.as_ref().map(|d| d.to_vec()).unwrap_or_default();
        for (block, bytes) in blocks.zip(data.chunks_exact(BLOCK as usize)) {
            let expected = self.stamps.get(&block).copied().unwrap_or(0);
            if bytes
                .chunks_exact(8)
                .any(|word| word != expected.to_le_bytes())
            {
                self.tally.wrong.fetch_add(1, Ordering::Relaxed);
                let seen = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
                return Err(format!(
                    "{:?} block {block}: {seen} instead of {expected}",
                    self.load
                ));
            }
        }
        Ok(())
    }
}

fn request(operation: Operation, target: &str) -> Request {
    Request::new(operation, Name::try_from(target).expect("a short name"))
}
