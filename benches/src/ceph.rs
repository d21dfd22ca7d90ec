//! A real Ceph cluster of one OSD, and what Ceph's own programs do on it: `rados bench` and images
//! of `rbd`.
//!
//! What always holds: the cluster starts when a contender first asks for it, and is gone with the
//! last one that may. Everybody works on it with the same configuration, over the same loopback
//! address.

use crate::case::{Trouble, Turn};
use crate::fio::{self, Target};
use crate::load::Work;
use config::SampleRados;
use rados_lab::{Lab, Options};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// The pool of our blocks, and of the objects of `rados bench`.
const BLOCKS: &str = "blocks";
const MAPS: &str = "maps";
/// The pool of rbd's images.
pub const IMAGES: &str = "images";
/// Bytes of a block of ours, and of an object of rbd's.
pub const OBJECT: u64 = 4 << 20;

/// A cluster that starts when it is first asked for.
pub struct Cluster {
    parent: PathBuf,
    lab: OnceCell<Result<Lab, Trouble>>,
    /// What [`Cluster::once`] has made.
    made: RefCell<BTreeSet<String>>,
}

impl Cluster {
    /// A cluster below `parent`, for several contenders.
    pub fn new(parent: &Path) -> Rc<Cluster> {
        Rc::new(Cluster {
            parent: parent.to_owned(),
            lab: OnceCell::new(),
            made: RefCell::default(),
        })
    }

    /// Where a node has its objects.
    pub fn storage(&self) -> Result<SampleRados, Trouble> {
        Ok(SampleRados {
            ceph_conf: self.lab()?.user_conf(),
            cephx_id: rados_lab::USER.into(),
            blocks: BLOCKS.into(),
            maps: MAPS.into(),
        })
    }

    /// Makes what several contenders share, unless it was made before.
    pub fn once(
        &self,
        what: &str,
        make: impl FnOnce() -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        if !self.made.borrow().contains(what) {
            make()?;
            self.made.borrow_mut().insert(what.to_owned());
        }
        Ok(())
    }

    fn lab(&self) -> Result<&Lab, Trouble> {
        let lab = self.lab.get_or_init(|| start(&self.parent));
        lab.as_ref().map_err(Trouble::clone)
    }

    /// Writes `bytes` in objects of `block` bytes, which later turns of [`Cluster::bench`] read.
    pub fn fill_for_bench(&self, block: usize, bytes: u64) -> Result<(), Trouble> {
        let (size, count) = (block.to_string(), (bytes / block as u64).to_string());
        let run = run_name(block);
        let mut line = vec!["-p", BLOCKS, "bench", "120", "write", "-b", &size];
        line.extend(["-t", "32", "--max-objects", &count]);
        line.extend(["--no-cleanup", "--run-name", &run]);
        let said = self.lab()?.rados(&line);
        let turn = turn_of(&said.map_err(Trouble::failed("rados bench"))?.out)?;
        match turn.ops * block as u64 == bytes {
            true => Ok(()),
            false => Err(Trouble::Failed(format!(
                "rados bench wrote {} objects instead of {count}",
                turn.ops
            ))),
        }
    }

    /// `rados bench` on the pool of our blocks, in objects of the work's size, for `budget` rounded
    /// up to a second. What it writes it removes, after the time that it counts.
    pub fn bench(&self, work: &Work, budget: Duration) -> Result<Turn, Trouble> {
        let seconds = budget.as_secs_f64().ceil().max(1.0).to_string();
        let (size, depth) = (work.block.to_string(), work.depth.to_string());
        let run = run_name(work.block);
        let mut line = vec!["-p", BLOCKS, "bench", &seconds];
        match work.write {
            true => line.extend(["write", "-b", &size]),
            // Of the objects that it has written it checks every byte unless told otherwise.
            false => line.extend(["rand", "--no-verify", "--run-name", &run]),
        }
        line.extend(["-t", &depth]);
        let said = self.lab()?.rados(&line);
        turn_of(&said.map_err(Trouble::failed("rados bench"))?.out)
    }

