//! One peer of a node, whether a file or a command line described it.
//!
//! A field's comment explains the key of the same name (`spec/cli.md` section 3). A [`Role`] that
//! this crate hands out has passed `Role::check`, so nobody checks a number twice.

use std::path::PathBuf;

use crate::error::{ErrorKind, Fault};
use crate::ports::{PortNo, PortRange};

/// What every name that the original stores begins with in its 0.3 layout, and the only `prefix`.
pub const PREFIX: &str = "archip_";

/// A peer: a name, a kind, and what all kinds have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The name in `ROLES`, and of the peer's section, pid file and log.
    pub name: String,
    /// `type`: what the peer does, with the keys that only this type has.
    pub kind: RoleKind,
    /// `portno_start`, `portno_end`: the ports that the peer binds.
    pub ports: PortRange,
    /// `nr_ops`: how many requests it serves at once; a power of two.
    pub nr_ops: u32,
    /// `logfile`: where its log goes; `LOG_DIR/ROLE.log` in a file, standard error on a command
    /// line.
    pub logfile: Option<PathBuf>,
    /// `log_level`: 0 errors, 1 warnings, 2 information, 3 everything.
    pub log_level: u8,
    /// `threshold`: how many times at most it looks for work before it sleeps; 0: it never stays
    /// awake. In a process of several roles the largest counts.
    pub threshold: u32,
    /// `umask`: takes permissions from files that it makes; 0 means the default, 007.
    pub umask: u32,
    /// `process`: roles that name the same process share it; without it a role has its own.
    pub process: Option<String>,
    /// The file that holds the process id; `RUN_DIR/ROLE.pid` in a file (poold may name another
    /// with `pidfile`), none on a command line.
    pub pidfile: Option<PathBuf>,
}

/// `threshold` when nothing else is said.
pub const THRESHOLD_DEFAULT: u32 = 1000;
/// `umask` when nothing else is said, or 0.
pub const UMASK_DEFAULT: u32 = 0o007;
/// `nr_ops` of a command line that says nothing.
pub const NR_OPS_DEFAULT: u32 = 16;
/// The highest `log_level`.
pub const LOG_LEVEL_MAX: u8 = 3;
/// The most operations of one peer: each owns request slots of the segment from the start.
pub const NR_OPS_MAX: u32 = 65_536;

/// The five types of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// Objects as files of a directory.
    FileBlocker(FileBlocker),
    /// Objects of a RADOS pool.
    RadosBlocker(RadosBlocker),
    /// The maps of volumes.
    Mapperd(Mapperd),
    /// The volumes themselves.
    Vlmcd(Vlmcd),
    /// Lends port numbers to clients.
    Poold(Poold),
}

/// The keys of a `file_blocker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBlocker {
    /// `archip_dir`: the directory of the objects; it must exist.
    pub archip_dir: PathBuf,
    /// `lock_dir`: the directory of the lock files; without it they lie among the objects.
    pub lock_dir: Option<PathBuf>,
    /// `fdcache`: how many files stay open; at least twice `nr_ops`, which is the default.
    pub fdcache: u32,
    /// `direct`: read and write past the page cache (O_DIRECT).
    pub direct: bool,
    /// `pithos_migrate`: move an object from its old Pithos path when it is first used. Only
    /// after every node of the storage is upgraded.
    pub pithos_migrate: bool,
    /// `unique_str`: who this node is in lock files; HOSTNAME_PORT when it is not given.
    pub unique_str: Option<String>,
    /// `nr_threads`: accepted, and always equal to `nr_ops` in a file, as in the original.
    pub nr_threads: u32,
    /// `hash_algorithm`: what HASH names a map by; equal in all blockers of a storage.
    pub hash_algorithm: HashAlgorithm,
    /// `lock_ttl`: how many seconds a lease is good for, after which vlmcd asks mapperd again; when
    /// nobody looked at a volume's lock for half of it, mapperd does before it gives a new one.
    /// Equal in all blockers of a node.
    pub lock_ttl_s: u32,
}

