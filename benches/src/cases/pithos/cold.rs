//! READ of a block whose file nobody has open and nothing has cached: where it is made now, and
//! where an older release left it, from where it moves because it is met.

use super::{BLOCK, hash_name, new_path, old_path};
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::cases::Setting;
use crate::goal::Goal;
use crate::histogram::Histogram;
use crate::lab::{Lab, Shape, Wanted, name};
use client::{Client, Hint};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use xseg::Request;
use xseg::protocol::Operation;

const SKETCH: &str = "new place: an open, 4 MiB from the disk
old place: two opens, and the same; behind it link, four syncs of directories, unlink, on a thread \
of their own, whose journal commit the next read may meet on the disk";

/// Blocks that are read in a turn, each once.
const BLOCKS: u64 = 24;

/// The case.
pub fn case(setting: &Setting) -> Case {
    let lab = Lab::that_migrates(Wanted {
        parent: setting.disk.clone(),
        shape: Shape::One,
        direct: true,
        durable: false,
        volume: 0,
        rados: None,
    });
    let reader = |old| Reader {
        lab: lab.clone(),
        old,
        client: None,
        files: Vec::new(),
        names: if old { 1 << 32 } else { 0 },
    };
    let (new, old) = (reader(false), reader(true));
    let goal = Goal::at_most_times(&old.name(), 1.1, &new.name());
    let case = Case::new(
        "pithos/cold-read",
        "cold read of a block of 4 MiB, moved because it is met, or not",
        SKETCH,
        Metric::MedianMillis,
    );
    case.wants(goal).with(new).with(old)
}

struct Reader {
    lab: Rc<Lab>,
    /// Its blocks lie at their old places.
    old: bool,
    client: Option<Client>,
    /// The blocks' files, which get a new name for each turn.
    files: Vec<PathBuf>,
    names: u64,
}

impl Reader {
    fn blocks_dir(&self) -> Result<PathBuf, Trouble> {
        let node = self.lab.node()?;
        let dir = node.config().file.parent().map(|dir| dir.join("blocks"));
        dir.ok_or_else(|| Trouble::Failed("the node has no folder".into()))
    }

    /// Names that nobody has heard of, at the old or the new place.
    fn lay(&mut self) -> Result<Vec<String>, Trouble> {
        let dir = self.blocks_dir()?;
        let mut names = Vec::new();
        for file in &mut self.files {
            self.names += 1;
            let name = hash_name(self.names);
            let path = if self.old {
                old_path(&name)
            } else {
                new_path(&name)
            };
            let path = dir.join(path);
            let parent = path.parent().unwrap_or(&dir);
            fs::create_dir_all(parent)
                .and_then(|()| fs::rename(&*file, &path))
                .map_err(Trouble::failed("a block's file"))?;
            // Where it will be found for the next turn.
            *file = dir.join(new_path(&name));
            names.push(name);
        }
        sync_and_drop(&dir)?;
        Ok(names)
    }

    fn read(&self, client: &Client, block: &str) -> Result<Duration, Trouble> {
        let request = Request {
            size: BLOCK as u64,
            ..Request::new(Operation::Read, name(block.as_bytes()))
        };
        let begin = Instant::now();
        let call = client.call(client.ports().blockerb, request, &[], BLOCK);
        let read = client.block_on(call);
        let elapsed = begin.elapsed();
        read.map_err(|errno| Trouble::Failed(format!("read: errno {errno}")))?;
        Ok(elapsed)
    }
}

/// What was done to the files is on the disk, and nothing of it in the caches.
fn sync_and_drop(dir: &Path) -> Result<(), Trouble> {
    let dir = fs::File::open(dir).map_err(Trouble::failed("the folder"))?;
    nix::unistd::syncfs(&dir).map_err(Trouble::failed("syncfs"))?;
    fs::write("/proc/sys/vm/drop_caches", "3")
        .map_err(|why| Trouble::Missing(format!("dropping caches needs root: {why}")))
}

/// Until the blocker moves nothing any more.
fn settle(client: &Client) -> Result<(), Trouble> {
    loop {
        let blockerb = client.ports().blockerb;
        let status = client
            .status(blockerb, xseg::Name::EMPTY, Hint::default())
            .map_err(Trouble::failed("status"))?;
        let status: serde_json::Value =
            serde_json::from_slice(&status).map_err(Trouble::failed("status"))?;
        if status["moving"] == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Contender for Reader {
    fn name(&self) -> String {
        let place = if self.old { "old" } else { "new" };
        format!("READ at its {place} place")
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        let node = self.lab.node().ok()?;
        Some(node.pids().collect())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.client = Some(self.lab.node()?.client()?);
        let dir = self.blocks_dir()?;
        for n in 0..BLOCKS {
            let kind = if self.old { "old" } else { "new" };
            let file = dir.join(format!("file-{kind}-{n}"));
            fs::write(&file, vec![n as u8; BLOCK]).map_err(Trouble::failed("a block's file"))?;
            self.files.push(file);
        }
        Ok(())
    }

    /// One pass over its blocks, whatever the budget.
    fn run(&mut self, _: Duration) -> Result<Turn, Trouble> {
        let names = self.lay()?;
        let client = self.client.clone();
        let client = client.ok_or_else(|| Trouble::Failed("no node".into()))?;
        let (mut latencies, mut spent) = (Histogram::default(), Duration::ZERO);
        for block in &names {
            let elapsed = self.read(&client, block)?;
            latencies.record(elapsed.as_nanos() as u64);
            spent += elapsed;
        }
        settle(&client)?;
        match self.files.iter().find(|file| !file.is_file()) {
            Some(file) => Err(Trouble::Failed(format!("{} did not move", file.display()))),
            None => Ok(Turn::timed(spent, latencies)),
        }
    }

    fn teardown(&mut self) {
        self.client = None;
    }
}