    /// An image of rbd for fio.
    pub fn image<'a>(&self, name: &'a str) -> Result<Target<'a>, Trouble> {
        Ok(Target::Rbd {
            conf: self.rbd_conf()?,
            pool: IMAGES,
            image: name,
        })
    }

    /// An image of `size` bytes, all of them written.
    pub fn make_image(&self, name: &str, size: u64) -> Result<(), Trouble> {
        self.once("pool of images", || {
            self.rbd(&["pool", "init", "--force", IMAGES])
        })?;
        self.rbd(&["create", "--size", &format!("{size}B"), &spec(name)])?;
        fio::fill(&self.image(name)?, 0, size, OBJECT)
    }

    /// A clone of `parent`, by a snapshot, with one object of its own at `offset`.
    pub fn clone_image(&self, parent: &str, name: &str, offset: u64) -> Result<(), Trouble> {
        let snapshot = format!("{}@base", spec(parent));
        self.rbd(&["snap", "create", "--no-progress", &snapshot])?;
        self.rbd(&["snap", "protect", &snapshot])?;
        self.rbd(&["clone", &snapshot, &spec(name)])?;
        fio::fill(&self.image(name)?, offset, OBJECT, OBJECT)
    }

    fn rbd(&self, arguments: &[&str]) -> Result<(), Trouble> {
        let output = Command::new("rbd")
            .arg("-c")
            .arg(self.rbd_conf()?)
            .args(arguments)
            .env_remove("CEPH_ARGS")
            .stdin(Stdio::null())
            .output()
            .map_err(|why| Trouble::Missing(format!("rbd: {why}")))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Trouble::Failed(format!(
                "rbd {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    }

    /// The cluster's own configuration, with rbd's cache off.
    fn rbd_conf(&self) -> Result<PathBuf, Trouble> {
        let lab = self.lab()?;
        let file = lab.dir().join("rbd.conf");
        if !file.exists() {
            // The section of clients is the last one.
            let text = std::fs::read_to_string(lab.conf());
            let text = text.map_err(Trouble::failed("ceph.conf"))?;
            std::fs::write(&file, text + "rbd_cache = false\n")
                .map_err(Trouble::failed("rbd.conf"))?;
        }
        Ok(file)
    }
}

fn start(parent: &Path) -> Result<Lab, Trouble> {
    let options = Options {
        pools: [BLOCKS, MAPS, IMAGES].map(Into::into).into(),
        ..Options::default()
    };
    Lab::start(parent, options).map_err(Trouble::failed("Ceph"))
}

/// Under which `rados bench` remembers the objects of this size.
fn run_name(block: usize) -> String {
    format!("bench-{block}")
}

fn spec(image: &str) -> String {
    format!("{IMAGES}/{image}")
}

/// What `rados bench` says at its end: `Total time run: 1.00`, `Total writes made: 99`.
fn turn_of(said: &str) -> Result<Turn, Trouble> {
    let field = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name))?;
        line.split_once(':')?.1.trim().parse::<f64>().ok()
    };
    let ops = field("Total writes made").or_else(|| field("Total reads made"));
    let (Some(ops), Some(seconds)) = (ops, field("Total time run")) else {
        return Err(Trouble::Failed("rados bench told nothing".into()));
    };
    Ok(Turn {
        ops: ops as u64,
        elapsed: Duration::from_secs_f64(seconds),
        ..Turn::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rados_bench_says_becomes_a_turn() {
        let said = "  sec Cur ops   started  finished\n    1      16      1200\n\
                    Total time run:         1.25\nTotal reads made:     1216\n\
                    Read size:            4096\nAverage IOPS:         972\n";
        let turn = turn_of(said).unwrap();
        assert_eq!(
            (turn.ops, turn.elapsed),
            (1216, Duration::from_millis(1250))
        );
        let writes = turn_of("Total time run: 2\nTotal writes made:      10\n").unwrap();
        assert_eq!((writes.ops, writes.elapsed), (10, Duration::from_secs(2)));
        assert!(turn_of("hints = 1\n").is_err());
    }
}