/// The keys of a `rados_blocker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RadosBlocker {
    /// `pool`: the RADOS pool of the objects.
    pub pool: String,
    /// `cephx_id`: the Ceph user, without `client.`.
    pub cephx_id: Option<String>,
    /// `ceph_conf`: the Ceph configuration file.
    pub ceph_conf: PathBuf,
    /// `nr_threads`: how many threads the original used; accepted for its sake.
    pub nr_threads: u32,
    /// `hash_algorithm`: what HASH names a map by; equal in all blockers of a storage.
    pub hash_algorithm: HashAlgorithm,
    /// `lock_ttl`: how many seconds a lease is good for; equal in all blockers of a node.
    pub lock_ttl_s: u32,
}

/// The keys of a `mapperd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapperd {
    /// `blockerb_port`: a port of the blocker that holds the data.
    pub blockerb_port: PortNo,
    /// `blockerm_port`: a port of the blocker that holds the maps.
    pub blockerm_port: PortNo,
    /// `map_version`: the version of the maps that it writes; 2 is the only one.
    pub map_version: u32,
    /// How HASH hashes: what the blockers' sections say, which is the same in all of them.
    pub hash_algorithm: HashAlgorithm,
    /// How many seconds a lease is good for: what the blockers' sections say (`lock_ttl`).
    pub lock_ttl_s: u32,
}

/// The keys of a `vlmcd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlmcd {
    /// `blocker_port`: a port of the blocker that holds the data.
    pub blocker_port: PortNo,
    /// `mapper_port`: a port of the mapperd.
    pub mapper_port: PortNo,
    /// `write_through`: a write is durable when it is answered, not only after a flush.
    pub write_through: bool,
    /// How many seconds a lease is good for: what the blockers' sections say (`lock_ttl`).
    pub lock_ttl_s: u32,
}

/// The keys of a `poold`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poold {
    /// `socket_path`: where it listens; `RUN_DIR/poold.socket` when not given.
    pub socket_path: PathBuf,
    /// `logging_conf`: accepted, and without effect: it configured the original's log library.
    pub logging_conf: Option<PathBuf>,
}

/// `lock_ttl` when nothing else is said, in seconds.
pub const LOCK_TTL_S_DEFAULT: u32 = 30;
/// The longest `lock_ttl`: an hour.
pub const LOCK_TTL_S_MAX: u32 = 3600;
/// The version of maps that is written.
pub const MAP_VERSION: u32 = 2;

/// What HASH uses. Paths and the zero block are SHA-256 for ever (`spec/choices.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// SHA-256, as Pithos does.
    #[default]
    Sha256,
    /// BLAKE2b cut to 32 bytes: a hash of the same length, fastest on 64-bit processors.
    Blake2b256,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [HashAlgorithm; 2] = [HashAlgorithm::Sha256, HashAlgorithm::Blake2b256];

    /// The word that stands for it in a file or on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Blake2b256 => "blake2b256",
        }
    }
}

impl RoleKind {
    /// The `type` of the file.
    pub fn type_name(&self) -> &'static str {
        match self {
            RoleKind::FileBlocker(_) => "file_blocker",
            RoleKind::RadosBlocker(_) => "rados_blocker",
            RoleKind::Mapperd(_) => "mapperd",
            RoleKind::Vlmcd(_) => "vlmcd",
            RoleKind::Poold(_) => "poold",
        }
    }

    /// Whether it stores objects.
    pub fn is_blocker(&self) -> bool {
        matches!(self, RoleKind::FileBlocker(_) | RoleKind::RadosBlocker(_))
    }

    /// What HASH uses, of a blocker.
    pub fn hash_algorithm(&self) -> Option<HashAlgorithm> {
        match self {
            RoleKind::FileBlocker(filed) => Some(filed.hash_algorithm),
            RoleKind::RadosBlocker(radosd) => Some(radosd.hash_algorithm),
            _ => None,
        }
    }

    /// How many seconds a lease is good for, of a blocker.
    pub fn lock_ttl_s(&self) -> Option<u32> {
        match self {
            RoleKind::FileBlocker(filed) => Some(filed.lock_ttl_s),
            RoleKind::RadosBlocker(radosd) => Some(radosd.lock_ttl_s),
            _ => None,
        }
    }
}

