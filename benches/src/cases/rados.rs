//! A volume over RADOS, beside `rados bench` on the same pool and fio's rbd engine on an image of
//! the same cluster; and a clone of a clone of ... beside a plain volume.
//!
//! ```text
//!   client --segment--> vlmcd -> blockerb -> librados --loopback--> OSD -> bluestore
//!   rados bench ---------------------------> librados --loopback--> OSD -> bluestore
//!   fio ------------------------> librbd --> librados --loopback--> OSD -> bluestore
//! ```
//! What always holds: all work on the same number of bytes, written before, in objects of 4 MiB
//! (those of `rados bench` are as large as its blocks, and it writes new ones); no write is
//! answered before it is durable.

use super::Setting;
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::ceph::{Cluster, OBJECT};
use crate::fio;
use crate::goal::Goal;
use crate::lab::{Lab, Shape, VOLUME, Wanted, name};
use crate::load::{Pattern, Place, Work};
use client::{Client, Hint, Volume};
use std::rc::Rc;
use std::time::Duration;
use xseg::Name;

const SMALL: &str = "ours: client -> vlmcd -> blockerb -> librados -> loopback -> OSD, and back: 4 \
messages of the segment, 2 of them calls, 2 of the network, 1 copy (segment to librados, or back)
rados bench: 2 of the network, 1 copy; so ours is later by 2 wake-ups (client, blockerb), 10 to 30 us
rbd: as rados bench, and librbd's own threads and queues on top
then the OSD: a read 0.3 to 1 ms of its threads; a write also waits for the disk's log, 2.5 ms";
const LARGE: &str = "as 4k, one object each; 4 MiB are copied twice more, into the socket and out of \
it, and checked (crc32c) on both sides: 2 to 4 ms of processor, of which ours is the one copy, 0.5 \
ms, which rados bench makes too";
const DEEP: &str = "ours: the map of a clone names the objects themselves, whoever wrote them: as \
many hops as on a plain volume
rbd: an object that the clone lacks is asked of its parent, generation by generation; with an \
object map without a network message for each, but through all 16 images
each of the 16 generations has one object of its own, so the bytes lie at all depths";

const BENCH: &str = "rados bench";
const RBD: &str = "rbd, cache off";

/// Bytes of the volume and the image.
const SIZE: u64 = 64 * OBJECT;
/// Bytes that small work goes to, and of the clones.
const HOT: u64 = 16 * OBJECT;
/// Generations of clones.
const DEPTH: u64 = 16;

/// Reads first: small writes leave the objects in pieces.
pub fn cases(setting: &Setting) -> Result<Vec<Case>, Trouble> {
    if let Some(package) = rados_lab::missing() {
        return Err(Trouble::Missing(format!(
            "the Debian package {package} is not installed"
        )));
    }
    let cluster = Cluster::new(&setting.disk);
    let ground = Ground {
        node: Lab::new(Wanted {
            parent: setting.disk.clone(),
            shape: Shape::One,
            direct: false,
            durable: false,
            volume: SIZE,
            rados: Some(cluster.clone()),
        }),
        cluster,
        seed: setting.seed,
    };
    let depths: &[usize] = if setting.quick { &[16] } else { &[1, 16] };
    let deep = depths.iter().map(|&depth| ground.deep(depth));
    let plain = works().into_iter().map(|work| ground.plain(work));
    Ok(deep.chain(plain).collect())
}

fn works() -> Vec<Work> {
    let small = |write, depth| Work {
        write,
        random: true,
        block: 4096,
        depth,
    };
    let large = |write: bool, depth| Work {
        write,
        random: !write,
        block: OBJECT as usize,
        depth,
    };
    let mut works = Vec::new();
    for write in [false, true] {
        works.extend([1, 16].map(|depth| small(write, depth)));
        works.extend([1, 16].map(|depth| large(write, depth)));
    }
    works
}

/// What the cases share.
#[derive(Clone)]
struct Ground {
    // Before the cluster: it must have stopped when that goes.
    node: Rc<Lab>,
    cluster: Rc<Cluster>,
    seed: u64,
}

impl Ground {
    fn plain(&self, work: Work) -> Case {
        let small = work.block < OBJECT as usize;
        let (sketch, metric) = match small {
            true => (SMALL, Metric::Rate),
            false => (LARGE, Metric::Megabytes(OBJECT)),
        };
        let size = if small { HOT } else { SIZE };
        let ours = self.ours(What::Plain, work, size);
        let case = Case::new(
            format!("rados/{}", work.slug()),
            format!("volume over RADOS: {}", work.title()),
            sketch,
            metric,
        );
        let case = case
            .wants(Goal::at_least_times(&ours.name(), 0.9, BENCH))
            .with(Bench {
                cluster: self.cluster.clone(),
                work,
                size,
            });
        match small {
            true => case
                .wants(Goal::at_least_times(&ours.name(), 1.0, RBD))
                .with(self.rbd(What::Plain, work))
                .with(ours),
            false => case.with(ours),
        }
    }

