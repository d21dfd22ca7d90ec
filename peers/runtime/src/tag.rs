//! Volume tags and leases.
//!
//! A tag names a volume in the requests between peers. It is computed from the name, so that
//! every peer knows it without asking and none has to remember it across its death. Two volumes
//! may share a tag: they are then fenced and synced together, which costs time and breaks nothing.
//!
//! A lease is the moment (ns of the boot clock, or of the simulation) at which mapperd gave a
//! mapping away. A fence says "none older than T"; a blocker that has just started refuses every
//! lease older than itself, because it does not know which fences its predecessor held. So a
//! fence never has to survive anybody's death. A lease also ages: after its [`LeaseTerm`] it must be
//! asked for again, and mapperd looks at the volume's lock before it gives a new one.

use xseg::Name;

/// How long a lease is good for: the same in all peers of a node, as `lock_ttl` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseTerm(u64);

impl LeaseTerm {
    /// Half a minute, when nothing else is said.
    pub const DEFAULT: LeaseTerm = LeaseTerm::from_secs(30);

    /// So many seconds.
    pub const fn from_secs(seconds: u32) -> LeaseTerm {
        LeaseTerm(seconds as u64 * 1_000_000_000)
    }

    /// Its length, ns.
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// The last moment, ns, of a lease that was given at `lease`.
    pub const fn end(self, lease: u64) -> u64 {
        lease.saturating_add(self.0)
    }
}

/// The tag of a volume, never 0 (FNV-1a, folded).
pub fn volume_tag(volume: &Name) -> u32 {
    let hash = volume.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    ((hash >> 32) as u32 ^ hash as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_differ_and_are_never_none() {
        let a = volume_tag(&Name::try_from("volume-1").unwrap());
        let b = volume_tag(&Name::try_from("volume-2").unwrap());
        assert_ne!(a, b);
        assert_ne!(volume_tag(&Name::EMPTY), 0);
    }
}
