//! The table inside one process: no sockets, no locks, the same regions and seats. For the
//! embedded node and for tests.

use crate::bell::{Bells, EventBells};
use crate::inbox::status;
use crate::layout::{RegionSpec, SEATS};
use crate::reclaim::{self, FIRST_CLIENT, Swept};
use crate::seat::Seat;
use crate::segment::{Segment, SegmentError};
use crate::sync::Ordering;
use crate::word::SeatNo;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Deals out seats in one process. Clones share the table.
#[derive(Clone)]
pub struct Local {
    public: Segment,
    private: Segment,
    bells: Arc<dyn Bells>,
    seated: Arc<Mutex<Seated>>,
}

#[derive(Default)]
struct Seated {
    roles: HashMap<String, SeatNo>,
    /// Clients' seats that somebody sits at, or that have leftovers.
    clients: HashMap<SeatNo, Sits>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sits {
    There,
    Left,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl Local {
    /// A new table with real bells.
    pub fn new(spec: RegionSpec) -> Result<Local, SegmentError> {
        let bells = EventBells::create(SEATS).map_err(|source| SegmentError::System {
            what: "can't make the bells",
            source,
        })?;
        Local::with_bells(spec, Arc::new(bells))
    }

    /// A new table with bells of the caller's own (a simulation's).
    pub fn with_bells(spec: RegionSpec, bells: Arc<dyn Bells>) -> Result<Local, SegmentError> {
        Ok(Local {
            public: Segment::create(spec, 1)?,
            private: Segment::create(RegionSpec::private(&spec), 1)?,
            bells,
            seated: Arc::default(),
        })
    }

    /// The region that clients and peers share.
    pub fn public(&self) -> &Segment {
        &self.public
    }

    /// The peers' own region.
    pub fn private(&self) -> &Segment {
        &self.private
    }

    /// The bells.
    pub fn bells(&self) -> &Arc<dyn Bells> {
        &self.bells
    }

    fn seated(&self) -> MutexGuard<'_, Seated> {
        // Nothing is done under the lock that could leave the maps half changed.
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seat of a role; asked for again (a restarted peer), the same one, and the caller
    /// recovers. At most 16 roles: ENOSPC.
    pub fn peer_seat(&self, role: &str) -> io::Result<Seat> {
        let no = {
            let mut seated = self.seated();
            let next = SeatNo(seated.roles.len() as u16);
            let known = seated.roles.get(role).copied();
            if known.is_none() && next.0 >= FIRST_CLIENT {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            *seated.roles.entry(role.to_owned()).or_insert(next)
        };
        for segment in [&self.public, &self.private] {
            introduce(segment, no, role);
        }
        Ok(self.sit(no, true))
    }

    /// A client's seat, to be given back by [`Local::leave`]. EAGAIN: all are taken.
    pub fn client_seat(&self, name: &str) -> io::Result<Seat> {
        let mut seated = self.seated();
        self.sweep_left(&mut seated);
        let no = (FIRST_CLIENT..SEATS as u16)
            .map(SeatNo)
            .find(|no| !seated.clients.contains_key(no))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EAGAIN))?;
        seated.clients.insert(no, Sits::There);
        reclaim::clear_member(&self.public, no);
        introduce(&self.public, no, name);
        Ok(self.sit(no, false))
    }

    fn sit(&self, no: SeatNo, peer: bool) -> Seat {
        let private = peer.then(|| self.private.clone());
        Seat::new(no, self.public.clone(), private, self.bells.clone(), None)
    }

    /// A client is done with its seat: frees everything of it that no server works on, and
    /// unbinds its ports. What servers still work on is freed when they answer, and the seat is
    /// dealt again only then.
    pub fn leave(&self, seat: Seat) -> Swept {
        let no = seat.no();
        drop(seat);
        self.reclaim(no)
    }

    /// The same by number, for a client whose seat was dropped without [`Local::leave`].
    pub fn reclaim(&self, no: SeatNo) -> Swept {
        let mut seated = self.seated();
        let Some(sits) = seated.clients.get_mut(&no) else {
            return Swept::default();
        };
        *sits = Sits::Left;
        reclaim::mark_dead(&[&self.public], no);
        let swept = self.sweep(&mut seated, no);
        drop(seated);
        self.alarm();
        swept
    }

    /// Everybody looks at every slot: after a seat was dropped in the middle of something.
    pub fn alarm(&self) {
        let living = |seat: SeatNo| {
            self.public
                .member(seat)
                .is_some_and(|m| m.status.load(Ordering::SeqCst) == status::ALIVE)
        };
        reclaim::alarm(&[&self.public, &self.private], &*self.bells, &living);
    }

    /// Under the lock, so that no seat is swept after it was dealt again.
    fn sweep(&self, seated: &mut Seated, no: SeatNo) -> Swept {
        let swept = reclaim::sweep(&self.public, &*self.bells, &|s| s == no);
        if swept.is_clean() {
            reclaim::clear_member(&self.public, no);
            seated.clients.remove(&no);
        }
        swept
    }

    fn sweep_left(&self, seated: &mut Seated) {
        let left = |(no, sits): (&SeatNo, &Sits)| (*sits == Sits::Left).then_some(*no);
        let all: Vec<SeatNo> = seated.clients.iter().filter_map(left).collect();
        for no in all {
            self.sweep(seated, no);
        }
    }
}

fn introduce(segment: &Segment, no: SeatNo, name: &str) {
    if let Some(member) = segment.member(no) {
        member.describe(std::process::id(), 0, name.as_bytes());
    }
}