    /// Reads on the last of 16 generations of clones.
    fn deep(&self, depth: usize) -> Case {
        let work = Work {
            write: false,
            random: true,
            block: 4096,
            depth,
        };
        let ours = |what| self.ours(what, work, HOT);
        let (plain, deep) = (ours(What::Plain), ours(What::Deep));
        Case::new(
            format!("rados/clone-{DEPTH}-deep-{}", work.slug()),
            format!("clone {DEPTH} generations deep: {}", work.title()),
            DEEP,
            Metric::Rate,
        )
        .wants(Goal::at_least_times(&deep.name(), 0.95, &plain.name()))
        .with(plain)
        .with(deep)
        .with(self.rbd(What::Plain, work))
        .with(self.rbd(What::Deep, work))
    }

    fn ours(&self, what: What, work: Work, size: u64) -> Ours {
        Ours {
            what,
            pattern: Pattern::new(&work, size, self.seed),
            ground: self.clone(),
            work,
            place: None,
        }
    }

    fn rbd(&self, what: What, work: Work) -> Rbd {
        Rbd {
            what,
            cluster: self.cluster.clone(),
            work,
            seed: self.seed,
        }
    }

    /// A written volume and its 16 generations.
    fn make_clones(&self) -> Result<(), Trouble> {
        let client = self.node.node()?.client()?;
        client
            .create(generation(0), HOT)
            .map_err(Trouble::failed("create"))?;
        let blocks = (0..HOT).step_by(OBJECT as usize);
        write_blocks(&client, generation(0), blocks)?;
        for at in 0..DEPTH {
            let (parent, new) = (generation(at), generation(at + 1));
            let snapshot = name(format!("snapshot-{at}").as_bytes());
            client
                .snapshot(parent, snapshot, Hint::default())
                .map_err(Trouble::failed("snapshot"))?;
            client
                .clone_volume(snapshot, new, HOT, Hint::default())
                .map_err(Trouble::failed("clone"))?;
            write_blocks(&client, new, [at * OBJECT])?;
        }
        Ok(())
    }
}

fn generation(at: u64) -> Name {
    name(format!("generation-{at}").as_bytes())
}

/// Writes whole blocks of a volume.
fn write_blocks(
    client: &Client,
    volume: Name,
    blocks: impl IntoIterator<Item = u64>,
) -> Result<(), Trouble> {
    let volume = Volume::open(client, volume, Hint::default()).map_err(Trouble::failed("open"))?;
    let block = vec![0x3c; OBJECT as usize];
    for offset in blocks {
        volume
            .write_at(&block, offset)
            .map_err(Trouble::failed("write"))?;
    }
    volume.flush().map_err(Trouble::failed("flush"))
}

/// Which volume or image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Plain,
    /// The last generation of clones.
    Deep,
}

impl What {
    /// `whom`, and how deep.
    fn of(self, whom: &str) -> String {
        match self {
            What::Plain => whom.into(),
            What::Deep => format!("{whom}, clone {DEPTH} deep"),
        }
    }
}

struct Ours {
    what: What,
    ground: Ground,
    work: Work,
    pattern: Pattern,
    place: Option<Place>,
}

impl Contender for Ours {
    fn name(&self) -> String {
        self.what.of("volume")
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        Some(self.ground.node.node().ok()?.pids().collect())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        let volume = match self.what {
            What::Plain => name(VOLUME),
            What::Deep => {
                let ground = &self.ground;
                ground.cluster.once("clones", || ground.make_clones())?;
                generation(DEPTH)
            }
        };
        self.place = Some(self.ground.node.node()?.place_on(volume)?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let place = self.place.as_mut();
        let place = place.ok_or(Trouble::Failed("no place at the node".into()))?;
        place.run(&self.work, &mut self.pattern, budget)
    }

    fn teardown(&mut self) {
        self.place = None;
    }
}

struct Bench {
    cluster: Rc<Cluster>,
    work: Work,
    size: u64,
}

impl Contender for Bench {
    fn name(&self) -> String {
        BENCH.into()
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        if self.work.write {
            return Ok(());
        }
        let (block, size) = (self.work.block, self.size);
        self.cluster.once(&format!("objects of {block}"), || {
            self.cluster.fill_for_bench(block, size)
        })
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        self.cluster.bench(&self.work, budget)
    }
}

struct Rbd {
    what: What,
    cluster: Rc<Cluster>,
    work: Work,
    seed: u64,
}

impl Rbd {
    fn image(&self) -> String {
        match self.what {
            What::Plain => "plain".into(),
            What::Deep => image(DEPTH),
        }
    }

    fn make(&self) -> Result<(), Trouble> {
        if self.what == What::Plain {
            return self.cluster.make_image(&self.image(), HOT);
        }
        self.cluster.make_image(&image(0), HOT)?;
        (0..DEPTH).try_for_each(|at| {
            self.cluster
                .clone_image(&image(at), &image(at + 1), at * OBJECT)
        })
    }
}

/// The image of a generation.
fn image(at: u64) -> String {
    format!("generation-{at}")
}

impl Contender for Rbd {
    fn name(&self) -> String {
        self.what.of(RBD)
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.cluster.once(&self.image(), || self.make())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let image = self.image();
        let target = self.cluster.image(&image)?;
        fio::run(&target, HOT, &self.work, self.seed, budget)
    }
}
