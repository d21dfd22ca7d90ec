//! What a reader may see: for each sector of each volume, the values that are allowed.
//!
//! A sector is 512 bytes, all filled with one 8-byte value; no two writes use the same. Under
//! process deaths nothing that was answered is lost. A value is gone once a write that *began
//! after its own was answered* is answered; until then a read may show it. A read may show what was
//! allowed when it began, and any value whose write began before the read ended. A snapshot may
//! show what was allowed at some moment between its request and its answer. Once a read has shown a
//! sector that nobody is writing, every later read shows the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes of a sector of the model.
pub const SECTOR: u64 = 512;

/// The values that a sector may show; 0 is a sector never written.
pub type Allowed = BTreeSet<u64>;

/// One value that a sector may show.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    value: u64,
    begun: u64,
    /// `None` while its write is unanswered.
    ended: Option<u64>,
}

/// What a sector is when nothing is known of it.
const NEVER_WRITTEN: Candidate = Candidate {
    value: 0,
    begun: 0,
    ended: Some(0),
};

/// What a read under way may show of a sector, and whether nobody wrote it meanwhile.
#[derive(Debug, Clone)]
struct Seen {
    allowed: Allowed,
    at_rest: bool,
}

type Sectors = BTreeMap<u64, Vec<Candidate>>;

/// One volume.
#[derive(Debug, Clone, Default)]
pub struct Volume {
    sectors: Sectors,
    /// Counts what happens, to tell before from after.
    now: u64,
    /// What reads under way may show, by their number.
    reads: BTreeMap<u64, BTreeMap<u64, Seen>>,
    /// What a snapshot under way may become.
    snapshot: Option<Sectors>,
}

fn entry(sectors: &mut Sectors, sector: u64) -> &mut Vec<Candidate> {
    sectors.entry(sector).or_insert_with(|| vec![NEVER_WRITTEN])
}

impl Volume {
    /// A write of `value` to `sectors` begins.
    pub fn write_begins(&mut self, sectors: Range<u64>, value: u64) {
        self.now += 1;
        let candidate = Candidate {
            value,
            begun: self.now,
            ended: None,
        };
        for sector in sectors {
            if let Some(snapshot) = &mut self.snapshot {
                entry(snapshot, sector).push(candidate);
            }
            entry(&mut self.sectors, sector).push(candidate);
            for read in self.reads.values_mut() {
                if let Some(seen) = read.get_mut(&sector) {
                    seen.allowed.insert(value);
                    seen.at_rest = false;
                }
            }
        }
    }

    /// It was acknowledged.
    pub fn write_ends(&mut self, sectors: Range<u64>, value: u64) {
        self.now += 1;
        for sector in sectors {
            let candidates = entry(&mut self.sectors, sector);
            let mut begun = self.now;
            for candidate in candidates.iter_mut().filter(|c| c.value == value) {
                candidate.ended = Some(self.now);
                begun = candidate.begun;
            }
            candidates.retain(|c| c.ended.is_none_or(|ended| ended >= begun));
        }
    }

    /// Read number `read` of `sectors` begins.
    pub fn read_begins(&mut self, read: u64, sectors: Range<u64>) {
        let seen = sectors.map(|sector| {
            let candidates = entry(&mut self.sectors, sector);
            let allowed = candidates.iter().map(|c| c.value).collect();
            let at_rest = candidates.iter().all(|c| c.ended.is_some());
            (sector, Seen { allowed, at_rest })
        });
        let seen = seen.collect();
        self.reads.insert(read, seen);
    }

    /// It showed `values`, from its first sector on. Err: the sector, what it showed, and what it
    /// might have.
    pub fn read_ends(&mut self, read: u64, values: &[u64]) -> Result<(), (u64, u64, Allowed)> {
        let seen = self.reads.remove(&read).unwrap_or_default();
        for ((sector, seen), &value) in seen.into_iter().zip(values) {
            if !seen.allowed.contains(&value) {
                return Err((sector, value, seen.allowed));
            }
            if seen.at_rest {
                entry(&mut self.sectors, sector).retain(|c| c.value == value);
            }
        }
        Ok(())
    }

    /// A snapshot is asked for.
    pub fn snapshot_begins(&mut self) {
        self.snapshot = Some(self.sectors.clone());
    }

    /// The snapshot is there: what it may show.
    pub fn snapshot_ends(&mut self) -> Volume {
        let mut sectors = self.snapshot.take().unwrap_or_default();
        for candidate in sectors.values_mut().flatten() {
            candidate.ended = Some(0);
        }
        Volume {
            sectors,
            ..Volume::default()
        }
    }

    /// A clone of this snapshot.
    pub fn cloned(&self) -> Volume {
        Volume {
            sectors: self.sectors.clone(),
            ..Volume::default()
        }
    }
}

/// All volumes, by name.
pub type Model = BTreeMap<String, Volume>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_value_replaces_the_older_ones() {
        let mut volume = Volume::default();
        volume.write_begins(0..1, 7);
        volume.read_begins(1, 0..1);
        volume.write_ends(0..1, 7);
        assert!(
            volume.read_ends(1, &[0]).is_ok(),
            "it began before the write was answered"
        );
        volume.read_begins(2, 0..1);
        assert!(volume.read_ends(2, &[0]).is_err());
    }

    #[test]
    fn a_sector_at_rest_does_not_change_its_mind() {
        let mut volume = Volume::default();
        volume.write_begins(0..1, 7);
        volume.snapshot_begins();
        let mut snapshot = volume.snapshot_ends();
        snapshot.read_begins(1, 0..1);
        assert!(snapshot.read_ends(1, &[7]).is_ok());
        snapshot.read_begins(2, 0..1);
        assert!(snapshot.read_ends(2, &[0]).is_err());
    }
}