impl Role {
    /// A role with every key at its default.
    pub(crate) fn new(name: impl Into<String>, kind: RoleKind, ports: PortRange) -> Role {
        Role {
            name: name.into(),
            kind,
            ports,
            nr_ops: NR_OPS_DEFAULT,
            logfile: None,
            log_level: 0,
            threshold: THRESHOLD_DEFAULT,
            umask: UMASK_DEFAULT,
            process: None,
            pidfile: None,
        }
    }

    /// The text that a lock of this role holds: `unique_str`, or HOSTNAME_PORT.
    pub fn owner(&self) -> String {
        match &self.kind {
            RoleKind::FileBlocker(FileBlocker {
                unique_str: Some(text),
                ..
            }) => text.clone(),
            _ => format!("{}_{}", hostname(), self.ports.start()),
        }
    }

    /// Everything that can be wrong with a role by itself, in the original's order.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.check_generic()?;
        match &self.kind {
            RoleKind::FileBlocker(filed) => filed.check(&self.name, self.nr_ops),
            RoleKind::RadosBlocker(radosd) => check_ttl(radosd.lock_ttl_s),
            RoleKind::Mapperd(mapperd) => mapperd.check(),
            RoleKind::Vlmcd(vlmcd) => check_ttl(vlmcd.lock_ttl_s),
            RoleKind::Poold(_) => Ok(()),
        }
    }

    fn check_generic(&self) -> Result<(), Fault> {
        let name = &self.name;
        if !self.nr_ops.is_power_of_two() {
            let message = format!("nr_ops of {name} is not a power of 2");
            return Err(Fault::new(ErrorKind::OutOfRange, "nr_ops", message));
        }
        if self.nr_ops > NR_OPS_MAX {
            let message = format!("nr_ops of {name} is more than {NR_OPS_MAX}");
            return Err(Fault::new(ErrorKind::OutOfRange, "nr_ops", message));
        }
        if self.log_level > LOG_LEVEL_MAX {
            let message = "the log level is 0 (errors) to 3 (everything)";
            return Err(Fault::new(ErrorKind::OutOfRange, "log_level", message));
        }
        if self.umask > 0o777 {
            return Err(Fault::new(
                ErrorKind::OutOfRange,
                "umask",
                "a umask is 0 to 0o777",
            ));
        }
        Ok(())
    }
}

impl FileBlocker {
    fn check(&self, role: &str, nr_ops: u32) -> Result<(), Fault> {
        let missing = |key, message| Err(Fault::new(ErrorKind::NotFound, key, message));
        if !self.archip_dir.is_dir() {
            let dir = self.archip_dir.display();
            return missing(
                "archip_dir",
                format!("{role}: Archip dir invalid: no directory {dir}"),
            );
        }
        if let Some(dir) = self.lock_dir.as_ref().filter(|dir| !dir.is_dir()) {
            let dir = dir.display();
            return missing(
                "lock_dir",
                format!("{role}: Lock dir invalid: no directory {dir}"),
            );
        }
        if u64::from(self.fdcache) < 2 * u64::from(nr_ops) {
            let message = format!(
                "Fdcache should be greater than 2*nr_threads: {} is less than 2 * {nr_ops}",
                self.fdcache
            );
            return Err(Fault::new(ErrorKind::OutOfRange, "fdcache", message));
        }
        check_owner(self.unique_str.as_deref())?;
        check_ttl(self.lock_ttl_s)
    }
}

