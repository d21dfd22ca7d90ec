//! How a pool is driven, and why it may not be.

use driver::Errno;
use std::path::PathBuf;

/// Settings of one blocker over RADOS (`spec/cli.md` section 3, `rados_blocker`).
#[derive(Debug, Clone)]
pub struct Config {
    /// `pool`: where the objects are. Must exist.
    pub pool: String,
    /// `cephx_id`: the Ceph user without `client.`; `admin` when there is none.
    pub cephx_id: Option<String>,
    /// `ceph_conf`: the file that names the monitors and the user's keyring.
    pub ceph_conf: PathBuf,
    /// The owner's text in locks, by default HOSTNAME_PORT.
    pub owner: String,
    /// The role, which names the file below `run_dir` in which this client is known.
    pub role: String,
    /// Where the clients of a node know each other from.
    pub run_dir: PathBuf,
    /// The tag that operations of a volume carry, by its name.
    pub tag_of: fn(&[u8]) -> u32,
    /// The pool's identity (see [`Radosd::id`](crate::Radosd::id)), when this node has served it
    /// before: another is refused, because a pool that was made again has no objects.
    pub expected_id: Option<String>,
}

impl Config {
    /// The Ceph user, with `client.`.
    pub(crate) fn user(&self) -> String {
        format!("client.{}", self.cephx_id.as_deref().unwrap_or("admin"))
    }
}

/// Why a pool is not driven: a sentence that names the setting at fault.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration file cannot be read.
    #[error("ceph_conf: cannot read {}", file.display())]
    Conf {
        /// `ceph_conf`.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// librados cannot make sense of the configuration file.
    #[error("ceph_conf: {} is no Ceph configuration", file.display())]
    BadConf {
        /// `ceph_conf`.
        file: PathBuf,
        /// Why.
        source: Errno,
    },
    /// No monitor answers.
    #[error(
        "ceph_conf: no monitor that {} names answered within {seconds} s (mon_host = {monitors})",
        file.display()
    )]
    NoMonitor {
        /// `ceph_conf`.
        file: PathBuf,
        /// Whom it names.
        monitors: String,
        /// How long they were waited for.
        seconds: u64,
    },
    /// There is no key.
    #[error("cephx_id: there is no key of {user} in {keyring}, which {} names", file.display())]
    NoKey {
        /// `client.ID`.
        user: String,
        /// The keyrings that were looked at.
        keyring: String,
        /// `ceph_conf`.
        file: PathBuf,
    },
    /// There is a keyring, but nothing can be made of it.
    #[error("cephx_id: the key of {user} cannot be read: {keyring} is no keyring")]
    BadKeyring {
        /// `client.ID`.
        user: String,
        /// The keyrings that were looked at.
        keyring: String,
    },
    /// The monitors refuse the key, or librados did not find it.
    #[error("cephx_id: {user} is refused with the key in {keyring}, or has none there")]
    Refused {
        /// `client.ID`.
        user: String,
        /// Where its key came from.
        keyring: String,
        /// Why.
        source: Errno,
    },
    /// The pool is not there.
    #[error("pool: the cluster has no pool {pool}")]
    NoPool {
        /// `pool`.
        pool: String,
    },
    /// The user may not write to it.
    #[error(
        "cephx_id: {user} may not write to the pool {pool}; allow it with: \
         ceph auth caps {user} mon 'allow r, allow command \"osd blocklist\" with \
         blocklistop=add' osd 'allow rwx pool={pool}' (and what else it is allowed already)"
    )]
    MayNotWrite {
        /// `client.ID`.
        user: String,
        /// `pool`.
        pool: String,
    },
    /// It is another pool than the one that this node has served.
    #[error(
        "pool: {pool} is not the pool that this node has served: its id is {found}, not {expected}"
    )]
    OtherPool {
        /// `pool`.
        pool: String,
        /// Its id.
        found: String,
        /// The id that was expected.
        expected: String,
    },
    /// A dead instance of this client may still write, and we may not forbid it.
    #[error(
        "cephx_id: {user} may not blocklist {address}, the address of a predecessor that died and \
         may still write; {advice}"
    )]
    MayNotBlocklist {
        /// `client.ID`.
        user: String,
        /// Whose writes could still land.
        address: String,
        /// The command that allows it.
        advice: String,
    },
    /// The file by which this client is known cannot be written.
    #[error("cannot write {}", file.display())]
    Record {
        /// Below `run_dir`.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Anything else that librados says.
    #[error("{doing}")]
    Rados {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        source: Errno,
    },
    /// The reactor has no room.
    #[error("cannot listen to librados")]
    Reactor(#[source] std::io::Error),
}
