//! Nodes of several shapes, started by `archipelago start` in folders of their own.
//!
//! What always holds: a node starts when a contender first asks for it and ends with the last
//! contender that may; between requests it does nothing.

use crate::case::Trouble;
use crate::ceph::Cluster;
use crate::load::Place;
use client::{Client, Hint, Ports, Volume};
use config::{NodeConfig, SampleParams, SampleRados};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use xseg::Name;
use xseg::join::Kind;

/// Which roles share a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// All of them.
    One,
    /// None: a process for each.
    Many,
}

impl Shape {
    /// Both.
    pub const BOTH: [Shape; 2] = [Shape::One, Shape::Many];

    /// For names of contenders.
    pub fn as_str(self) -> &'static str {
        match self {
            Shape::One => "one process",
            Shape::Many => "process per role",
        }
    }
}

/// What a node is to be.
#[derive(Clone)]
pub struct Wanted {
    /// Its folder is made below this one.
    pub parent: PathBuf,
    /// Which roles share a process.
    pub shape: Shape,
    /// O_DIRECT.
    pub direct: bool,
    /// Writes are durable when answered.
    pub durable: bool,
    /// Bytes of its volume, all of them written.
    pub volume: u64,
    /// Objects in the pools of this cluster instead of below `parent`.
    pub rados: Option<Rc<Cluster>>,
}

/// The volume of every node.
pub const VOLUME: &[u8] = b"bench-volume";

/// A node that starts when it is first asked for.
pub struct Lab {
    // Before its cluster, which must outlive it.
    node: OnceCell<Result<Node, Trouble>>,
    wanted: Wanted,
    migrates: bool,
}

impl Lab {
    /// A node for several contenders.
    pub fn new(wanted: Wanted) -> Rc<Lab> {
        Rc::new(Lab {
            wanted,
            node: OnceCell::new(),
            migrates: false,
        })
    }

    /// The same with `pithos_migrate`.
    pub fn that_migrates(wanted: Wanted) -> Rc<Lab> {
        Rc::new(Lab {
            wanted,
            node: OnceCell::new(),
            migrates: true,
        })
    }

    /// What it is to be.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The node, started now if it is not.
    pub fn node(&self) -> Result<&Node, Trouble> {
        let node = self
            .node
            .get_or_init(|| Node::start(&self.wanted, self.migrates));
        node.as_ref().map_err(Trouble::clone)
    }
}

/// A running node.
pub struct Node {
    pids: BTreeSet<u32>,
    config: NodeConfig,
    ports: Ports,
    size: u64,
    _folder: tempfile::TempDir,
}

