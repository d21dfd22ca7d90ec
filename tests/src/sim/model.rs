//! What a reader may see: for each sector of each volume, the values that are allowed.
//!
//! A sector is 512 bytes, all written with one 8-byte value. Under process deaths nothing that was
//! answered is lost, so a sector may show the value acknowledged last, or any value whose write is
//! unanswered or was unanswered at some moment since then. A snapshot may show, for each sector,
//! what was allowed at some moment between its request and its answer; from its first read on it
//! always shows the same.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a sector of the model.
pub const SECTOR: u64 = 512;

/// The values that a sector may show; 0 is a sector never written.
pub type Allowed = BTreeSet<u64>;

/// One volume.
#[derive(Debug, Clone, Default)]
pub struct Volume {
    sectors: BTreeMap<u64, Allowed>,
    /// Sectors under an unanswered write: how many writes of each value.
    open: BTreeMap<u64, Vec<u64>>,
    /// What sectors without an entry show: a clone's parent, or zeros.
    frozen: bool,
}

impl Volume {
    /// A blank volume.
    pub fn blank() -> Volume {
        Volume::default()
    }

    fn allowed(&self, sector: u64) -> Allowed {
        self.sectors.get(&sector).cloned().unwrap_or_else(|| Allowed::from([0]))
    }

    /// A write of `value` to `sectors` begins.
    pub fn write_begins(&mut self, sectors: std::ops::Range<u64>, value: u64) {
        for sector in sectors {
            let mut allowed = self.allowed(sector);
            allowed.insert(value);
            self.sectors.insert(sector, allowed);
            self.open.entry(sector).or_default().push(value);
        }
    }

    /// It was acknowledged: older values are gone, but for those of writes still open.
    pub fn write_ends(&mut self, sectors: std::ops::Range<u64>, value: u64) {
        for sector in sectors {
            let open = self.open.entry(sector).or_default();
            if let Some(at) = open.iter().position(|v| *v == value) {
                open.swap_remove(at);
            }
            let mut allowed: Allowed = open.iter().copied().collect();
            allowed.insert(value);
            self.sectors.insert(sector, allowed);
        }
    }

    /// A reader saw `value`. Err: it may not.
    pub fn seen(&mut self, sector: u64, value: u64) -> Result<(), Allowed> {
        let allowed = self.allowed(sector);
        if !allowed.contains(&value) {
            return Err(allowed);
        }
        if self.frozen {
            self.sectors.insert(sector, Allowed::from([value]));
        }
        Ok(())
    }

    /// Also allows what `later` allows: a snapshot's freeze is somewhere in between.
    pub fn widen(&mut self, later: &Volume) {
        for (sector, allowed) in &later.sectors {
            let mut both = self.allowed(*sector);
            both.extend(allowed);
            self.sectors.insert(*sector, both);
        }
    }

    /// What a snapshot, or a clone of one, begins with: the same, and nobody writes.
    pub fn frozen(&self) -> Volume {
        Volume { sectors: self.sectors.clone(), open: BTreeMap::new(), frozen: true }
    }

    /// A writable copy of a snapshot.
    pub fn thawed(&self) -> Volume {
        Volume { frozen: false, ..self.clone() }
    }
}

/// All volumes.
pub type Model = BTreeMap<String, Volume>;
