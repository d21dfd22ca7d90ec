//! From a driver's answer to the bytes of a reply.

use driver::{Detail, LockHolder};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use xseg::Name;
use xseg::protocol::{ListPage, NameRequest, Operation};

/// The reply of LOCKINFO, JSON of `serviced` bytes; all fields absent when nobody holds the lock.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockReport {
    /// The owner's text, escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The process that took it, where the storage remembers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// `RUN_DIR` of its node, on its host, where the storage remembers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_dir: Option<PathBuf>,
    /// Whether that process lives, where this host can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alive: Option<bool>,
    /// Whether this very node holds it.
    pub ours: bool,
    /// The host that took it, where the storage remembers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The network addresses that may write on its behalf (RADOS).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub addresses: Vec<String>,
    /// When it was taken, in seconds since 1970, where the storage remembers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

impl From<&LockHolder> for LockReport {
    fn from(holder: &LockHolder) -> LockReport {
        LockReport {
            owner: Some(holder.owner.escape_ascii().to_string()),
            pid: holder.process.as_ref().map(|p| p.pid),
            run_dir: holder.run_dir.clone(),
            alive: holder.alive,
            ours: holder.ours,
            host: holder.host.clone(),
            addresses: holder.addresses.clone(),
            since: holder.since_s,
        }
    }
}

/// What a driver's answer says to the sender.
pub(crate) struct Said {
    /// Goes into the answer's `serviced`; `None` leaves the driver's count.
    pub(crate) serviced: Option<u64>,
    /// Goes into the reply's data.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Translates; the operation tells answers of the same detail apart.
pub(crate) fn say(detail: Detail, operation: Option<Operation>) -> Said {
    match detail {
        Detail::None => Said {
            serviced: None,
            bytes: None,
        },
        Detail::Size(size) => Said {
            serviced: Some(8),
            bytes: Some(size.to_le_bytes().to_vec()),
        },
        Detail::Hash(digest) => {
            let hex = digest.to_string();
            let name = Name::new(hex.as_bytes()).unwrap_or_default();
            Said {
                serviced: None,
                bytes: Some(NameRequest(name).encode().to_vec()),
            }
        }
        Detail::List { names, next } => {
            let names = names.iter().filter_map(|n| Name::new(n)).collect();
            Said {
                serviced: Some(next.unwrap_or(0)),
                bytes: Some(ListPage { names }.encode()),
            }
        }
        Detail::Lock(lock) if operation != Some(Operation::LockInfo) => Said {
            serviced: Some(u64::from(lock.already_ours)),
            bytes: None,
        },
        Detail::Lock(lock) => {
            let report = lock
                .holder
                .as_ref()
                .map(LockReport::from)
                .unwrap_or_default();
            let bytes = serde_json::to_vec(&report).unwrap_or_default();
            Said {
                serviced: Some(bytes.len() as u64),
                bytes: Some(bytes),
            }
        }
    }
}
