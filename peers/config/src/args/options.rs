//! The options as clap reads them: one struct for each executable. The comments are the help.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::literal;
use crate::role::{
    HashAlgorithm, LOCK_TTL_S_DEFAULT, MAP_VERSION, NR_OPS_DEFAULT, PREFIX, THRESHOLD_DEFAULT,
};
use crate::segment::SegmentSpec;

/// The single-dash long options of the peers, and the long options that stand for them.
pub(super) const SINGLE_DASH: &[(&str, &str)] = &[
    ("-sp", "--start-port"),
    ("-ep", "--end-port"),
    ("-dp", "--blocking-port"),
    ("-uid", "--uid"),
    ("-gid", "--gid"),
    ("-mbp", "--blockerm-port"),
    ("-bp", "--blockerb-port"),
    ("-mp", "--mapper-port"),
];

/// What all peers but poold take.
#[derive(Args, Debug)]
pub(super) struct Common {
    /// Go to the background once the peer is up
    #[arg(short = 'd', long)]
    pub(super) daemonize: bool,
    /// How many requests to serve at once; a power of two
    #[arg(short = 'n', long, value_name = "N", default_value_t = NR_OPS_DEFAULT)]
    pub(super) nr_ops: u32,
    /// Where the log goes [default: standard error]
    #[arg(short = 'l', long, value_name = "FILE")]
    pub(super) logfile: Option<PathBuf>,
    /// The file that holds the process id
    #[arg(long, value_name = "FILE")]
    pub(super) pidfile: Option<PathBuf>,
    /// The first port to bind (also -sp)
    #[arg(long, value_name = "PORT")]
    pub(super) start_port: Option<u32>,
    /// The last port to bind (also -ep)
    #[arg(long, value_name = "PORT")]
    pub(super) end_port: Option<u32>,
    /// The only port to bind
    #[arg(short = 'p', long, value_name = "PORT", conflicts_with_all = ["start_port", "end_port"])]
    pub(super) port: Option<u32>,
    /// 0 logs errors, 1 warnings, 2 information, 3 everything
    #[arg(short = 'v', long, value_name = "LEVEL", default_value_t = 0)]
    pub(super) log_level: u8,
    /// The segment to join: TYPE:NAME:DYNPORTS:PORTS:SIZE_MB:ALIGN
    #[arg(short = 'g', long, value_name = "SPEC")]
    pub(super) segment: SegmentSpec,
    /// How many times at most to look for work before sleeping; 0: never stay awake
    #[arg(long, value_name = "N", default_value_t = THRESHOLD_DEFAULT)]
    pub(super) threshold: u32,
    /// The number of the user to become (also -uid)
    #[arg(long, value_name = "UID")]
    pub(super) uid: Option<u32>,
    /// The number of the group to join (also -gid) [default: the user's own]
    #[arg(long, value_name = "GID")]
    pub(super) gid: Option<u32>,
    /// The umask, in decimal, or in octal with a leading 0
    #[arg(long, value_name = "UMASK", default_value = "7", value_parser = umask)]
    pub(super) umask: u32,
    /// The name of the role [default: the executable's, without `archip-`]
    #[arg(short = 'r', long, value_name = "NAME")]
    pub(super) role: Option<String>,
    /// How many threads; accepted for old command lines
    #[arg(short = 't', long, value_name = "N", default_value_t = 1)]
    pub(super) nr_threads: u32,
    /// The processors of the threads, as many as threads
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub(super) cpus: Vec<usize>,
    /// The port that requests go on to which would block (also -dp)
    #[arg(long, value_name = "PORT")]
    pub(super) blocking_port: Option<u32>,
    /// Once it serves, open only its own directories and make only listed system calls
    #[arg(long)]
    pub(super) sandbox: bool,
}

fn umask(text: &str) -> Result<u32, String> {
    literal::base_zero(text).ok_or_else(|| "not a number".to_owned())
}

fn hash_algorithm(text: &str) -> Result<HashAlgorithm, String> {
    let found = HashAlgorithm::ALL
        .into_iter()
        .find(|hash| hash.as_str() == text);
    let words = HashAlgorithm::ALL.map(HashAlgorithm::as_str).join(", ");
    found.ok_or_else(|| format!("one of {words}"))
}

/// Stores objects as files of a directory.
#[derive(Parser, Debug)]
#[command(name = "archip-filed", infer_long_args = true, version)]
pub(super) struct Filed {
    #[command(flatten)]
    pub(super) common: Common,
    /// Who this node is in lock files [default: HOSTNAME_PORT]
    #[arg(long, value_name = "TEXT")]
    pub(super) uniquestr: Option<String>,
    /// How many files stay open [default: twice --nr-ops]
    #[arg(long, value_name = "N")]
    pub(super) fdcache: Option<u32>,
    /// The directory of the objects
    #[arg(long, value_name = "DIR")]
    pub(super) archip: PathBuf,
    /// What old names begin with; accepted for old command lines
    #[arg(long, value_name = "TEXT", default_value = PREFIX, value_parser = [PREFIX])]
    pub(super) prefix: String,
    /// Read and write past the page cache
    #[arg(long)]
    pub(super) directio: bool,
    /// Move objects from their old Pithos paths when they are first used
    #[arg(long)]
    pub(super) pithos_migrate: bool,
    /// The directory of the lock files [default: among the objects]
    #[arg(long, value_name = "DIR")]
    pub(super) lockdir: Option<PathBuf>,
    /// What HASH names a map by: sha256, blake2s256 or blake2b256
    #[arg(long, value_name = "NAME", default_value = "sha256", value_parser = hash_algorithm)]
    pub(super) hash_algorithm: HashAlgorithm,
    /// How long a lease is good for; the same in all peers of a node
    #[arg(long, value_name = "SECONDS", default_value_t = LOCK_TTL_S_DEFAULT)]
    pub(super) lock_ttl: u32,
}

