//! Latencies, counted without allocating.
//!
//! ```text
//! ns below 64: one bucket each; above: 32 buckets for each power of two, so at most 3% too wide
//! ```
//! Recording is a shift, an add and one increment in 15 KiB that stay in the cache.

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// Powers of two above the linear part; the last bucket takes everything longer.
const BUCKETS: usize = 2 * SUB + (64 - SUB_BITS as usize - 1) * SUB;

/// A histogram of nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }
}

fn bucket(ns: u64) -> usize {
    let bits = 64 - ns.leading_zeros();
    if bits <= SUB_BITS + 1 {
        return ns as usize;
    }
    let shift = bits - SUB_BITS - 1;
    shift as usize * SUB + (ns >> shift) as usize
}

/// The middle of what a bucket takes, ns.
fn middle(bucket: usize) -> f64 {
    if bucket < 2 * SUB {
        return bucket as f64;
    }
    let shift = bucket / SUB - 1;
    let low = ((bucket % SUB + SUB) as f64) * (shift as f64).exp2();
    low + ((shift as f64).exp2() - 1.0) / 2.0
}

impl Histogram {
    /// Counts one latency.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Counts everything that `other` counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// The latency that `q` (0 to 1) of all do not exceed, in ns; 0 when nothing was counted.
    pub fn quantile(&self, q: f64) -> f64 {
        let wanted = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (at, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle(at);
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_latency_comes_back_within_two_percent(ns in any::<u64>()) {
            let mut one = Histogram::default();
            one.record(ns);
            let back = one.quantile(0.5);
            prop_assert!((back - ns as f64).abs() <= ns as f64 * 0.02, "{ns} came back as {back}");
        }

        #[test]
        fn buckets_are_ordered(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(bucket(a.min(b)) <= bucket(a.max(b)), true);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_latencies() {
        let mut all = Histogram::default();
        (1..=1000).rev().for_each(|us| all.record(us * 1000));
        for (q, us) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let found = all.quantile(q) / 1000.0;
            assert!((found - us).abs() / us < 0.02, "{q}: {found}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0.0);
    }

    #[test]
    fn merging_adds_up() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.record(10);
        b.record(30);
        b.record(31);
        a.merge(&b);
        assert_eq!(
            (a.count(), a.quantile(0.0), a.quantile(1.0)),
            (3, 10.0, 31.0)
        );
    }
}