thread_local! {
    /// Two nodes never share a name.
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

impl Node {
    /// Starts it, with `pithos_migrate` or without, and fills its volume.
    pub fn start(wanted: &Wanted, migrates: bool) -> Result<Node, Trouble> {
        let folder = tempfile::Builder::new()
            .prefix("n")
            .tempdir_in(&wanted.parent);
        let folder = folder.map_err(Trouble::failed("node's folder"))?;
        let rados = wanted.rados.as_ref().map(|cluster| cluster.storage());
        let config = configure((wanted, migrates), rados.transpose()?, folder.path())
            .map_err(Trouble::failed("configuration"))?;
        let ports = ports(&config).ok_or(Trouble::Failed("a mandatory role is missing".into()))?;
        archipelago(&config.file, "start")?;
        let mut node = Node {
            pids: BTreeSet::new(),
            config,
            ports,
            size: wanted.volume,
            _folder: folder,
        };
        node.pids = pids(&node.config.archipelago.run_dir).map_err(Trouble::failed("pid files"))?;
        node.fill().map_err(Trouble::failed("filling the volume"))?;
        Ok(node)
    }

    /// Its processes: the supervisor and the peers.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.pids.iter().copied()
    }

    /// Its configuration.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Bytes of its volume.
    pub fn volume_size(&self) -> u64 {
        self.size
    }

    /// A client.
    pub fn client(&self) -> Result<Client, Trouble> {
        Client::connect(&segment_socket(&self.config), self.ports, "bench")
            .map_err(Trouble::failed("joining the node"))
    }

    /// A place for load on its volume.
    pub fn place(&self) -> Result<Place, Trouble> {
        self.place_on(name(VOLUME))
    }

    /// A place for load on another volume.
    pub fn place_on(&self, volume: Name) -> Result<Place, Trouble> {
        let kind = Kind::Client { name: "bench" };
        let joined = xseg::join::connect(&segment_socket(&self.config), kind);
        let joined = joined.map_err(Trouble::failed("joining the node"))?;
        Ok(Place::new(joined, self.ports.vlmcd, volume))
    }

    fn fill(&self) -> Result<(), Trouble> {
        if self.size == 0 {
            return Ok(());
        }
        let client = self.client()?;
        let name = name(VOLUME);
        client
            .create(name, self.size)
            .map_err(Trouble::failed("create"))?;
        let volume = Volume::open(&client, name, Hint::default());
        let volume = volume.map_err(Trouble::failed("open"))?;
        let piece = vec![0x3c; 8 << 20];
        for at in (0..self.size).step_by(piece.len()) {
            let len = (self.size - at).min(piece.len() as u64) as usize;
            volume
                .write_at(&piece[..len], at)
                .map_err(Trouble::failed("write"))?;
        }
        volume.flush().map_err(Trouble::failed("flush"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Err(why) = archipelago(&self.config.file, "stop") else {
            return;
        };
        eprintln!("archip-benches: {why}");
        // The supervisor first, or it starts the others again.
        let run_dir = &self.config.archipelago.run_dir;
        let supervisor = pid_in(&run_dir.join("supervisor.pid"));
        for pid in supervisor
            .into_iter()
            .chain(pids(run_dir).unwrap_or_default())
        {
            // It may have ended in between.
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}

/// Runs `archipelago VERB` on the node of `file`.
fn archipelago(file: &Path, verb: &str) -> Result<(), Trouble> {
    let mut command = Command::new(program("archipelago")?);
    let output = command.arg("--config").arg(file).arg(verb).output();
    let output = output.map_err(Trouble::failed("archipelago"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(Trouble::Failed(format!(
                "archipelago {verb}: {}",
                text.trim()
            )))
        }
    }
}

/// A program that is built together with this one.
pub fn program(name: &str) -> Result<PathBuf, Trouble> {
    let own = std::env::current_exe().map_err(Trouble::failed("own path"))?;
    let file = own.with_file_name(name);
    match file.is_file() {
        true => Ok(file),
        false => Err(Trouble::Missing(format!(
            "{name} is not built, or not beside {}",
            own.display()
        ))),
    }
}

/// What the pid files of a node say; roles that share a process say the same.
fn pids(run_dir: &Path) -> std::io::Result<BTreeSet<u32>> {
    let mut pids = BTreeSet::new();
    for entry in std::fs::read_dir(run_dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pid") {
            pids.extend(pid_in(&path));
        }
    }
    Ok(pids)
}

fn pid_in(file: &Path) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Where a node's segment is handed out.
fn segment_socket(config: &NodeConfig) -> PathBuf {
    let name = &config.xseg.segment.name;
    config.archipelago.run_dir.join(format!("{name}.sock"))
}

/// A name that is known to be short enough.
pub fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).expect("names of benchmarks are short")
}

fn configure(
    (wanted, migrates): (&Wanted, bool),
    rados: Option<SampleRados>,
    dir: &Path,
) -> Result<NodeConfig, String> {
    let count = COUNT.replace(COUNT.get() + 1);
    let params = SampleParams {
        // Short, because sockets have short paths.
        segment_name: format!("b{}-{count}", std::process::id()),
        process: (wanted.shape == Shape::One).then(|| "node".into()),
        direct: wanted.direct,
        rados,
        ..SampleParams::new(dir)
    };
    let file = params.write().map_err(|why| why.to_string())?;
    if wanted.durable {
        // The section of vlmcd is the last one.
        let text = std::fs::read_to_string(&file).map_err(|why| why.to_string())?;
        std::fs::write(&file, text + "write_through = True\n").map_err(|why| why.to_string())?;
    }
    if migrates {
        let text = std::fs::read_to_string(&file).map_err(|why| why.to_string())?;
        let text = text.replace("archip_dir = ", "pithos_migrate = True\narchip_dir = ");
        std::fs::write(&file, text).map_err(|why| why.to_string())?;
    }
    let config = NodeConfig::load(&file).map_err(|why| why.to_string())?;
    let through =
        |role: &config::Role| matches!(&role.kind, config::RoleKind::Vlmcd(v) if v.write_through);
    match config.roles.iter().any(through) == wanted.durable {
        true => Ok(config),
        false => Err("write_through did not reach vlmcd".into()),
    }
}

fn ports(config: &NodeConfig) -> Option<Ports> {
    let port = |role: &str| config.role(role).map(|r| r.ports.start().0);
    Some(Ports {
        vlmcd: port("vlmcd")?,
        mapperd: port("mapperd")?,
        blockerm: port("blockerm")?,
        blockerb: port("blockerb")?,
    })
}