impl Mapperd {
    fn check(&self) -> Result<(), Fault> {
        if self.map_version == MAP_VERSION {
            return check_ttl(self.lock_ttl_s);
        }
        let message = format!("only maps of version {MAP_VERSION} are written");
        Err(Fault::new(ErrorKind::OutOfRange, "map_version", message))
    }
}

/// The longest `unique_str`: it is part of a file name beside a name of up to 82 bytes.
const OWNER_LEN_MAX: usize = 128;

/// The owner is part of a file name while a lock is taken.
fn check_owner(owner: Option<&str>) -> Result<(), Fault> {
    let Some(owner) = owner else { return Ok(()) };
    if owner.len() <= OWNER_LEN_MAX && owner.chars().all(|c| c != '/' && !c.is_control()) {
        return Ok(());
    }
    let message =
        format!("at most {OWNER_LEN_MAX} bytes without `/`: it becomes part of file names");
    Err(Fault::new(ErrorKind::BadValue, "unique_str", message))
}

fn check_ttl(seconds: u32) -> Result<(), Fault> {
    if (1..=LOCK_TTL_S_MAX).contains(&seconds) {
        return Ok(());
    }
    let message = format!("1 to {LOCK_TTL_S_MAX} seconds");
    Err(Fault::new(ErrorKind::OutOfRange, "lock_ttl", message))
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filed() -> FileBlocker {
        FileBlocker {
            archip_dir: "/".into(),
            lock_dir: None,
            fdcache: 32,
            direct: true,
            pithos_migrate: false,
            unique_str: None,
            nr_threads: 16,
            hash_algorithm: HashAlgorithm::Sha256,
            lock_ttl_s: LOCK_TTL_S_DEFAULT,
        }
    }

    fn role(kind: RoleKind) -> Role {
        Role::new("blockerb", kind, PortRange::single(PortNo(1000)))
    }

    fn fault_of(change: impl FnOnce(&mut Role, &mut FileBlocker)) -> Fault {
        let (mut filed, mut outer) = (filed(), role(RoleKind::Poold(Poold::default())));
        change(&mut outer, &mut filed);
        outer.kind = RoleKind::FileBlocker(filed);
        outer.check().unwrap_err()
    }

    #[test]
    fn a_plain_role_passes() {
        assert_eq!(role(RoleKind::FileBlocker(filed())).check(), Ok(()));
    }

    #[test]
    fn faults_have_the_originals_words() {
        let cases = [
            (
                fault_of(|role, _| role.nr_ops = 0),
                "nr_ops of blockerb is not a power of 2",
            ),
            (
                fault_of(|role, _| role.nr_ops = 24),
                "nr_ops of blockerb is not a power of 2",
            ),
            (fault_of(|role, _| role.nr_ops = 131_072), "more than 65536"),
            (fault_of(|role, _| role.log_level = 4), "the log level is"),
            (fault_of(|role, _| role.umask = 0o1000), "a umask is"),
            (
                fault_of(|_, f| f.archip_dir = "/no/such".into()),
                "blockerb: Archip dir invalid",
            ),
            (
                fault_of(|_, f| f.lock_dir = Some("/no/such".into())),
                "blockerb: Lock dir invalid",
            ),
            (
                fault_of(|_, f| f.fdcache = 31),
                "Fdcache should be greater than 2*nr_threads",
            ),
            (fault_of(|_, f| f.lock_ttl_s = 0), "1 to 3600 seconds"),
            (
                fault_of(|_, f| f.unique_str = Some("a/b".into())),
                "at most 128 bytes",
            ),
        ];
        for (fault, words) in cases {
            assert!(fault.message.contains(words), "{fault:?}");
        }
    }

    #[test]
    fn the_owner_is_the_host_and_the_first_port() {
        let plain = role(RoleKind::FileBlocker(filed()));
        assert_eq!(plain.owner(), format!("{}_1000", hostname()));
        let named = FileBlocker {
            unique_str: Some("node1".into()),
            ..filed()
        };
        assert_eq!(role(RoleKind::FileBlocker(named)).owner(), "node1");
    }
}
