//! HASH of a snapshot: how much of what the processors can hash is hashed.

use super::BLOCK;
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::cases::Setting;
use crate::goal::Goal;
use crate::lab::{Lab, Shape, Wanted, name};
use crate::random::Random;
use client::{Client, Hint, Volume};
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

const SKETCH: &str =
    "raw: sha256 of 4 MiB in memory, over and over, on a thread for each processor
known: each block is read (O_DIRECT: the disk puts it where it is hashed; else one copy), hashed on \
such a thread, and found by its hash: an open, no write. 4 MiB: 2.5 ms of one processor
new: and written, synced, linked, and its directories synced: four journal commits, shared by those \
under way together";

/// Blocks of the snapshot.
const BLOCKS: u64 = 32;

/// On the disk and in memory.
pub fn cases(setting: &Setting) -> Vec<Case> {
    let places = [
        ("disk", "O_DIRECT on the disk", &setting.disk, true),
        ("cached", "in the page cache", &setting.disk, false),
        ("memory", "in memory", &setting.memory, false),
    ];
    places
        .map(|(slug, title, parent, direct)| case((slug, title), parent, direct, setting.seed))
        .into()
}

fn case((slug, title): (&str, &str), parent: &Path, direct: bool, seed: u64) -> Case {
    let lab = Lab::new(Wanted {
        parent: parent.to_owned(),
        shape: Shape::One,
        direct,
        durable: false,
        volume: 0,
        rados: None,
    });
    let ours = |new| Hashing {
        lab: lab.clone(),
        new,
        // Nobody has seen what the other one made.
        dice: Random::new(if new { !seed } else { seed }),
        count: 0,
        client: None,
    };
    let (known, new, raw) = (ours(false), ours(true), Raw::new());
    let mut case = Case::new(
        format!("pithos/ingest-{slug}"),
        format!("hash and deduplicate {BLOCKS} blocks of 4 MiB, {title}"),
        SKETCH,
        Metric::Megabytes(BLOCK as u64),
    );
    let goal = Goal::at_least_times(&known.name(), 0.9, &raw.name());
    // What is hashed stays until the end.
    case.rounds = Some(5);
    case.wants(goal).with(known).with(new).with(raw)
}

/// HASH of a snapshot, whose blocks are there under their hashes or not.
struct Hashing {
    lab: Rc<Lab>,
    new: bool,
    dice: Random,
    count: u32,
    client: Option<(Client, xseg::Name)>,
}

impl Hashing {
    /// A snapshot of a volume full of content that nobody has seen.
    fn snapshot(&mut self, client: &Client) -> Result<xseg::Name, Trouble> {
        let failed = |what: &'static str| Trouble::failed::<client::Error>(what);
        let kind = if self.new { "new" } else { "known" };
        let text = format!("ingest-{kind}-{}", self.count);
        self.count += 1;
        let source = name(text.as_bytes());
        let size = BLOCKS * BLOCK as u64;
        client.create(source, size).map_err(failed("create"))?;
        let volume = Volume::open(client, source, Hint::default()).map_err(failed("open"))?;
        let mut block = vec![0; BLOCK];
        for at in 0..BLOCKS {
            for word in block.chunks_exact_mut(8) {
                word.copy_from_slice(&self.dice.number().to_le_bytes());
            }
            volume
                .write_at(&block, at * BLOCK as u64)
                .map_err(failed("write"))?;
        }
        let snapshot = name(format!("{text}-snapshot").as_bytes());
        client
            .snapshot(source, snapshot, Hint::default())
            .map_err(failed("snapshot"))?;
        client
            .remove(source, Hint::default())
            .map_err(failed("removal"))?;
        Ok(snapshot)
    }
}

impl Contender for Hashing {
    fn name(&self) -> String {
        let what = if self.new { "all new" } else { "all known" };
        format!("HASH, {what}")
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        let node = self.lab.node().ok()?;
        Some(node.pids().collect())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        let client = self.lab.node()?.client()?;
        let snapshot = self.snapshot(&client)?;
        if !self.new {
            // From here on every block is there.
            client
                .hash(snapshot, Hint::default())
                .map_err(Trouble::failed("hash"))?;
        }
        self.client = Some((client, snapshot));
        Ok(())
    }

    /// As often as the budget allows; of new blocks once, because then they are new no more.
    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let missing = || Trouble::Failed("no snapshot".into());
        let (client, snapshot) = self.client.take().ok_or_else(missing)?;
        let (mut ops, begin) = (0, Instant::now());
        let hashed = loop {
            let hashed = client.hash(snapshot, Hint::default());
            ops += BLOCKS;
            if hashed.is_err() || self.new || begin.elapsed() >= budget {
                break hashed;
            }
        };
        let elapsed = begin.elapsed();
        hashed.map_err(Trouble::failed("hash"))?;
        let next = if self.new {
            self.snapshot(&client)?
        } else {
            snapshot
        };
        self.client = Some((client, next));
        Ok(Turn {
            ops,
            elapsed,
            ..Turn::default()
        })
    }

    fn teardown(&mut self) {
        self.client = None;
    }
}

/// Nothing but the hash, on all processors.
struct Raw {
    threads: usize,
}

impl Raw {
    fn new() -> Raw {
        Raw {
            threads: thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl Contender for Raw {
    fn name(&self) -> String {
        format!("raw: sha256 on {} threads", self.threads)
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        Some(Vec::new())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let begin = Instant::now();
        let work = || {
            use sha2::Digest;
            let block = vec![0x5a; BLOCK];
            let mut count = 0;
            while begin.elapsed() < budget {
                std::hint::black_box(sha2::Sha256::digest(std::hint::black_box(&block)));
                count += 1;
            }
            count
        };
        let ops = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|t| t.join().unwrap_or(0)).sum()
        });
        Ok(Turn {
            ops,
            elapsed: begin.elapsed(),
            ..Turn::default()
        })
    }
}
