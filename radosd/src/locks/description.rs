//! What stands in a lock: who holds it, and every client that may write on its behalf.
//!
//! One line of JSON, which `rados lock info` shows. A lock of the original has none.

use super::wire::Locker;
use crate::address::bare;
use driver::{LockHolder, Mark};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// The description of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The owner's text.
    pub(crate) owner: String,
    pub(crate) host: String,
    /// Seconds since 1970.
    pub(crate) since: u64,
    /// The driver that took it, as [`Mark::to_text`].
    pub(crate) process: String,
    /// The clients of the node.
    pub(crate) clients: Vec<Member>,
}

/// A client of a node, that may write to a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) address: String,
    pub(crate) pool: String,
}

impl Description {
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers have a JSON form")
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

pub(crate) fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A lock as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) locker: Locker,
    pub(crate) said: Option<Description>,
}

impl Found {
    pub(crate) fn new(locker: Locker) -> Found {
        let said = serde_json::from_str(&locker.description).ok();
        Found { locker, said }
    }

    fn mark(&self) -> Option<Mark> {
        Mark::from_text(&self.said.as_ref()?.process)
    }

    /// Whether the node that held the `other` still has it, or has it again: perhaps as another
    /// client. Several nodes of a host may have the same owner's text; their folders differ.
    pub(crate) fn is_of_the_node_of(&self, other: &Found) -> bool {
        let node = |found: &Found| {
            let said = found.said.as_ref()?;
            let run_dir = found.mark().and_then(|mark| mark.run_dir);
            Some((said.owner.clone(), said.host.clone(), run_dir))
        };
        self.locker.instance == other.locker.instance
            || node(self).is_some_and(|one| node(other) == Some(one))
    }

    /// Who holds it, for a sentence.
    pub(crate) fn in_words(&self) -> String {
        let Some(said) = &self.said else {
            return format!("client.{}", self.locker.instance);
        };
        let process = self
            .mark()
            .map(|mark| format!(", process {}", mark.process.pid));
        format!(
            "{}{} on {}",
            said.owner,
            process.unwrap_or_default(),
            said.host
        )
    }

    /// Every instance that may write on its behalf, by one of its addresses each.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let said = self.said.iter().flat_map(|said| &said.clients);
        let mut addresses: Vec<_> = said.map(|member| member.address.clone()).collect();
        addresses.push(self.locker.address.clone());
        addresses.sort_by(|one, other| bare(one).cmp(bare(other)));
        addresses.dedup_by(|one, other| bare(one) == bare(other));
        addresses
    }

    /// The pools that it says its clients write to.
    pub(crate) fn pools(&self) -> Vec<String> {
        let said = self.said.iter().flat_map(|said| &said.clients);
        let mut pools: Vec<_> = said.map(|member| member.pool.clone()).collect();
        pools.sort();
        pools.dedup();
        pools
    }

    /// The holder, as `us` sees it; `ours`: the locker is our client.
    pub(crate) fn holder(&self, us: &Mark, ours: bool) -> LockHolder {
        let mark = self.mark();
        // The original says nothing but its client's name.
        let owner = match &self.said {
            Some(said) => said.owner.clone(),
            None => format!("client.{}", self.locker.instance),
        };
        LockHolder {
            owner: owner.into_bytes(),
            alive: mark.as_ref().and_then(|mark| us.sees_alive(mark)),
            run_dir: mark.as_ref().and_then(|mark| mark.run_dir.clone()),
            process: mark.map(|mark| mark.process),
            ours,
            // Who takes it finds out.
            foreign: false,
            host: self.said.as_ref().map(|said| said.host.clone()),
            addresses: self.addresses(),
            since_s: self.said.as_ref().map(|said| said.since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They were put in order with their protocols, under which the same instance's addresses need
    /// not be neighbours, and only neighbours are compared: it was blocklisted twice.
    #[test]
    fn an_instance_is_listed_once() {
        let addresses = [
            "v1:10.0.0.7:0/77",
            "10.0.0.8:0/78",
            "v1:v2:10.0.0.7:0/77",
            "v2:10.0.0.8:0/78",
            "any:10.0.0.7:0/77",
        ];
        let member = |address: &str| Member {
            address: address.into(),
            pool: "blocks".into(),
        };
        let said = Description {
            owner: "owner".into(),
            host: "host".into(),
            since: 1,
            process: String::new(),
            clients: addresses.into_iter().map(member).collect(),
        };
        let found = Found::new(Locker {
            instance: 4123,
            cookie: "foo".into(),
            address: "10.0.0.7:0/77".into(),
            description: said.to_text(),
        });
        // What is no address stays, so that the lock does.
        assert_eq!(
            found.addresses(),
            ["v1:10.0.0.7:0/77", "10.0.0.8:0/78", "v1:v2:10.0.0.7:0/77"]
        );
    }
}
