//! From a driver's answer to the bytes of a reply.

use driver::{Detail, LockHolder};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use xseg::Name;
use xseg::protocol::{NameRequest, Operation};

/// The reply of LIST: a page of object names.
///
/// On the wire: count u32, then for each name its length u16 and its bytes, little-endian. The
/// cursor of the next page is the answer's `serviced`, 0 after the last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The names, in no order.
    pub names: Vec<Name>,
}

impl ListPage {
    /// Lays the page out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = (self.names.len() as u32).to_le_bytes().to_vec();
        for name in &self.names {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name);
        }
        out
    }

    /// Reads a page; `None` when its lengths lie.
    pub fn decode(bytes: &[u8]) -> Option<ListPage> {
        let count = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        let mut rest = &bytes[4..];
        let mut names = Vec::new();
        for _ in 0..count {
            let len = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
            names.push(Name::new(rest.get(2..2 + len)?)?);
            rest = &rest[2 + len..];
        }
        Some(ListPage { names })
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_round_trips_and_lies_are_refused() {
        let names = ["volume-a", "volume-b"]
            .map(|n| Name::try_from(n).unwrap())
            .to_vec();
        let bytes = ListPage {
            names: names.clone(),
        }
        .encode();
        assert_eq!(ListPage::decode(&bytes), Some(ListPage { names }));
        assert_eq!(ListPage::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(ListPage::decode(&[1, 0, 0, 0, 255, 255]), None);
    }
}
