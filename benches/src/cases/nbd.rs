//! NBD servers under the same client: fio's NBD engine, one connection over a unix socket.
//!
//! ```text
//!   fio --socket--> server --> page cache or disk
//!   fio --socket--> archip-nbd --segment--> vlmcd --> blockerb --> page cache or disk
//! ```

use super::Setting;
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::fio::{self, Target};
use crate::goal::Goal;
use crate::lab::{Lab, Shape, Wanted};
use crate::load::Work;
use crate::servers::{Server, image};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

const SKETCH: &str =
    "fio's own cost decides the ceiling: 2 socket calls and 2 wake-ups, about 20 us \
at depth 1, 6 us each at depth 32
ours on top: 1 copy (socket to segment), 2 to 4 messages of the segment, one io_uring operation: 5 \
to 10 us at depth 1; deep, they overlap with fio's own work as long as there is a second processor";

const CEILING: &str = "archip-nbd-null (the ceiling)";
const QCOW2: &str = "qemu-nbd qcow2";

/// Where and how the servers keep their data.
#[derive(Clone, Copy)]
struct Ground {
    slug: &'static str,
    title: &'static str,
    disk: bool,
    direct: bool,
    durable: bool,
}

impl Ground {
    /// qemu's name for the same thing.
    fn cache(&self) -> &'static str {
        match (self.direct, self.durable) {
            (true, true) => "directsync",
            (true, false) => "none",
            (false, true) => "writethrough",
            (false, false) => "writeback",
        }
    }

    /// nbdkit's file plugin knows no O_DIRECT and no writing through.
    fn suits_nbdkit(&self) -> bool {
        !self.direct && !self.durable
    }
}

const GROUNDS: [Ground; 4] = [
    Ground {
        slug: "cached",
        title: "page cache",
        disk: true,
        direct: false,
        durable: false,
    },
    Ground {
        slug: "direct",
        title: "direct",
        disk: true,
        direct: true,
        durable: false,
    },
    Ground {
        slug: "durable",
        title: "durable when answered, direct",
        disk: true,
        direct: true,
        durable: true,
    },
    Ground {
        slug: "memory",
        title: "tmpfs",
        disk: false,
        direct: false,
        durable: false,
    },
];

/// Page cache against page cache, direct against direct; in a quick run only these, and deep.
pub fn cases(setting: &Setting) -> Result<Vec<Case>, Trouble> {
    let (grounds, depths): (&[Ground], &[usize]) = match setting.quick {
        true => (&GROUNDS[..2], &[32]),
        false => (&GROUNDS, &[1, 32]),
    };
    Ok(grounds
        .iter()
        .flat_map(|ground| ground_cases(*ground, depths, setting))
        .collect())
}

fn ground_cases(ground: Ground, depths: &[usize], setting: &Setting) -> Vec<Case> {
    let dir = if ground.disk {
        &setting.disk
    } else {
        &setting.memory
    };
    let size: u64 = if setting.quick { 64 << 20 } else { 512 << 20 };
    let labs = Shape::BOTH.map(|shape| {
        Lab::new(Wanted {
            parent: dir.clone(),
            shape,
            direct: ground.direct,
            durable: ground.durable,
            volume: size,
            rados: None,
        })
    });
    let mut cases = Vec::new();
    for write in [false, true] {
        if ground.durable && !write {
            continue;
        }
        for &depth in depths {
            let work = Work {
                write,
                random: true,
                block: 4096,
                depth,
            };
            let (dir, seed) = (dir.clone(), setting.seed);
            cases.push(case(work, &labs, ground, |kind| Nbd {
                kind,
                dir: dir.clone(),
                size,
                ground,
                work,
                seed,
                server: None,
            }));
        }
    }
    cases
}

fn case(work: Work, labs: &[Rc<Lab>; 2], ground: Ground, seat: impl Fn(Kind) -> Nbd) -> Case {
    let title = format!("NBD, {}: {}", ground.title, work.title());
    let name = format!("nbd/{}-{}", ground.slug, work.slug());
    let mut case = Case::new(name, title, SKETCH, Metric::Rate);
    for lab in labs {
        let ours = seat(Kind::Ours(lab.clone()));
        if work.depth == 32 {
            case = case
                .wants(Goal::at_least_times(&ours.name(), 1.0, QCOW2))
                .wants(Goal::at_least_times(&ours.name(), 0.8, CEILING));
        }
        case = case.with(ours);
    }
    if ground.suits_nbdkit() {
        case = case.with(seat(Kind::Nbdkit));
    }
    case.with(seat(Kind::Qemu("raw")))
        .with(seat(Kind::Qemu("qcow2")))
        .with(seat(Kind::Null))
}

enum Kind {
    Ours(Rc<Lab>),
    Nbdkit,
    Qemu(&'static str),
    Null,
}

struct Nbd {
    kind: Kind,
    dir: PathBuf,
    size: u64,
    ground: Ground,
    work: Work,
    seed: u64,
    server: Option<Server>,
}

impl Nbd {
    fn start(&self) -> Result<Server, Trouble> {
        match &self.kind {
            Kind::Ours(lab) => Server::archip(lab.node()?),
            Kind::Nbdkit => Server::nbdkit(&image(&self.dir, "nbdkit", "raw", self.size)?),
            Kind::Qemu(format) => {
                let file = image(&self.dir, "qemu", format, self.size)?;
                Server::qemu(&file, format, self.ground.cache())
            }
            Kind::Null => Server::null(self.size),
        }
    }
}

impl Contender for Nbd {
    fn name(&self) -> String {
        match &self.kind {
            Kind::Ours(lab) => format!("archip-nbd, {}", lab.wanted().shape.as_str()),
            Kind::Nbdkit => "nbdkit file".into(),
            Kind::Qemu(format) => format!("qemu-nbd {format}"),
            Kind::Null => CEILING.into(),
        }
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        let node = match &self.kind {
            Kind::Ours(lab) => lab.node().ok(),
            _ => None,
        };
        let node = node.into_iter().flat_map(|node| node.pids());
        // fio's own part is the same for all, and not counted.
        Some(self.server.iter().map(Server::pid).chain(node).collect())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.server = Some(self.start()?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let server = self
            .server
            .as_ref()
            .ok_or(Trouble::Failed("no server".into()))?;
        let target = Target::Nbd(server.uri());
        fio::run(&target, self.size, &self.work, self.seed, budget)
    }

    fn teardown(&mut self) {
        self.server = None;
    }
}
