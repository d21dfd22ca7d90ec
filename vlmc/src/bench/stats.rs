//! Rates and percentiles.
//!
//! Latencies go into buckets of 1/16 of a power of two, so that a percentile is exact within 6%
//! and a run of any length takes the same memory.

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Buckets for each power of two, as a shift.
const FINE: u32 = 4;
const BUCKETS: usize = 64 << FINE;

/// How often each latency was seen.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

fn bucket(ns: u64) -> usize {
    let exponent = ns.max(1).ilog2();
    match exponent.checked_sub(FINE) {
        None => ns as usize,
        Some(shift) => {
            let fine = (ns >> shift) as usize - (1 << FINE);
            (((shift + 1) as usize) << FINE) + fine
        }
    }
}

/// The largest latency of a bucket.
fn top(bucket: usize) -> u64 {
    let (shift, fine) = (bucket >> FINE, bucket & ((1 << FINE) - 1));
    match shift.checked_sub(1) {
        None => bucket as u64,
        Some(shift) => ((((1 << FINE) + fine as u128 + 1) << shift) - 1) as u64,
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            count: 0,
            sum_ns: 0,
            max_ns: 0,
        }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        let ns = latency.as_nanos() as u64;
        self.counts[bucket(ns)] += 1;
        self.count += 1;
        self.sum_ns += u128::from(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    fn percentile(&self, share: f64) -> f64 {
        let rank = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return us(top(bucket).min(self.max_ns));
            }
        }
        us(self.max_ns)
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// What came out of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) operation: String,
    pub(super) seed: u64,
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) wrong: u64,
    pub(super) seconds: f64,
    pub(super) iops: f64,
    pub(super) mib_per_s: f64,
    pub(super) mean_us: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

/// What [`Report::new`] needs to know of a run.
pub(super) struct Outcome {
    pub(super) operation: String,
    pub(super) seed: u64,
    pub(super) block: u64,
    pub(super) failed: u64,
    pub(super) wrong: u64,
    pub(super) elapsed: Duration,
    pub(super) latencies: Histogram,
}

impl Report {
    pub(super) fn new(outcome: Outcome) -> Report {
        let h = &outcome.latencies;
        let seconds = outcome.elapsed.as_secs_f64();
        let iops = h.count as f64 / seconds.max(1e-9);
        Report {
            operation: outcome.operation,
            seed: outcome.seed,
            requests: h.count,
            failed: outcome.failed,
            wrong: outcome.wrong,
            seconds,
            iops,
            mib_per_s: iops * outcome.block as f64 / f64::from(1 << 20),
            mean_us: h.sum_ns as f64 / 1000.0 / h.count.max(1) as f64,
            p50_us: h.percentile(0.5),
            p90_us: h.percentile(0.9),
            p99_us: h.percentile(0.99),
            p999_us: h.percentile(0.999),
            max_us: us(h.max_ns),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            operation,
            seed,
            requests,
            failed,
            wrong,
            seconds,
            ..
        } = self;
        writeln!(
            f,
            "{operation}, seed {seed}: {requests} requests in {seconds:.3} s"
        )?;
        writeln!(f, "  failed {failed}, wrong contents {wrong}")?;
        writeln!(
            f,
            "  {:.0} requests/s, {:.1} MiB/s",
            self.iops, self.mib_per_s
        )?;
        write!(
            f,
            "  latency in us: mean {:.1}, 50% {:.1}, 90% {:.1}, 99% {:.1}, 99.9% {:.1}, max {:.1}",
            self.mean_us, self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_hold_what_they_say() {
        let mut last = 0;
        for ns in (0..100_000).chain([u64::MAX / 2, u64::MAX]) {
            let b = bucket(ns);
            assert!(b >= last && b < BUCKETS && top(b) >= ns, "{ns}");
            assert!(b == 0 || top(b - 1) < ns, "{ns}");
            last = b;
        }
    }

    #[test]
    fn percentiles_are_close() {
        let mut h = Histogram::default();
        (1..=1000).for_each(|us| h.add(Duration::from_micros(us)));
        let near = |found: f64, right: f64| (found / right - 1.0).abs() < 0.07;
        assert!(near(h.percentile(0.5), 500.0) && near(h.percentile(0.99), 990.0));
        assert_eq!(h.percentile(1.0), 1000.0);
    }
}
