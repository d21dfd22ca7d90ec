//! Changes that were not answered in time, as they stand in their client's file.
//!
//! ```text
//!   timed out --> noted --> its client is cut off --> claimed, by who is asked it again --> answered
//!                   |             (since then)     \-- nobody asks for so long -----------> forgotten
//!                   `- it cannot be cut off: sent again
//! ```
//! What always holds:
//! - A note stays in the file until its change was answered: a successor that is cut off itself
//!   before that leaves it to the next one, with the time since when nothing new of it can be sent.
//! - Two changes that look the same are two notes, and each is claimed once.
//! - A note that nobody claims is forgotten after [`KEPT_NS`]: who asked is gone, and the same change
//!   would be a new one.

use driver::OpId;
use serde::{Deserialize, Serialize};

/// How long an OSD may hang before the others report it and it loses its groups: Ceph's
/// `osd_heartbeat_grace`, 20 s, and some time for the map; in nanoseconds. After that nothing lands
/// of a client that was cut off before.
pub(crate) const GRACE_NS: u64 = 30_000_000_000;

/// How long a change may take to come again, in nanoseconds: that grace, and the 30 s that a
/// supervisor grants a process until it serves.
pub(crate) const KEPT_NS: u64 = 2 * GRACE_NS;

/// One change that is to fail. Its text is that of the change, and before it `@` and since when its
/// client is cut off, nanoseconds of the host's monotonic clock: as older versions read it, and read
/// without the `@`, it is a change that nobody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
struct Note {
    change: String,
    since_ns: Option<u64>,
    /// Who is asked for it again; not in the file.
    claim: Option<OpId>,
}

impl Note {
    fn is_old(&self, now_ns: u64) -> bool {
        let age = self.since_ns.map(|since| now_ns.saturating_sub(since));
        self.claim.is_none() && age.is_some_and(|age| age >= KEPT_NS)
    }
}

impl From<String> for Note {
    fn from(text: String) -> Note {
        let stamped = text.strip_prefix('@').and_then(|rest| {
            let (since, change) = rest.split_once(' ')?;
            Some((since.parse().ok()?, change.to_owned()))
        });
        let (since_ns, change) = match stamped {
            Some((since, change)) => (Some(since), change),
            None => (None, text),
        };
        Note {
            change,
            since_ns,
            claim: None,
        }
    }
}

impl From<Note> for String {
    fn from(note: Note) -> String {
        match note.since_ns {
            Some(since) => format!("@{since} {}", note.change),
            None => note.change,
        }
    }
}

