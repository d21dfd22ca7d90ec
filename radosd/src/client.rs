//! One client instance of the cluster, which the roles of one process share.
//!
//! Its addresses are its identity: a lock names them, and who takes a lock over forbids them.

use crate::address::is_instance;
use crate::config::{Config, OpenError};
use crate::sys::Cluster;
use driver::Errno;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// How long the monitors are waited for at the start, in seconds, where `ceph.conf` says nothing.
const MOUNT_TIMEOUT_S: u64 = 10;

/// How long a blocklisted instance stays so: 30 days, in seconds.
pub(crate) const BLOCKLIST_S: u32 = 30 * 24 * 3600;

/// How long a placement group is waited for by who breaks a lock, in seconds.
const OSD_TIMEOUT: &CStr = c"20";

/// A connected client.
pub(crate) struct Client {
    pub(crate) cluster: Arc<Cluster>,
    /// `client.ID`.
    pub(crate) user: String,
    pub(crate) fsid: String,
    file: PathBuf,
    /// Whether an OSD is waited for no longer than `rados_osd_op_timeout`.
    pub(crate) has_limit: bool,
    /// One address for each protocol that it speaks.
    pub(crate) addresses: Vec<String>,
}

type Key = (PathBuf, String, PathBuf);

/// The clients of this process that live, by configuration, user and node: two nodes in one process
/// (tests have them) are two clients.
static CLIENTS: Mutex<Option<HashMap<Key, Weak<Client>>>> = Mutex::new(None);

impl Client {
    /// The client of this node's process.
    pub(crate) fn shared(config: &Config) -> Result<Arc<Client>, OpenError> {
        let key = (
            config.ceph_conf.clone(),
            config.user(),
            config.run_dir.clone(),
        );
        let mut clients = CLIENTS.lock();
        let clients = clients.get_or_insert_default();
        clients.retain(|_, client| client.strong_count() > 0);
        if let Some(client) = clients.get(&key).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let client = Arc::new(Client::connect(&config.ceph_conf, &config.user())?);
        clients.insert(key, Arc::downgrade(&client));
        Ok(client)
    }

    fn connect(file: &Path, user: &str) -> Result<Client, OpenError> {
        std::fs::File::open(file).map_err(|source| OpenError::Conf {
            file: file.to_owned(),
            source,
        })?;
        let rados = |doing: &str| {
            let doing = doing.to_owned();
            move |source| OpenError::Rados { doing, source }
        };
        let cluster = Cluster::new(user).map_err(rados("librados gives no client"))?;
        cluster
            .read_conf(file)
            .map_err(|source| OpenError::BadConf {
                file: file.to_owned(),
                source,
            })?;
        limits(&cluster).map_err(rados("librados refuses an option"))?;
        cluster
            .connect()
            .map_err(|why| refused(&cluster, file, user, why))?;
        let fsid = cluster.fsid().map_err(rados("the cluster has no id"))?;
        let addresses = cluster.addresses().map_err(rados("no address"))?;
        let has_limit = number(&cluster, c"rados_osd_op_timeout").is_some_and(|limit| limit > 0);
        Ok(Client {
            cluster: Arc::new(cluster),
            has_limit,
            user: user.to_owned(),
            fsid,
            file: file.to_owned(),
            addresses: split(&addresses),
        })
    }

    /// Forbids an instance everything, for 30 days; EINVAL: that is no instance's address. Blocks.
    pub(crate) fn blocklist(&self, address: &str) -> Result<(), Errno> {
        if !is_instance(address) {
            return Err(Errno::INVAL);
        }
        self.cluster.blocklist(address, BLOCKLIST_S)
    }

    /// Another instance of the same user, which writes nothing, and whose operations fail after
    /// [`OSD_TIMEOUT`] instead of waiting for an OSD that is away. Blocks.
    pub(crate) fn with_patience(&self) -> Result<Arc<Cluster>, Errno> {
        let cluster = Cluster::new(&self.user)?;
        cluster.read_conf(&self.file)?;
        limits(&cluster)?;
        cluster.set(c"rados_osd_op_timeout", OSD_TIMEOUT)?;
        cluster.connect()?;
        Ok(Arc::new(cluster))
    }

    /// The command that lets this user blocklist.
    pub(crate) fn advice(&self) -> String {
        let user = &self.user;
        format!(
            "allow it with: ceph auth caps {user} mon 'allow r, allow command \"osd blocklist\" \
             with blocklistop=add' osd '...' (its osd capability as `ceph auth get {user}` shows \
             it)"
        )
    }
}

/// What is ours to bound: librados' own throttles would block the thread that submits.
fn limits(cluster: &Cluster) -> Result<(), Errno> {
    cluster.set(c"objecter_inflight_ops", c"0")?;
    cluster.set(c"objecter_inflight_op_bytes", c"0")?;
    // The default, five minutes, is no time to wait for a wrong address.
    if number(cluster, c"client_mount_timeout") == Some(300) {
        let seconds = std::ffi::CString::new(MOUNT_TIMEOUT_S.to_string()).expect("digits");
        cluster.set(c"client_mount_timeout", &seconds)?;
    }
    // Commands to the monitors (blocklisting) would wait for ever.
    if number(cluster, c"rados_mon_op_timeout") == Some(0) {
        cluster.set(c"rados_mon_op_timeout", c"30")?;
    }
    Ok(())
}

/// An option's value in whole units; librados prints `0`, `300` or `10.000000`.
fn number(cluster: &Cluster, option: &CStr) -> Option<u64> {
    let text = cluster.get(option)?;
    Some(text.trim().parse::<f64>().ok()? as u64)
}

fn refused(cluster: &Cluster, file: &Path, user: &str, why: Errno) -> OpenError {
    let keyring = cluster.get(c"keyring").unwrap_or_default();
    let (user, file) = (user.to_owned(), file.to_owned());
    match why.0 {
        libc::ETIMEDOUT => OpenError::NoMonitor {
            file,
            monitors: cluster.get(c"mon_host").unwrap_or_default(),
            seconds: number(cluster, c"client_mount_timeout").unwrap_or(MOUNT_TIMEOUT_S),
        },
        libc::ENOENT => OpenError::NoKey {
            user,
            keyring,
            file,
        },
        libc::EIO => OpenError::BadKeyring { user, keyring },
        libc::EACCES | libc::EPERM | libc::EINVAL => OpenError::Refused {
            user,
            keyring,
            source: why,
        },
        _ => OpenError::Rados {
            doing: format!(
                "ceph_conf: cannot connect to the cluster that {} names",
                file.display()
            ),
            source: why,
        },
    }
}

/// One or more addresses, as `[v2:1.2.3.4:0/5,v1:1.2.3.4:0/5]` or `1.2.3.4:0/5`.
fn split(addresses: &str) -> Vec<String> {
    let bare = addresses
        .trim()
        .trim_start_matches('[')
        .trim_end_matches(']');
    bare.split(',')
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_librados_prints_them() {
        assert_eq!(split("127.0.0.1:0/77"), ["127.0.0.1:0/77"]);
        assert_eq!(
            split("[v2:[::1]:0/7,v1:[::1]:0/7]"),
            ["v2:[::1]:0/7", "v1:[::1]:0/7"]
        );
        assert!(split("").is_empty());
    }
}
