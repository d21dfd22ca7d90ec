//! The maps in storage, as mapperd lists them: pages of lines of JSON.
//!
//! The first line of a page names the cursor of the next (0 after the last), each other one map.

use crate::failure::Failure;
use crate::own_node::OwnNode;
use crate::settings::Settings;
use client::{Client, Name};
use serde::{Deserialize, Serialize};
use xseg::Request;
use xseg::join::JoinError;
use xseg::protocol::Operation;

/// Names that storage is asked for at once.
const PAGE_NAMES: u64 = 1024;
/// Room for a page, bytes.
const PAGE_BYTES: usize = 1 << 20;
/// A flag of [`all`].
pub(crate) const EVERY_OBJECT: u32 = xseg::protocol::flags::FORCE;

/// A map in storage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The volume's or snapshot's name, escaped.
    pub(crate) name: String,
    /// The object that holds its header, escaped.
    pub(crate) object: String,
    /// Version of its format.
    pub(crate) version: u32,
    /// Whether it is a snapshot.
    pub(crate) read_only: bool,
    /// Whether it was removed.
    pub(crate) deleted: bool,
    /// Bytes, where the listing knows them.
    pub(crate) size: Option<u64>,
}

#[derive(Deserialize)]
struct Head {
    next: u64,
}

/// All maps that were not removed, by name. Where the node does not run, a node inside this
/// process reads the storage; it takes no lock and writes nothing.
pub(crate) fn volumes(settings: &Settings) -> Result<Vec<Entry>, Failure> {
    match settings.connect()? {
        Ok(client) => pages(&client),
        Err(JoinError::NotRunning(_)) => {
            let node = OwnNode::to_look(settings)?;
            let entries = pages(&node.client);
            node.stop()?;
            entries
        }
        Err(e) => Err(Failure::new(e)),
    }
}

/// All maps that were not removed, from a running node.
pub(crate) fn pages(client: &Client) -> Result<Vec<Entry>, Failure> {
    let mut entries = all(client, 0)?;
    entries.retain(|entry| !entry.deleted);
    Ok(entries)
}

/// All maps, removed ones too. With [`EVERY_OBJECT`] in `flags` also those whose header lies under a
/// name that no map of ours has.
pub(crate) fn all(client: &Client, flags: u32) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = page(client, (cursor, flags), &mut entries)?;
        if cursor == 0 {
            break;
        }
    }
    entries.sort();
    entries.dedup();
    Ok(entries)
}

fn page(
    client: &Client,
    (cursor, flags): (u64, u32),
    entries: &mut Vec<Entry>,
) -> Result<u64, Failure> {
    let request = Request {
        offset: cursor,
        size: PAGE_NAMES,
        flags,
        ..Request::new(Operation::List, Name::EMPTY)
    };
    let port = client.ports().mapperd;
    let reply = client
        .block_on(client.call(port, request, &[], PAGE_BYTES))
        .map_err(|errno| {
            let why = nix::errno::Errno::from_raw(errno).desc();
            Failure::new(format!("Invalid storage: it can't be listed: {why}"))
        })?;
    let len = reply.bytes.len().min(reply.serviced as usize);
    parse(&reply.bytes[..len], entries)
        .map_err(|e| Failure::unexpected("the node's listing makes no sense", e))
}

fn parse(bytes: &[u8], entries: &mut Vec<Entry>) -> serde_json::Result<u64> {
    let mut lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let head: Head = serde_json::from_slice(lines.next().unwrap_or_default())?;
    for line in lines {
        entries.push(serde_json::from_slice(line)?);
    }
    Ok(head.next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_cursor_and_maps() {
        let page =
            b"{\"next\":7}\n{\"name\":\"volume\",\"object\":\"archip_volume\",\"version\":1,\
            \"read_only\":false,\"deleted\":false,\"size\":null}\n";
        let mut entries = Vec::new();
        assert_eq!(parse(page, &mut entries).unwrap(), 7);
        assert_eq!(
            (entries[0].name.as_str(), entries[0].version),
            ("volume", 1)
        );
        assert!(parse(b"", &mut entries).is_err());
        assert!(parse(b"{\"next\":0}\nrubbish\n", &mut entries).is_err());
    }
}
