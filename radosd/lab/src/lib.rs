//! A real Ceph cluster to test on: one monitor and some OSDs on loopback, in a temporary folder.
//!
//! ```text
//!   Lab --spawns--> ceph-mon, ceph-osd ...     data, keys, logs and ceph.conf in one folder
//!    |
//!    +--pipe--> keeper (a shell)               sees the pipe close when we die in whatever way
//! ```
//! What always holds:
//! - A cluster has a loopback address of its own (127.a.b.c), which a listening socket reserves, so
//!   that any number of clusters run beside each other on Ceph's usual ports.
//! - It is gone without a trace when the [`Lab`] is dropped; and when the process that made it is
//!   killed, by the keeper, which then kills the daemons and removes the folder.
//! - Nothing is mocked: authentication is on, objects lie in bluestore, and a daemon that is killed
//!   loses what Ceph loses.
//!
//! | file | what it holds |
//! |---|---|
//! | `settings` | `ceph.conf`, and why it says what it says |
//! | `keys` | keyrings, made before the monitor exists |
//! | `daemon` | one daemon: started, stopped, killed |
//! | `keeper` | what outlives us |
//! | `tools` | Ceph's own tools and Python's rados, as eyes that are not ours |
//! | `outsider` | the same, connected: looks into pools, changes them, holds locks |
//! | `lent` | one cluster for a process of tests, and pools that each test borrows |
//! | `on_each` | one test body, a test on each storage |

mod daemon;
mod keeper;
mod keys;
mod lent;
mod on_each;
mod outsider;
mod settings;
mod tools;

use daemon::Daemon;
use keeper::Keeper;
use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub use keys::BLOCKLIST_CAPABILITY;
pub use lent::{Looking, Pools, borrow, shared};
pub use outsider::{Fact, Outsider};
pub use tools::{Output, Python, missing, skip};

/// The Ceph user that the project's own programs are.
pub const USER: &str = "archip";

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many OSDs.
    pub osds: usize,
    /// Copies of each object; all OSDs when `None`.
    pub size: Option<usize>,
    /// Copies without which nothing is written; one less than `size` when `None`, at least one.
    pub min_size: Option<usize>,
    /// The pools, which `client.archip` may read and write.
    pub pools: Vec<String>,
    /// Pools that `client.archip` may use likewise, once somebody has made them.
    pub later: Vec<String>,
    /// Placement groups of each pool.
    pub placement_groups: usize,
    /// Whether `client.archip` may blocklist other clients.
    pub may_blocklist: bool,
}

impl Default for Options {
    /// One OSD, the pools `blocks` and `maps`, and all capabilities that a node needs.
    fn default() -> Options {
        Options {
            osds: 1,
            size: None,
            min_size: None,
            pools: vec!["blocks".into(), "maps".into()],
            later: Vec::new(),
            placement_groups: 8,
            may_blocklist: true,
        }
    }
}

impl Options {
    /// The same with so many OSDs.
    pub fn with_osds(osds: usize) -> Options {
        Options {
            osds,
            ..Options::default()
        }
    }

    fn size(&self) -> usize {
        self.size.unwrap_or(self.osds)
    }

    fn min_size(&self) -> usize {
        self.min_size
            .unwrap_or(self.size().saturating_sub(1).max(1))
    }
}

/// A running cluster.
pub struct Lab {
    options: Options,
    address: Ipv4Addr,
    mon: Daemon,
    osds: Vec<Daemon>,
    // Before the folder: it must not be gone while the keeper still could remove it for us.
    _keeper: Keeper,
    dir: TempDir,
    _reservation: TcpListener,
}

impl Lab {
    /// Starts a cluster in a folder of its own below `parent`, and returns when every pool answers
    /// a write. [`missing`] tells beforehand whether the packages are there.
    pub fn start(parent: &Path, options: Options) -> io::Result<Lab> {
        let (address, reservation) = reserve()?;
        let dir = tempfile::Builder::new()
            .prefix("archipelago-rados-")
            .tempdir_in(parent)?;
        for folder in ["log", "run", "mon.a"] {
            std::fs::create_dir(dir.path().join(folder))?;
        }
        let keeper = Keeper::start(dir.path())?;
        let fsid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let fsid = fsid.trim();
        // Whoever may look into `parent` may use the cluster as `client.archip`.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let conf = settings::text(dir.path(), address, fsid, &options);
        let user_conf = conf.replace(
            &format!("keyring = {}/keyring\n", dir.path().display()),
            &format!(
                "keyring = {}/{}\n",
                dir.path().display(),
                keys::USER_KEYRING
            ),
        );
        std::fs::write(dir.path().join("ceph.conf"), conf)?;
        std::fs::write(dir.path().join("archip.conf"), user_conf)?;
        let mut lab = Lab {
            mon: Daemon::new(dir.path(), "mon.a"),
            osds: (0..options.osds)
                .map(|id| Daemon::new(dir.path(), &format!("osd.{id}")))
                .collect(),
            options,
            address,
            _keeper: keeper,
            dir,
            _reservation: reservation,
        };
        lab.make(fsid).map_err(|why| lab.with_logs(why))?;
        Ok(lab)
    }