/// Stores objects in a RADOS pool.
#[derive(Parser, Debug)]
#[command(name = "archip-radosd", infer_long_args = true, version)]
pub(super) struct Radosd {
    #[command(flatten)]
    pub(super) common: Common,
    /// The pool of the objects
    #[arg(long, value_name = "POOL")]
    pub(super) pool: String,
    /// The Ceph user, without `client.`
    #[arg(long, value_name = "ID")]
    pub(super) cephx_id: Option<String>,
    /// The Ceph configuration file
    #[arg(long, value_name = "FILE", default_value = crate::paths::CEPH_CONF)]
    pub(super) ceph_conf: PathBuf,
    /// What HASH names a map by: sha256, blake2s256 or blake2b256
    #[arg(long, value_name = "NAME", default_value = "sha256", value_parser = hash_algorithm)]
    pub(super) hash_algorithm: HashAlgorithm,
    /// How long a lease is good for; the same in all peers of a node
    #[arg(long, value_name = "SECONDS", default_value_t = LOCK_TTL_S_DEFAULT)]
    pub(super) lock_ttl: u32,
}

/// Knows which object holds which block of a volume.
#[derive(Parser, Debug)]
#[command(name = "archip-mapperd", infer_long_args = true, version)]
pub(super) struct Mapperd {
    #[command(flatten)]
    pub(super) common: Common,
    /// A port of the blocker that holds the maps (also -mbp)
    #[arg(long, value_name = "PORT")]
    pub(super) blockerm_port: u32,
    /// A port of the blocker that holds the data (also -bp)
    #[arg(long, value_name = "PORT")]
    pub(super) blockerb_port: u32,
    /// The version of the maps to write
    #[arg(long, value_name = "N", default_value_t = MAP_VERSION)]
    pub(super) map_version: u32,
    /// How the blockers hash: sha256 or blake2b256
    #[arg(long, value_name = "NAME", default_value = "sha256", value_parser = hash_algorithm)]
    pub(super) hash_algorithm: HashAlgorithm,
    /// How long a lease is good for; the same in all peers of a node
    #[arg(long, value_name = "SECONDS", default_value_t = LOCK_TTL_S_DEFAULT)]
    pub(super) lock_ttl: u32,
}

/// Serves volumes to clients.
#[derive(Parser, Debug)]
#[command(name = "archip-vlmcd", infer_long_args = true, version)]
pub(super) struct Vlmcd {
    #[command(flatten)]
    pub(super) common: Common,
    /// A port of the blocker that holds the data (also -bp)
    #[arg(long, value_name = "PORT")]
    pub(super) blockerb_port: u32,
    /// A port of the mapperd (also -mp)
    #[arg(long, value_name = "PORT")]
    pub(super) mapper_port: u32,
    /// Make each write durable before it is answered
    #[arg(long)]
    pub(super) write_through: bool,
    /// How long a lease is good for; the same in all peers of a node
    #[arg(long, value_name = "SECONDS", default_value_t = LOCK_TTL_S_DEFAULT)]
    pub(super) lock_ttl: u32,
}

/// Lends port numbers to clients.
#[derive(Parser, Debug)]
#[command(name = "archip-poold", infer_long_args = true, version)]
pub(super) struct Poold {
    /// Go to the background once the peer is up
    #[arg(short = 'd', long)]
    pub(super) daemonize: bool,
    /// Accepted for old command lines
    #[arg(short = 'c', long, value_name = "FILE")]
    pub(super) logconfig: Option<PathBuf>,
    /// The file that holds the process id [default: poold.pid in the run directory]
    #[arg(short = 'i', long, value_name = "FILE")]
    pub(super) pidfile: Option<PathBuf>,
    /// The first port to lend
    #[arg(short = 's', long, value_name = "PORT")]
    pub(super) start: u32,
    /// The last port to lend
    #[arg(short = 'e', long, value_name = "PORT")]
    pub(super) end: u32,
    /// The number of the user to become
    #[arg(short = 'u', long, value_name = "UID")]
    pub(super) user: Option<u32>,
    /// The number of the group to join
    #[arg(short = 'g', long, value_name = "GID")]
    pub(super) group: Option<u32>,
    /// The umask, in decimal, or in octal with a leading 0
    #[arg(short = 'm', long, value_name = "UMASK", default_value = "7", value_parser = umask)]
    pub(super) umask: u32,
    /// Where to listen [default: poold.socket in the run directory]
    #[arg(short = 'p', long, value_name = "SOCKET")]
    pub(super) socketpath: Option<PathBuf>,
}