/// All of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A change timed out; its client is about to be cut off.
    pub(crate) fn add(&mut self, change: &str) {
        self.0.push(Note::from(change.to_owned()));
    }

    /// Its client could not be cut off: the change is sent again.
    pub(crate) fn take_back(&mut self, change: &str) {
        let fresh = |note: &Note| note.since_ns.is_none() && note.change == change;
        if let Some(at) = self.0.iter().position(fresh) {
            self.0.remove(at);
        }
    }

    /// One whose client is not known to be cut off yet.
    pub(crate) fn first_fresh(&self) -> Option<&str> {
        let mut fresh = self.0.iter().filter(|note| note.since_ns.is_none());
        fresh.next().map(|note| note.change.as_str())
    }

    /// The clients of all of them are cut off.
    pub(crate) fn are_cut_off(&mut self, now_ns: u64) {
        for note in &mut self.0 {
            note.since_ns.get_or_insert(now_ns);
        }
    }

    /// Whether there is one that nobody has claimed, and nobody will.
    pub(crate) fn has_old(&self, now_ns: u64) -> bool {
        self.0.iter().any(|note| note.is_old(now_ns))
    }

    /// Forgets those.
    pub(crate) fn forget_old(&mut self, now_ns: u64) {
        self.0.retain(|note| !note.is_old(now_ns));
    }

    /// Somebody asks for a change: whether that is one of these, and since when its client is cut off.
    pub(crate) fn claim(&mut self, change: &str, id: OpId) -> Option<u64> {
        let free = |note: &&mut Note| note.claim.is_none() && note.change == change;
        let mut fitting = self.0.iter_mut().filter(free);
        let note = fitting.find(|note| note.since_ns.is_some())?;
        note.claim = Some(id);
        note.since_ns
    }

    pub(crate) fn is_claim(&self, id: OpId) -> bool {
        self.0.iter().any(|note| note.claim == Some(id))
    }

    /// Who claimed one was answered.
    pub(crate) fn answered(&mut self, id: OpId) {
        self.0.retain(|note| note.claim != Some(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: &str = "write object 0 4096";

    /// What the next process reads.
    fn by_successor(notes: &Notes) -> Notes {
        serde_json::from_str(&serde_json::to_string(notes).unwrap()).unwrap()
    }

    /// It was taken out when it was claimed; who died between that and the answer left nothing.
    #[test]
    fn a_note_outlives_who_claimed_it_and_goes_with_the_answer() {
        let mut notes = Notes::default();
        notes.add(CHANGE);
        assert_eq!(notes.claim(CHANGE, OpId(1)), None, "it may be sent again");
        notes.are_cut_off(1000);
        let mut second = by_successor(&notes);
        second.add("zeroes object 0 1");
        second.are_cut_off(2000);
        assert_eq!(second.claim(CHANGE, OpId(1)), Some(1000));
        let mut third = by_successor(&second);
        third.are_cut_off(3000);
        assert_eq!(third.claim(CHANGE, OpId(2)), Some(1000));
        assert_eq!(third.claim("zeroes object 0 1", OpId(3)), Some(2000));
        assert!(third.is_claim(OpId(2)) && !third.is_claim(OpId(1)));
        third.answered(OpId(2));
        assert_eq!(third.claim(CHANGE, OpId(4)), None, "it was answered");
        third.answered(OpId(3));
        assert!(third.is_empty());
    }

    #[test]
    fn two_that_look_the_same_are_two() {
        let mut notes = Notes::default();
        notes.add(CHANGE);
        notes.add(CHANGE);
        notes.take_back(CHANGE);
        notes.add(CHANGE);
        notes.are_cut_off(5);
        notes.take_back(CHANGE);
        assert_eq!(notes.claim(CHANGE, OpId(1)), Some(5));
        assert_eq!(notes.claim(CHANGE, OpId(2)), Some(5));
        assert_eq!(notes.claim(CHANGE, OpId(3)), None);
        notes.answered(OpId(1));
        assert!(notes.is_claim(OpId(2)));
        assert_eq!(notes.claim(CHANGE, OpId(3)), None);
    }

    #[test]
    fn what_nobody_claims_is_forgotten() {
        let mut notes = Notes::default();
        notes.add(CHANGE);
        notes.add(CHANGE);
        notes.forget_old(u64::MAX);
        assert_eq!(notes.first_fresh(), Some(CHANGE), "not cut off yet");
        notes.are_cut_off(7);
        assert_eq!(notes.first_fresh(), None);
        notes.claim(CHANGE, OpId(1));
        assert!(!notes.has_old(7 + KEPT_NS - 1));
        assert!(notes.has_old(7 + KEPT_NS));
        notes.forget_old(7 + KEPT_NS);
        assert_eq!(notes.claim(CHANGE, OpId(2)), None);
        assert!(notes.is_claim(OpId(1)), "somebody waits for the answer");
    }

    /// An older version writes no times, and must be able to read ours: what it cannot read it takes
    /// for nothing, and its dead predecessor's address stands in the same file.
    #[test]
    fn older_versions_are_understood_and_understand() {
        let mut notes: Notes = serde_json::from_str(r#"["write object 0 4096"]"#).unwrap();
        notes.are_cut_off(9);
        let text = serde_json::to_string(&notes).unwrap();
        assert_eq!(text, r#"["@9 write object 0 4096"]"#);
        assert!(serde_json::from_str::<Vec<String>>(&text).is_ok());
        assert_eq!(notes.claim(CHANGE, OpId(1)), Some(9));
    }
}