    /// The order matters for its speed: keys before the monitor, disks beside its election.
    fn make(&mut self, fsid: &str) -> io::Result<()> {
        keys::make(self.dir(), &self.options)?;
        let (v2, v1) = (
            format!("v2:{}:3300", self.address),
            format!("v1:{}:6789", self.address),
        );
        let map = self.path("monmap");
        self.run(
            Command::new("monmaptool")
                .args(["--create", "--clobber", "--fsid", fsid])
                .args(["--addv", "a", &format!("[{v2},{v1}]")])
                .arg(&map),
        )?;
        let mut mkfs = self.ceph("ceph-mon");
        mkfs.args(["-i", "a", "--mkfs", "--monmap"]).arg(&map);
        self.run(mkfs.arg("--keyring").arg(self.path("mon.keyring")))?;
        self.mon.start()?;
        let disks = (0..self.osds.len())
            .map(|id| self.make_disk(id))
            .collect::<io::Result<Vec<_>>>()?;
        let mut commands = Vec::new();
        for (id, (uuid, _)) in disks.iter().enumerate() {
            commands.push(format!(
                r#"{{"prefix":"osd new","uuid":"{uuid}","id":{id}}}"#
            ));
        }
        self.mon_commands(&commands)?;
        for (_, mut child) in disks {
            if !child.wait()?.success() {
                return Err(io::Error::other("ceph-osd --mkfs failed"));
            }
        }
        self.osds.iter_mut().try_for_each(Daemon::start)?;
        let pools = self.options.pools.clone();
        let commands: Vec<_> = pools
            .iter()
            .flat_map(|pool| self.pool_commands(pool))
            .collect();
        self.mon_commands(&commands)?;
        self.wait_usable()
    }

    /// Begins to format the disk of an OSD; its uuid.
    fn make_disk(&self, id: usize) -> io::Result<(String, std::process::Child)> {
        let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let uuid = uuid.trim().to_owned();
        let log = std::fs::File::create(self.path(&format!("log/mkfs.{id}.out")))?;
        let mut command = self.ceph("ceph-osd");
        command
            .args(["-i", &id.to_string(), "--mkfs", "--osd-uuid", &uuid])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok((uuid, command.spawn()?))
    }

    fn pool_commands(&self, pool: &str) -> [String; 3] {
        let (groups, size) = (self.options.placement_groups, self.options.size());
        let min_size = self.options.min_size();
        [
            format!(
                r#"{{"prefix":"osd pool create","pool":"{pool}","pg_num":{groups},"pgp_num":{groups},"size":{size},"yes_i_really_mean_it":true}}"#
            ),
            format!(
                r#"{{"prefix":"osd pool set","pool":"{pool}","var":"min_size","val":"{min_size}"}}"#
            ),
            format!(
                r#"{{"prefix":"osd pool application enable","pool":"{pool}","app":"archipelago"}}"#
            ),
        ]
    }

    /// The cluster's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its `ceph.conf`, which names a keyring with the keys of `client.admin` and `client.archip`.
    pub fn conf(&self) -> PathBuf {
        self.path("ceph.conf")
    }

    /// The same with the key of `client.archip` alone, readable by every user of this machine.
    pub fn user_conf(&self) -> PathBuf {
        self.path("archip.conf")
    }

    /// The loopback address of its daemons.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Kills an OSD with SIGKILL; returns when it is dead.
    pub fn kill_osd(&mut self, id: usize) {
        self.osds[id].kill();
    }

    /// Stops an OSD in good order.
    pub fn stop_osd(&mut self, id: usize) -> io::Result<()> {
        self.osds[id].stop()
    }

    /// Starts an OSD that was killed or stopped.
    pub fn start_osd(&mut self, id: usize) -> io::Result<()> {
        self.osds[id].start()
    }

    /// Kills the monitor with SIGKILL.
    pub fn kill_mon(&mut self) {
        self.mon.kill();
    }

    /// Starts the monitor again.
    pub fn start_mon(&mut self) -> io::Result<()> {
        self.mon.start()
    }

    /// The process of an OSD, while it runs.
    pub fn osd_pid(&self, id: usize) -> Option<i32> {
        self.osds[id].pid()
    }

    /// The last words of every daemon, for a failure that nobody would understand otherwise.
    fn with_logs(&self, why: io::Error) -> io::Error {
        let mut said = format!("no cluster could be had: {why}");
        for daemon in std::iter::once(&self.mon).chain(&self.osds) {
            said += &daemon.last_words();
        }
        io::Error::other(said)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The folder's own drop then finds nobody writing to it.
        for daemon in self.osds.iter_mut().chain(std::iter::once(&mut self.mon)) {
            daemon.kill();
        }
    }
}

/// A loopback address that no other cluster of this machine has: who listens on this port has it.
fn reserve() -> io::Result<(Ipv4Addr, TcpListener)> {
    const PORT: u16 = 3299;
    for _ in 0..64 {
        let address = Ipv4Addr::new(
            127,
            rand::random_range(1..=254),
            rand::random_range(1..=254),
            rand::random_range(1..=254),
        );
        if let Ok(listener) = TcpListener::bind((address, PORT)) {
            return Ok((address, listener));
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
