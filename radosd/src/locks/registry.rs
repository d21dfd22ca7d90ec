//! How the clients of a node know each other: one file for each role, `RUN_DIR/ROLE.rados`.
//!
//! ```text
//!   blockerb: writes its address        blockerm: says that it takes locks
//!             reads who takes locks               reads all addresses
//!             waits until they list it            names them in each lock, then says so
//! ```
//! What always holds:
//! - A client stands here before it writes to its pool, and whoever takes locks says so here before
//!   it reads the others. Both write first and read then, so at least one sees the other.
//! - A lock that was ours, and that a successor did not find so, is `lost`: whoever believes to hold it
//!   has to take it again before anything of that volume is changed. mapperd believes so for as long
//!   as a mapping lasts, so it is not remembered longer than that.
//! - An address leaves `addresses` or `former` only when it can write no more: its instance ended
//!   in good order, or it was blocklisted.
//! - A file is replaced whole. It need not survive the host: what a dead host left is known by the
//!   description of its locks.

use super::description::Member;
use crate::address::bare;
use crate::notes::Notes;
use driver::{Done, Mark, Name, OpId};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

const SUFFIX: &str = "rados";

/// Addresses that can write no more are remembered up to this many.
const SETTLED_MAX: usize = 256;

/// How long a lost lock is remembered, in seconds: mapperd looks at a lock before it lets a mapping
/// out that is older than 15 s, and a mapping lasts 30 s.
const LOST_S: u64 = 120;

/// What a client says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) role: String,
    pub(crate) pool: String,
    /// [`Mark::to_text`].
    pub(crate) process: String,
    /// This instance's addresses; none: it ended in good order.
    pub(crate) addresses: Vec<String>,
    /// Addresses of dead instances that may still write.
    pub(crate) former: Vec<String>,
    /// Addresses that can write no more.
    pub(crate) settled: Vec<String>,
    /// Whether it has ever taken a lock.
    pub(crate) locks: bool,
    /// The volumes whose locks it, or its predecessor, has taken and not begun to give back.
    pub(crate) held: Vec<HeldName>,
    /// The addresses that all of its locks name.
    pub(crate) listed: Vec<String>,
    /// Volumes whose locks turned out not to be ours any more, and when, in seconds since 1970.
    pub(crate) lost: Vec<(HeldName, u64)>,
    /// Those of them that nobody has given up since: they are not taken again in silence.
    #[serde(default)]
    pub(crate) revoked: Vec<HeldName>,
    /// Changes that its successor is to answer with ETIMEDOUT ([`crate::timeouts`], [`crate::notes`]).
    pub(crate) failed: Notes,
}

/// A volume's name as text: each byte is the character of that number, so that every name has a
/// text and ordinary ones are readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldName(String);

impl From<&Name> for HeldName {
    fn from(name: &Name) -> HeldName {
        HeldName(name.iter().map(|byte| char::from(*byte)).collect())
    }
}

impl HeldName {
    fn name(&self) -> Option<Name> {
        let bytes: Result<Vec<u8>, _> = self.0.chars().map(u8::try_from).collect();
        Name::new(&bytes.ok()?).ok()
    }
}

/// Our file, and the folder of all of them.
pub(crate) struct Registry {
    dir: PathBuf,
    file: PathBuf,
    record: RefCell<Record>,
}

