//! From a driver's answer to the bytes of a reply.

use driver::{Detail, LockHolder, MoveReply};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
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
    /// Whether it certainly is neither this node's nor was left by a predecessor of its blocker.
    #[serde(skip_serializing_if = "is_false", default)]
    pub foreign: bool,
    /// The host that took it, where the storage remembers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The network addresses that may write on its behalf (RADOS).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub addresses: Vec<String>,
    /// How many more there are, for which there was no room.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub more_addresses: usize,
    /// When it was taken, in seconds since 1970, where the storage remembers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

impl From<&LockHolder> for LockReport {
    fn from(holder: &LockHolder) -> LockReport {
        let (addresses, more_addresses) = some_of(&holder.addresses);
        LockReport {
            owner: Some(shown(&holder.owner)),
            pid: holder.process.as_ref().map(|p| p.pid),
            run_dir: holder.run_dir.clone().filter(|path| fits(path)),
            alive: holder.alive,
            ours: holder.ours,
            foreign: holder.foreign,
            host: holder.host.as_ref().map(|host| shown(host.as_bytes())),
            addresses,
            more_addresses,
            since: holder.since_s,
        }
    }
}

/// The longest report, in bytes: what those who ask have room for.
pub(crate) const LOCK_REPORT_LEN_MAX: usize = 4096;

/// The longest text in it, in bytes as JSON, and the longest list of addresses. Nobody's are that
/// long, but what stands in a lock may be anybody's.
const TEXT_LEN_MAX: usize = 512;
const ADDRESSES_LEN_MAX: usize = 2048;

const _: () = assert!(3 * TEXT_LEN_MAX + ADDRESSES_LEN_MAX + 256 <= LOCK_REPORT_LEN_MAX);

/// How many bytes a text takes.
fn len_of(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |json| json.len())
}

/// Escapes what is no plain text, and ends what is too long with `...`.
fn shown(bytes: &[u8]) -> String {
    let mut text = bytes.escape_ascii().to_string();
    if len_of(&text) > TEXT_LEN_MAX {
        text.truncate(TEXT_LEN_MAX / 2 - 4);
        text += "...";
    }
    text
}

fn fits(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|text| len_of(text) <= TEXT_LEN_MAX)
}

/// As many addresses as there is room for, and how many more there are.
fn some_of(addresses: &[String]) -> (Vec<String>, usize) {
    let mut room = ADDRESSES_LEN_MAX;
    let fit = addresses.iter().map_while(|address| {
        room = room.checked_sub(len_of(address) + 1)?;
        Some(address.clone())
    });
    let fit: Vec<String> = fit.collect();
    let more = addresses.len() - fit.len();
    (fit, more)
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The reply of MIGRATE, JSON of `serviced` bytes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    /// Objects that were moved, or, with PEEK, would be tried.
    pub moved: u64,
    /// Empty directories that were removed.
    pub directories: u64,
    /// What stays where it is.
    pub left: Vec<Left>,
    /// The cursor of the next page, 0 after the last.
    pub next: u64,
    /// How much of the storage was looked at, in thousandths.
    pub permille: u32,
}

/// An object, or a directory of objects, that was not moved.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Where it lies below the blocker's directory, escaped.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl From<&MoveReply> for MoveReport {
    fn from(reply: &MoveReply) -> MoveReport {
        let left = reply.left.iter().map(|left| Left {
            path: left.path.clone(),
            reason: left.reason.clone(),
        });
        MoveReport {
            moved: reply.moved,
            directories: reply.directories,
            left: left.collect(),
            next: reply.next.unwrap_or(0),
            permille: reply.permille,
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
            said_in_json(&report)
        }
        Detail::Moved(moved) => said_in_json(&MoveReport::from(&*moved)),
    }
}

fn said_in_json(report: &impl Serialize) -> Said {
    let bytes = serde_json::to_vec(report).unwrap_or_default();
    Said {
        serviced: Some(bytes.len() as u64),
        bytes: Some(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock in a pool may name hundreds of clients, or whatever else somebody wrote there. Its
    /// report was longer than who asked had room for, so that the volume could be neither removed
    /// nor have its lock broken: I/O error.
    #[test]
    fn a_report_always_has_room() {
        let names = ["volume\u{1}", "\u{1f512}", "\"", "a plain one"];
        for name in names.map(|name| name.repeat(2000)) {
            let holder = LockHolder {
                owner: name.clone().into_bytes(),
                host: Some(name.clone()),
                run_dir: Some(name.clone().into()),
                addresses: vec![name, "10.0.0.1:0/7".into()],
                ..LockHolder::default()
            };
            let report = LockReport::from(&holder);
            let len = serde_json::to_vec(&report).unwrap().len();
            assert!(len <= LOCK_REPORT_LEN_MAX, "{len}");
            assert_eq!((report.addresses.len(), report.more_addresses), (0, 2));
        }
        let addresses: Vec<_> = (1..300).map(|n| format!("10.0.0.1:0/{n}")).collect();
        let holder = LockHolder {
            owner: b"host_2".to_vec(),
            host: Some("host".into()),
            addresses: addresses.clone(),
            ..LockHolder::default()
        };
        let report = LockReport::from(&holder);
        assert!(serde_json::to_vec(&report).unwrap().len() <= LOCK_REPORT_LEN_MAX);
        let count = report.addresses.len();
        assert!(count > 100 && report.addresses[..] == addresses[..count]);
        assert_eq!(report.more_addresses, addresses.len() - count);
        assert_eq!(report.owner.as_deref(), Some("host_2"));
    }
}
