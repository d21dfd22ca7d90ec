//! A volume through the client, beside a raw file on the same filesystem at the same depth.
//!
//! ```text
//!   client --1 request--> vlmcd --2 object request--> blockerb --3 io_uring--> file
//!   client <------------- vlmcd <------------------- blockerb <-------------- kernel
//! ```
//! The data stays in one buffer of the segment all the way; the map's entries are in vlmcd's
//! cache, so mapperd is not asked.

use super::Setting;
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::goal::Goal;
use crate::lab::{Lab, Shape, Wanted};
use crate::load::{Pattern, Place, Work};
use crate::raw::file::{Mode, RawFile};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

const SMALL: &str = "client -> vlmcd -> blockerb -> one io_uring operation, and back: 4 messages, \
0 copies
in one process 2 of the 4 are calls (1 to 2 us in all); with a process per role each wakes \
somebody when nobody spins (5 to 15 us)
then the disk: 4k O_DSYNC about 2.5 ms, O_DIRECT 25 to 40 us, page cache 1 to 3 us";
const LARGE: &str = "as 4k, in objects of 4 MiB: 8 requests for each object; the copy between page \
cache and buffer (buffered) or the disk (direct) decides";

/// Where and how a node keeps its data.
#[derive(Clone, Copy)]
struct Ground {
    /// In names of cases.
    slug: &'static str,
    title: &'static str,
    disk: bool,
    direct: bool,
    durable: bool,
    /// Of the raw file.
    part: f64,
}

const GROUNDS: [Ground; 5] = [
    Ground {
        slug: "disk-durable",
        title: "durable when answered, direct",
        disk: true,
        direct: true,
        durable: true,
        part: 0.8,
    },
    Ground {
        slug: "disk-direct",
        title: "volatile, direct",
        disk: true,
        direct: true,
        durable: false,
        part: 0.6,
    },
    Ground {
        slug: "disk-cached",
        title: "volatile, page cache",
        disk: true,
        direct: false,
        durable: false,
        part: 0.6,
    },
    Ground {
        slug: "memory-durable",
        title: "durable when answered, tmpfs",
        disk: false,
        direct: false,
        durable: true,
        part: 0.8,
    },
    Ground {
        slug: "memory",
        title: "volatile, tmpfs",
        disk: false,
        direct: false,
        durable: false,
        part: 0.6,
    },
];

/// The original's best row for 4k random work, at depths 1, 16 and 64 (spec/observed.md).
fn original(ground: &Ground, work: &Work) -> Option<(f64, &'static str)> {
    let rows = match (ground.disk, ground.durable, work.write) {
        (true, _, true) => (
            [393.0, 1650.0, 3239.0],
            "10 x the original, one vlmcd port, ext4",
        ),
        (true, false, false) => (
            [373.0, 3036.0, 6785.0],
            "10 x the original, one vlmcd port, ext4",
        ),
        (false, false, true) => (
            [2168.0, 11184.0, 27590.0],
            "10 x the original, best tuning, tmpfs",
        ),
        _ => return None,
    };
    let at = [1, 16, 64].iter().position(|&depth| depth == work.depth)?;
    (work.block == 4096 && work.random && !ground.durable).then_some((rows.0[at] * 10.0, rows.1))
}

fn works(durable: bool) -> Vec<Work> {
    let small = |write, depth| Work {
        write,
        random: true,
        block: 4096,
        depth,
    };
    let large = |write| Work {
        write,
        random: false,
        block: 512 << 10,
        depth: 4,
    };
    let mut works: Vec<Work> = [1, 16, 64].map(|depth| small(true, depth)).into();
    if !durable {
        // Whether writes are durable makes no difference to reads.
        works.extend([1, 16, 64].map(|depth| small(false, depth)));
        works.push(large(false));
    }
    works.push(large(true));
    works
}

/// Five grounds, and on each the same work.
pub fn cases(setting: &Setting) -> Result<Vec<Case>, Trouble> {
    Ok(GROUNDS
        .iter()
        .flat_map(|ground| ground_cases(ground, setting))
        .collect())
}

fn ground_cases(ground: &Ground, setting: &Setting) -> Vec<Case> {
    let parent = if ground.disk {
        &setting.disk
    } else {
        &setting.memory
    };
    let size = if setting.quick { 64 << 20 } else { 1 << 30 };
    let labs = Shape::BOTH.map(|shape| {
        Lab::new(Wanted {
            parent: parent.clone(),
            shape,
            direct: ground.direct,
            durable: ground.durable,
            volume: size,
            rados: None,
        })
    });
    let raw = |work| Raw {
        path: parent.join("raw"),
        mode: Mode {
            direct: ground.direct,
            durable: ground.durable,
        },
        size,
        file: None,
        pattern: Pattern::new(&work, size, setting.seed),
        work,
    };
    works(ground.durable)
        .into_iter()
        .map(|work| case(ground, work, &labs, raw(work), setting))
        .collect()
}

fn case(ground: &Ground, work: Work, labs: &[Rc<Lab>; 2], raw: Raw, setting: &Setting) -> Case {
    let metric = match work.random {
        true => Metric::Rate,
        false => Metric::Megabytes(work.block as u64),
    };
    let sketch = if work.random { SMALL } else { LARGE };
    let title = format!("volume, {}: {}", ground.title, work.title());
    let mut case = Case::new(
        format!("volume/{}-{}", ground.slug, work.slug()),
        title,
        sketch,
        metric,
    );
    let floor = raw.name();
    for lab in labs {
        let ours = Ours::new(lab, work, setting.seed);
        case = case
            .wants(Goal::at_least_times(&ours.name(), ground.part, &floor))
            .with(ours);
    }
    if let Some((rate, note)) = original(ground, &work) {
        let best = Ours::new(&labs[0], work, 0).name();
        case = case.wants(Goal::at_least(&best, rate, note));
    }
    case.with(raw)
}

struct Ours {
    lab: Rc<Lab>,
    work: Work,
    pattern: Pattern,
    place: Option<Place>,
}

impl Ours {
    fn new(lab: &Rc<Lab>, work: Work, seed: u64) -> Ours {
        Ours {
            lab: lab.clone(),
            work,
            pattern: Pattern::new(&work, lab.wanted().volume, seed),
            place: None,
        }
    }
}

impl Contender for Ours {
    fn name(&self) -> String {
        format!("volume, {}", self.lab.wanted().shape.as_str())
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        Some(self.lab.node().ok()?.pids().collect())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.place = Some(self.lab.node()?.place()?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let place = self
            .place
            .as_mut()
            .ok_or(Trouble::Failed("no place at the node".into()))?;
        place.run(&self.work, &mut self.pattern, budget)
    }

    fn teardown(&mut self) {
        self.place = None;
    }
}

struct Raw {
    path: PathBuf,
    size: u64,
    mode: Mode,
    work: Work,
    pattern: Pattern,
    file: Option<RawFile>,
}

impl Contender for Raw {
    fn name(&self) -> String {
        let word = |on, text: &'static str| if on { text } else { "" };
        let (direct, durable) = (
            word(self.mode.direct, " O_DIRECT"),
            word(self.mode.durable, " O_DSYNC"),
        );
        format!("raw file{direct}{durable}, io_uring")
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        Some(Vec::new())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        let file = RawFile::open(&self.path, self.size, self.mode, &self.work);
        self.file = Some(file.map_err(Trouble::failed("raw file"))?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let file = self
            .file
            .as_mut()
            .ok_or(Trouble::Failed("no file".into()))?;
        file.run(&self.work, &mut self.pattern, budget)
    }

    fn teardown(&mut self) {
        self.file = None;
    }
}