impl Registry {
    /// Takes the place of a predecessor; what it may still have in flight is in `former`.
    pub(crate) fn open(dir: &Path, fresh: Record) -> io::Result<Registry> {
        let file = dir.join(format!("{}.{SUFFIX}", fresh.role));
        let old = read(&file).unwrap_or_default();
        // Of another boot of the host nobody waits for an answer, and its clock was another.
        let boot = |record: &Record| Mark::from_text(&record.process).map(|mark| mark.process.boot);
        let failed = match boot(&old) == boot(&fresh) {
            true => old.failed.clone(),
            false => Notes::default(),
        };
        let mut former = [old.addresses, old.former].concat();
        former.retain(|address| !fresh.addresses.contains(address));
        let registry = Registry {
            dir: dir.to_owned(),
            file,
            record: RefCell::new(Record {
                former,
                settled: old.settled,
                locks: old.locks,
                held: old.held,
                lost: old.lost,
                revoked: old.revoked,
                failed,
                ..fresh
            }),
        };
        registry.save()?;
        Ok(registry)
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&*self.record.borrow())?;
        let mut temporary = self.file.clone().into_os_string();
        temporary.push(".new");
        std::fs::write(&temporary, text)?;
        std::fs::rename(&temporary, &self.file)
    }

    /// Changes our record.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let before = self.record.borrow().clone();
        change(&mut self.record.borrow_mut());
        match *self.record.borrow() == before {
            true => Ok(()),
            false => self.save(),
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The addresses of dead predecessors that may still write.
    pub(crate) fn former(&self) -> Vec<String> {
        self.record.borrow().former.clone()
    }

    /// Whether the lock of `volume` was broken away from us, or our predecessor, and nobody has
    /// given it up since.
    pub(crate) fn is_revoked(&self, volume: &Name) -> bool {
        self.record
            .borrow()
            .revoked
            .contains(&HeldName::from(volume))
    }

    /// The volumes whose locks were ours, or our predecessor's, when last noted.
    pub(crate) fn held(&self) -> Vec<Name> {
        let record = self.record.borrow();
        record.held.iter().filter_map(HeldName::name).collect()
    }

    pub(crate) fn has_failures(&self) -> bool {
        !self.record.borrow().failed.is_empty()
    }

    /// Whether there are failures that nobody will claim.
    pub(crate) fn has_old_failures(&self, now_ns: u64) -> bool {
        self.record.borrow().failed.has_old(now_ns)
    }

    /// The change for which this client is about to cut itself off.
    pub(crate) fn failing_now(&self) -> Option<String> {
        let record = self.record.borrow();
        record.failed.first_fresh().map(str::to_owned)
    }

    /// Claims a failure that a predecessor noted; since when that is cut off. The file does not
    /// change.
    pub(crate) fn claim_failure(&self, change: &str, id: OpId) -> Option<u64> {
        self.record.borrow_mut().failed.claim(change, id)
    }

    /// These were answered.
    pub(crate) fn answered(&self, done: &[Done]) -> io::Result<()> {
        let is_claim = |done: &&Done| self.record.borrow().failed.is_claim(done.id);
        let ids: Vec<_> = done.iter().filter(is_claim).map(|done| done.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.change(|record| ids.iter().for_each(|id| record.failed.answered(*id)))
    }

    pub(crate) fn has_locks(&self) -> bool {
        self.record.borrow().locks
    }

    /// The addresses that all of our locks name.
    pub(crate) fn listed(&self) -> Vec<String> {
        self.record.borrow().listed.clone()
    }

    /// These addresses can write no more.
    pub(crate) fn settle(&self, addresses: &[String]) -> io::Result<()> {
        self.change(|record| {
            record.former.retain(|address| !addresses.contains(address));
            record
                .settled
                .retain(|address| !addresses.contains(address));
            record.settled.extend_from_slice(addresses);
            let surplus = record.settled.len().saturating_sub(SETTLED_MAX);
            record.settled.drain(..surplus);
        })
    }

    /// Our instance ends, and nothing of it is in flight.
    pub(crate) fn end(&self) -> io::Result<()> {
        let ours = std::mem::take(&mut self.record.borrow_mut().addresses);
        self.settle(&ours)
    }

    fn records(&self) -> Vec<Record> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX))
            .filter_map(|path| read(&path))
            .collect()
    }

    /// Every client of the node that may write.
    pub(crate) fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        for record in self.records() {
            for address in [record.addresses, record.former].concat() {
                let pool = record.pool.clone();
                members.push(Member { address, pool });
            }
        }
        members.sort();
        members.dedup();
        members
    }

    /// Whether an address can write no more, as this node knows.
    pub(crate) fn is_settled(&self, address: &str) -> bool {
        let same = |other: &String| bare(other) == bare(address);
        let records = self.records();
        let may_write =
            |record: &Record| record.addresses.iter().any(same) || record.former.iter().any(same);
        !records.iter().any(may_write) && records.iter().any(|r| r.settled.iter().any(same))
    }

    /// The volumes of the node whose locks turned out not to be ours.
    pub(crate) fn lost(&self) -> Vec<Name> {
        let records = self.records();
        let lost = records.iter().flat_map(|record| &record.lost);
        lost.filter_map(|(name, _)| name.name()).collect()
    }

    /// Who takes locks on this node, does not name us in them yet, and whether it lives.
    pub(crate) fn not_listing_us(&self, us: &Mark) -> Vec<(String, bool)> {
        let ours = self.record.borrow().addresses.clone();
        let role = &self.record.borrow().role;
        let lacks = |record: &Record| {
            record.locks
                && record.role != *role
                && ours.iter().any(|address| !record.listed.contains(address))
        };
        let lives = |record: &Record| {
            let mark = Mark::from_text(&record.process);
            mark.is_some_and(|mark| us.sees_alive(&mark) != Some(false))
        };
        let records = self.records();
        let lacking = records.iter().filter(|record| lacks(record));
        lacking
            .map(|record| (record.role.clone(), lives(record)))
            .collect()
    }
}

impl Record {
    /// The lock of `volume` is ours.
    pub(crate) fn holds(&mut self, volume: &Name) {
        let name = HeldName::from(volume);
        self.lost.retain(|(lost, _)| *lost != name);
        if !self.held.contains(&name) {
            self.held.push(name);
        }
    }

