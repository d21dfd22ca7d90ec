//! Leases and fences: which data writes may still start, and which fences still wait.

use runtime::LeaseTerm;
use std::collections::HashMap;
use xseg::Incoming;

/// What is refused, for each volume tag.
#[derive(Debug)]
pub(crate) struct Fences {
    /// Leases older than this instance are refused: its predecessor's fences are not known.
    floor: u64,
    term: LeaseTerm,
    oldest: HashMap<u32, u64>,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    incoming: Incoming,
    tag: u32,
    lease: u64,
}

impl Fences {
    /// An instance that starts at `now`, ns; leases last for `term`.
    pub(crate) fn new(now: u64, term: LeaseTerm) -> Fences {
        Fences {
            floor: now,
            term,
            oldest: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Whether a data write under `lease` may start. One without a lease is a client's own.
    pub(crate) fn admits(&self, tag: u32, lease: u64, now: u64) -> bool {
        if tag == 0 || lease == 0 {
            return true;
        }
        lease >= self.floor
            && self.term.end(lease) >= now
            && self.oldest.get(&tag).is_none_or(|&oldest| lease >= oldest)
    }

    /// From now on nothing of `tag` older than `lease` starts; `incoming` waits for what is under
    /// way.
    pub(crate) fn raise(&mut self, incoming: Incoming, tag: u32, lease: u64) {
        let oldest = self.oldest.entry(tag).or_default();
        *oldest = lease.max(*oldest);
        self.waiting.push(Waiting {
            incoming,
            tag,
            lease,
        });
    }

    /// Whether any fence waits.
    pub(crate) fn any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many fences wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out the fences that wait for nothing any more; `under_way(tag, lease)` says whether a
    /// write of that tag with an older lease is.
    pub(crate) fn settled(&mut self, under_way: impl Fn(u32, u64) -> bool) -> Vec<Incoming> {
        let (settled, waiting): (Vec<_>, Vec<_>) = self
            .waiting
            .drain(..)
            .partition(|w| !under_way(w.tag, w.lease));
        self.waiting = waiting;
        settled.into_iter().map(|w| w.incoming).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_good_only_between_start_and_age() {
        let term = LeaseTerm::from_secs(2);
        let fences = Fences::new(100, term);
        assert!(!fences.admits(1, 99, 100));
        assert!(fences.admits(1, 100, 100));
        assert!(fences.admits(1, 100, 100 + 2_000_000_000));
        assert!(!fences.admits(1, 100, 101 + 2_000_000_000));
        assert!(fences.admits(0, 0, 1), "a direct write knows no lease");
    }
}
