//! The configuration of a small node that needs no root and nothing outside its folder.
//!
//! All roles share one process, because that halves the latency of a single request. Paths are
//! relative, so that the folder can be moved. What the packages install in
//! `/etc/archipelago` is `packaging/archipelago.conf`.

use std::io;
use std::path::PathBuf;

use crate::account::Caller;

/// The folders that a sample node keeps beside its configuration file.
pub const SAMPLE_DIRS: [&str; 5] = ["blocks", "maps", "locks", "run", "log"];

/// What a sample node may vary in.
#[derive(Clone, Debug)]
pub struct SampleParams {
    /// The folder of the node; the configuration file lies in it.
    pub dir: PathBuf,
    /// `SEGMENT_NAME`.
    pub segment_name: String,
    /// `SEGMENT_SIZE` in MiB.
    pub segment_size_mib: u64,
    /// `process` of every role; none gives each role its own process.
    pub process: Option<String>,
    /// `nr_ops` of every role.
    pub nr_ops: u32,
    /// `direct` of the blockers: O_DIRECT, which not every filesystem has.
    pub direct: bool,
    /// `ENDPOINT`.
    pub endpoint: crate::Endpoint,
    /// `USER` and `GROUP`.
    pub caller: Caller,
    /// Objects in RADOS; in the node's folder when `None`.
    pub rados: Option<SampleRados>,
}

/// Where the objects of a sample node over RADOS are.
#[derive(Clone, Debug)]
pub struct SampleRados {
    /// `ceph_conf` of both blockers.
    pub ceph_conf: PathBuf,
    /// `cephx_id` of both blockers.
    pub cephx_id: String,
    /// `pool` of blockerb.
    pub blocks: String,
    /// `pool` of blockerm.
    pub maps: String,
}

impl SampleParams {
    /// A node of the calling user in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> SampleParams {
        SampleParams {
            dir: dir.into(),
            segment_name: "archipelago".into(),
            segment_size_mib: 256,
            process: Some("node".into()),
            nr_ops: 64,
            direct: true,
            endpoint: crate::Endpoint::Auto,
            caller: Caller::current(),
            rados: None,
        }
    }

    /// Makes the node's folders, writes `archipelago.conf` among them, and returns its path.
    ///
    /// A file that is there already is left alone, and is the error `AlreadyExists`.
    pub fn write(&self) -> io::Result<PathBuf> {
        for dir in SAMPLE_DIRS {
            std::fs::create_dir_all(self.dir.join(dir))?;
        }
        let file = self.dir.join("archipelago.conf");
        let mut created = std::fs::File::create_new(&file)?;
        io::Write::write_all(&mut created, sample_config(self).as_bytes())?;
        Ok(file)
    }
}

/// The text of a small node's configuration, every line of it explained.
pub fn sample_config(params: &SampleParams) -> String {
    let mut text = head(params);
    for (name, keys) in roles(params) {
        text += &format!("\n[{name}]\n{keys}nr_ops = {}\n", params.nr_ops);
        if let Some(process) = &params.process {
            text += &format!("process = {process}\n");
        }
    }
    text
}

fn head(params: &SampleParams) -> String {
    let (user, group) = (params.caller.user().name, params.caller.group().name);
    let (name, size) = (&params.segment_name, params.segment_size_mib);
    let endpoint = params.endpoint.as_str();
    format!(
        "# A node of Archipelago in a folder. Paths are relative to this file.

[ARCHIPELAGO]
USER = {user}
GROUP = {group}
# Whether this node presents volumes as devices, and how:
# auto, ublk, nbd-kernel, fuse, nbd or vhost-user.
BLKTAP_ENABLED = True
ENDPOINT = {endpoint}
# Pid files and sockets, and logs.
RUN_DIR = run
LOG_DIR = log

[XSEG]
SEGMENT_NAME = {name}
# Ports below SEGMENT_DYNPORTS belong to roles, the others to clients.
SEGMENT_PORTS = 128
SEGMENT_DYNPORTS = 64
# In MiB. Add half a MiB for each of 128 requests that a busy volume keeps in flight.
SEGMENT_SIZE = {size}
VTOOL_START = 8
VTOOL_END = 9

[PEERS]
# In the order of their start.
ROLES = blockerb blockerm mapperd vlmcd
"
    )
}

/// The keys of a blocker whose objects are in the folder `dir`, or in the pool that `pool` picks.
fn storage(params: &SampleParams, dir: &str, pool: fn(&SampleRados) -> &str) -> String {
    let Some(rados) = &params.rados else {
        let direct = if params.direct { "True" } else { "False" };
        return format!(
            "type = file_blocker\narchip_dir = {dir}\nlock_dir = locks\ndirect = {direct}\n"
        );
    };
    let (pool, id, conf) = (pool(rados), &rados.cephx_id, rados.ceph_conf.display());
    format!("type = rados_blocker\npool = {pool}\ncephx_id = {id}\nceph_conf = {conf}\n")
}

fn roles(params: &SampleParams) -> [(&'static str, String); 4] {
    let blocker = |what, port, storage: String| {
        format!("# {what}\nportno_start = {port}\nportno_end = {port}\n{storage}")
    };
    let blocks = storage(params, "blocks", |rados| &rados.blocks);
    let maps = storage(params, "maps", |rados| &rados.maps);
    [
        ("blockerb", blocker("The data of volumes.", 1, blocks)),
        (
            "blockerm",
            blocker("The maps of volumes, and their locks.", 2, maps),
        ),
        (
            "mapperd",
            "# Knows which object holds which block of a volume.\ntype = mapperd\n\
             portno_start = 3\nportno_end = 3\nblockerb_port = 1\nblockerm_port = 2\n"
                .into(),
        ),
        (
            "vlmcd",
            "# Serves volumes to clients.\ntype = vlmcd\nportno_start = 4\nportno_end = 7\n\
             blocker_port = 1\nmapper_port = 3\n"
                .into(),
        ),
    ]
}
