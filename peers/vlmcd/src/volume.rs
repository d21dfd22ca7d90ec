//! A volume's record: what is known of it, who works on it, who waits.

use crate::blockmap::BlockMap;
use runtime::{LeaseTerm, volume_tag};
use std::collections::VecDeque;
use std::ops::Range;
use xseg::{Answer, Incoming, Name, Request};

/// A volume, as long as somebody works on it or something of it is kept.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) name: Name,
    pub(crate) tag: u32,
    /// The lease under which `map` is known, 0 for none.
    pub(crate) lease: u64,
    term: LeaseTerm,
    /// The newest lease of which anything was learnt, as long as this record lives.
    newest: u64,
    /// Bytes; known under a lease.
    pub(crate) size: u64,
    /// Bytes; known under a lease.
    pub(crate) block_size: u64,
    /// Mapperd said that it is a snapshot; only while something of the map is known.
    pub(crate) readonly: bool,
    pub(crate) map: BlockMap,
    /// Requests under way.
    pub(crate) active: u32,
    /// A freezer waits or runs: nobody else starts.
    pub(crate) frozen: bool,
    /// Data that was answered and not made durable may be about. True at first: a predecessor's.
    pub(crate) dirty_data: bool,
    /// The same for map entries.
    pub(crate) dirty_map: bool,
    /// Syncs of data under way: what they cover is not durable yet, so a flush that comes now
    /// must not believe `dirty_data`.
    pub(crate) data_syncs: u32,
    /// The same for map entries.
    pub(crate) map_syncs: u32,
    /// Who waits for a freezer, an overlapping write or the scout, oldest first.
    pub(crate) waiting: VecDeque<(Incoming, Request)>,
    /// The one change that is under way although no lease is known: perhaps another node has the
    /// volume.
    pub(crate) scout: Option<u32>,
    /// When last asked, another node had it.
    pub(crate) elsewhere: bool,
    writes: Vec<(u32, Range<u64>)>,
}

impl Volume {
    pub(crate) fn new(name: Name, term: LeaseTerm) -> Volume {
        Volume {
            name,
            tag: volume_tag(&name),
            lease: 0,
            term,
            newest: 0,
            size: 0,
            block_size: 0,
            readonly: false,
            map: BlockMap::default(),
            active: 0,
            frozen: false,
            dirty_data: true,
            dirty_map: true,
            data_syncs: 0,
            map_syncs: 0,
            waiting: VecDeque::new(),
            scout: None,
            elsewhere: false,
            writes: Vec::new(),
        }
    }

    /// Takes over what mapperd says besides the segments.
    ///
    /// The volume's lease is the oldest of those under which its known blocks were learnt: a fence
    /// may lie between two grants, and then the blocks of the older one must not be written under
    /// the newer. False: the answer is older than what is known already, and nothing is learnt
    /// from it: a block that it shows in one object may have been copied up to another since.
    pub(crate) fn lease_granted(&mut self, answer: &Answer, now: u64) -> bool {
        let block_size = u64::from(answer.block_size);
        if answer.lease == 0 || block_size == 0 {
            self.forget_map();
            return true;
        }
        if answer.lease < self.newest {
            return false;
        }
        self.newest = answer.lease;
        if block_size != self.block_size || !self.lease_is_good(now) {
            self.forget_map();
        }
        self.lease = match self.lease {
            0 => answer.lease,
            older => older.min(answer.lease),
        };
        self.size = answer.volume_size;
        self.block_size = block_size;
        true
    }

    /// Whether what is kept of the map may still be used.
    pub(crate) fn lease_is_good(&self, now: u64) -> bool {
        self.lease != 0 && self.term.end(self.lease) > now
    }

    /// Drops what is known of the map.
    pub(crate) fn forget_map(&mut self) {
        self.lease = 0;
        self.readonly = false;
        self.map.clear();
    }

    /// Whether `range` overlaps a write under way.
    pub(crate) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.writes
            .iter()
            .any(|(_, w)| w.start < range.end && range.start < w.end)
    }

    /// Notes that operation `op` writes `range`.
    pub(crate) fn write_starts(&mut self, op: u32, range: Range<u64>) {
        self.writes.push((op, range));
    }

    /// Operation `op` is over.
    pub(crate) fn write_ends(&mut self, op: u32) {
        if let Some(at) = self.writes.iter().position(|(o, _)| *o == op) {
            self.writes.swap_remove(at);
        }
    }

    /// Whether nothing is lost when the record goes.
    pub(crate) fn is_idle(&self) -> bool {
        self.active == 0 && !self.frozen && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: LeaseTerm = LeaseTerm::from_secs(2);

    #[test]
    fn writes_that_touch_do_not_overlap() {
        let mut volume = Volume::new(Name::try_from("volume").unwrap(), TERM);
        volume.write_starts(1, 4096..8192);
        assert!(!volume.overlaps(&(0..4096)));
        assert!(!volume.overlaps(&(8192..9000)));
        assert!(volume.overlaps(&(8191..9000)));
        assert!(volume.overlaps(&(0..10000)));
        volume.write_ends(1);
        assert!(!volume.overlaps(&(0..10000)));
    }

    /// Two answers of mapperd were under way while a snapshot fenced the volume in between. Were
    /// the newer lease kept for both, a block learnt before the fence would be written in place,
    /// though the snapshot shares it by now.
    #[test]
    fn the_oldest_lease_counts() {
        let mut volume = Volume::new(Name::try_from("volume").unwrap(), TERM);
        let answer = |lease| Answer {
            lease,
            block_size: 4096,
            ..Answer::default()
        };
        assert!(volume.lease_granted(&answer(10), 10));
        assert!(volume.lease_granted(&answer(12), 12));
        assert_eq!(volume.lease, 10);
        let aged = TERM.end(10);
        assert!(volume.lease_is_good(aged - 1));
        assert!(volume.lease_granted(&answer(aged), aged));
        assert_eq!(volume.lease, aged, "an aged lease takes its blocks along");
    }

    /// A MAPR's answer that was overtaken by a copy-up's was learnt last, and reads went to the
    /// object of before the copy-up.
    #[test]
    fn an_overtaken_answer_is_not_learnt() {
        let mut volume = Volume::new(Name::try_from("volume").unwrap(), TERM);
        let answer = |lease| Answer {
            lease,
            block_size: 4096,
            ..Answer::default()
        };
        assert!(volume.lease_granted(&answer(12), 12));
        assert!(!volume.lease_granted(&answer(11), 13));
        volume.forget_map();
        assert!(!volume.lease_granted(&answer(11), 13));
    }
}
