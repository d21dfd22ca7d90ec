//! What the holder holds: regions, bells and locks, and what they say about who sits where.

use super::holder::HolderError;
use super::wire::has;
use crate::bell::EventBells;
use crate::inbox::status;
use crate::layout::{RegionSpec, SEATS};
use crate::owner::OwnerLocks;
use crate::reclaim::{FIRST_CLIENT, is_peer};
use crate::segment::Segment;
use crate::sync::Ordering;
use crate::word::SeatNo;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Roles that a node can have: each has a seat of its own.
pub(super) const ROLES_MAX: u16 = FIRST_CLIENT;

fn system(what: &'static str) -> impl FnOnce(io::Error) -> HolderError {
    move |source| HolderError::System { what, source }
}

/// The regions and what goes with them.
pub(super) struct Table {
    pub(super) public: Segment,
    pub(super) private: Segment,
    pub(super) bells: EventBells,
    peers: OwnerLocks,
    clients: OwnerLocks,
}

impl Table {
    /// A new, empty table.
    pub(super) fn create(region: &RegionSpec, generation: u64) -> Result<Table, HolderError> {
        let private = RegionSpec::private(region);
        Ok(Table {
            public: Segment::create(*region, generation)?,
            private: Segment::create(private, generation)?,
            bells: EventBells::create(SEATS).map_err(system("can't make the bells"))?,
            peers: OwnerLocks::create().map_err(system("can't make the lock files"))?,
            clients: OwnerLocks::create().map_err(system("can't make the lock files"))?,
        })
    }

    /// What a returning peer offers; `None` when it is not all there or does not belong together.
    pub(super) fn adopt(
        region: &RegionSpec,
        generation: u64,
        offer: Vec<OwnedFd>,
    ) -> Option<Table> {
        if offer.len() != 4 + SEATS as usize {
            return None;
        }
        let mut offer = offer.into_iter();
        // Not by what the regions say of themselves: a client may have scribbled on that.
        let private_region = RegionSpec::private(region);
        let public = Segment::from_parts(offer.next()?, *region, generation).ok()?;
        let private = Segment::from_parts(offer.next()?, private_region, generation).ok()?;
        let peers = OwnerLocks::from_file(offer.next()?.into());
        let clients = OwnerLocks::from_file(offer.next()?.into());
        Some(Table {
            public,
            private,
            bells: EventBells::from_descriptors(offer.collect()),
            peers,
            clients,
        })
    }

    pub(super) fn locks(&self, seat: SeatNo) -> &OwnerLocks {
        if is_peer(seat) {
            &self.peers
        } else {
            &self.clients
        }
    }

    /// An error counts as alive: a seat is not given away on a doubt.
    pub(super) fn is_alive(&self, seat: SeatNo) -> bool {
        self.locks(seat).is_alive(seat).unwrap_or(true)
    }

    pub(super) fn segments(&self) -> [&Segment; 2] {
        [&self.public, &self.private]
    }

    /// The descriptors that `bits` of [`has`] promise, in their order.
    pub(super) fn descriptors(&self, bits: u32, own: Option<&File>) -> Vec<RawFd> {
        let has = |bit| bits & bit != 0;
        let mut all = Vec::new();
        if has(has::PUBLIC) {
            all.push(self.public.descriptor().as_raw_fd());
        }
        if has(has::PRIVATE) {
            all.push(self.private.descriptor().as_raw_fd());
        }
        if has(has::LOCKS) {
            all.push(self.peers.file().as_raw_fd());
            all.push(self.clients.file().as_raw_fd());
        }
        all.extend(own.filter(|_| has(has::OWN)).map(|own| own.as_raw_fd()));
        if has(has::BELLS) {
            all.extend(self.bells.descriptors());
        }
        all
    }

    /// Writes down who sits at `seat` from now on. A client's seat starts with an empty inbox; a
    /// peer's goes on where its predecessor was.
    pub(super) fn introduce(&self, seat: SeatNo, pid: i32, name: &[u8]) {
        let segments = self.segments();
        // A client has no place in the private region.
        let theirs = if is_peer(seat) {
            &segments[..]
        } else {
            &segments[..1]
        };
        for member in theirs.iter().filter_map(|s| s.member(seat)) {
            if !is_peer(seat) {
                member.head.store(0, Ordering::SeqCst);
                member.rescan.store(0, Ordering::SeqCst);
            }
            member.describe(pid as u32, start_time(pid), name);
            member.status.store(status::ALIVE, Ordering::SeqCst);
        }
    }

    /// Who sits (or sat) at `seat` as an adopted segment says: name and ports. A peer's comes
    /// from the private region, which no client can reach.
    pub(super) fn describe(&self, seat: SeatNo) -> Option<(String, (u32, u32))> {
        let segment = if is_peer(seat) {
            &self.private
        } else {
            &self.public
        };
        let member = segment.member(seat)?;
        if member.status.load(Ordering::SeqCst) == status::EMPTY {
            return None;
        }
        let mine = |port: &u32| segment.seat_of_port(*port) == Some(seat);
        let count = segment.layout().spec.ports;
        let (first, last) = ((0..count).find(mine), (0..count).rfind(mine));
        // A range without ports if it bound none.
        let ports = first.zip(last).unwrap_or((1, 0));
        Some((member.display_name(), ports))
    }
}

/// Start of a process in clock ticks after boot (field 22 of /proc/PID/stat); 0 if unknown.
fn start_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field, the command in parentheses, may hold blanks.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after
        .split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}
