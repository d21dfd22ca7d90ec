//! Port numbers of a segment, and the ranges that peers bind.
//!
//! Static ports are `0..dynports`, dynamic ones `dynports..ports`. A range is never empty and
//! its ends are inclusive, as `portno_start` and `portno_end` are.

use std::fmt;

/// The number of a port in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortNo(pub u32);

impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The ports that one peer binds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    start: PortNo,
    end: PortNo,
}

impl PortRange {
    /// The ports from `start` to `end`, both included; `None` when `start` lies after `end`.
    pub fn new(start: PortNo, end: PortNo) -> Option<PortRange> {
        (start <= end).then_some(PortRange { start, end })
    }

    /// A range of one port.
    pub fn single(port: PortNo) -> PortRange {
        PortRange {
            start: port,
            end: port,
        }
    }

    /// The first port: the one that others send to, and that holds the wake-up channel.
    pub fn start(self) -> PortNo {
        self.start
    }

    /// The last port.
    pub fn end(self) -> PortNo {
        self.end
    }

    /// Whether `port` lies in the range.
    pub fn contains(self, port: PortNo) -> bool {
        self.start <= port && port <= self.end
    }

    /// Whether the two ranges share a port.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Every port of the range, in order.
    pub fn iter(self) -> impl Iterator<Item = PortNo> {
        (self.start.0..=self.end.0).map(PortNo)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u32, end: u32) -> PortRange {
        PortRange::new(PortNo(start), PortNo(end)).unwrap()
    }

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(PortRange::new(PortNo(2), PortNo(1)), None);
        assert_eq!(range(1, 1), PortRange::single(PortNo(1)));
        assert_eq!(range(3, 5).iter().count(), 3);
    }

    #[test]
    fn overlap_counts_both_ends() {
        assert!(range(1, 3).overlaps(range(3, 9)));
        assert!(range(3, 9).overlaps(range(1, 3)));
        assert!(range(1, 9).overlaps(range(4, 5)));
        assert!(!range(1, 3).overlaps(range(4, 9)));
    }
}