    /// The lock of `volume` was ours, and is not.
    pub(crate) fn loses(&mut self, volume: &Name, now: u64) {
        let name = HeldName::from(volume);
        self.held.retain(|held| *held != name);
        self.lost
            .retain(|(lost, since)| *lost != name && now.saturating_sub(*since) < LOST_S);
        self.revoked.retain(|revoked| *revoked != name);
        self.revoked.push(name.clone());
        self.lost.push((name, now));
    }

    /// The lock of `volume` is given back, or given up.
    pub(crate) fn gives_up(&mut self, volume: &Name) {
        let name = HeldName::from(volume);
        self.held.retain(|held| *held != name);
        self.revoked.retain(|revoked| *revoked != name);
    }
}

fn read(file: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::Registration;

    fn record(role: &str, address: &str, mark: &Mark) -> Record {
        Record {
            role: role.into(),
            pool: format!("pool-of-{role}"),
            process: mark.to_text(),
            addresses: vec![address.into()],
            ..Record::default()
        }
    }

    #[test]
    fn a_predecessor_that_did_not_end_may_still_write() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Registration::new(None).unwrap().0.clone();
        let open = |address: &str| Registry::open(dir.path(), record("b", address, &mark)).unwrap();
        open("1.1.1.1:0/1");
        let second = open("1.1.1.1:0/2");
        assert_eq!(second.former(), ["1.1.1.1:0/1"]);
        // It dies as well, before it has settled anything.
        let third = open("1.1.1.1:0/3");
        assert_eq!(third.former(), ["1.1.1.1:0/2", "1.1.1.1:0/1"]);
        assert_eq!(third.members().len(), 3);
        third.settle(&third.former()).unwrap();
        assert!(third.is_settled("v1:1.1.1.1:0/1") && !third.is_settled("1.1.1.1:0/3"));
        third.end().unwrap();
        assert!(open("1.1.1.1:0/4").former().is_empty());
    }

    #[test]
    fn what_is_to_fail_does_not_outlive_a_boot() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Registration::new(None).unwrap().0.clone();
        let open = |mark: &Mark| Registry::open(dir.path(), record("b", "1.1.1.1:0/1", mark));
        let first = open(&mark).unwrap();
        first
            .change(|record| record.failed.add("delete x"))
            .unwrap();
        let second = open(&mark).unwrap();
        assert_eq!(second.failing_now().as_deref(), Some("delete x"));
        mark.process.boot.push('x');
        assert!(!open(&mark).unwrap().has_failures());
    }

    #[test]
    fn every_name_has_a_text() {
        for bytes in [&b"volume"[..], b"\xff\x80\xc3\xa9", b"a\nb\"c"] {
            let name = Name::new(bytes).unwrap();
            assert_eq!(HeldName::from(&name).name(), Some(name));
        }
        assert_eq!(HeldName("\u{100}".into()).name(), None);
    }

    #[test]
    fn who_takes_locks_has_to_list_us() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Registration::new(None).unwrap();
        let maps = Registry::open(dir.path(), record("m", "1.1.1.1:0/1", &mark.0)).unwrap();
        let data = Registry::open(dir.path(), record("b", "1.1.1.1:0/2", &mark.0)).unwrap();
        assert!(data.not_listing_us(&mark.0).is_empty());
        maps.change(|record| record.locks = true).unwrap();
        assert_eq!(data.not_listing_us(&mark.0), [("m".to_owned(), true)]);
        let members: Vec<_> = maps.members().into_iter().map(|m| m.address).collect();
        maps.change(|record| record.listed = members).unwrap();
        assert!(data.not_listing_us(&mark.0).is_empty());
        assert!(maps.not_listing_us(&mark.0).is_empty());
    }

    #[test]
    fn a_lost_lock_is_known_to_all_until_it_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Registration::new(None).unwrap();
        let maps = Registry::open(dir.path(), record("m", "1.1.1.1:0/1", &mark.0)).unwrap();
        let data = Registry::open(dir.path(), record("b", "1.1.1.1:0/2", &mark.0)).unwrap();
        let volumes = ["one", "other"].map(|name| Name::try_from(name).unwrap());
        for (at, volume) in volumes.iter().enumerate() {
            maps.change(|record| record.loses(volume, 1000 + at as u64))
                .unwrap();
        }
        assert_eq!(data.lost(), volumes);
        maps.change(|record| record.holds(&volumes[0])).unwrap();
        assert_eq!(data.lost(), volumes[1..]);
        maps.change(|record| record.loses(&volumes[0], 1000 + LOST_S + 1))
            .unwrap();
        assert_eq!(data.lost(), volumes[..1]);
    }
}
