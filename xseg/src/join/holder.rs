//! The holder's side: a table of seats, driven by its owner's poll loop.
//!
//! What always holds:
//! - A seat is dealt only with its lock held by a description made for it, so there is no moment
//!   at which a seat is taken but looks dead.
//! - A seat is dead when its lock is free; the end of its connection is only the hint to look.
//! - Peers' seats (0 to 15) belong to roles for the life of the segment and are never swept;
//!   clients' seats are dealt again when nothing of their last owner is left.
//! - Clients get a lock file apart from the peers', so none can make a peer look alive.

use super::adopt::{Early, await_offer};
use super::socket::{self, Credentials};
use super::table::{ROLES_MAX, Table};
use super::wire::{Answer, BadMessage, Hello, SeatSet};
use crate::bell::EventBells;
use crate::layout::{RegionSpec, SEATS};
use crate::reclaim::{self, is_peer};
use crate::segment::{Segment, SegmentError};
use crate::word::SeatNo;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a connection may be silent before its hello.
pub(super) const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Connections at a time, those of observers and of strangers included.
const CONNECTIONS_MAX: usize = 1024;
/// How soon to look again at a seat whose connection ended while its lock is held, and how late
/// at most; in between a quarter of the time since.
const ORPHAN_LOOK: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(200)];
/// The same for what a dead client left with a server.
const SWEEP_AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
const LISTENER: u64 = 0;
/// Longest hello, bytes.
pub(super) const HELLO_MAX: usize = 512;

/// What a holder is made of.
#[derive(Clone, Debug)]
pub struct HolderSpec {
    /// The public region; the private one follows from it.
    pub region: RegionSpec,
    /// Where to listen: `RUN_DIR/NAME.sock`.
    pub socket: PathBuf,
    /// Taken from the socket's permissions 0660.
    pub umask: u32,
    /// Members of this group may join as clients.
    pub group: Option<u32>,
    /// Tells this life of the node from others (its start in nanoseconds, say).
    pub generation: u64,
    /// How long to wait for living peers that offer the segment of a holder that crashed, before
    /// a new one is made; `None` makes a new one at once. To be set only when a holder crashed:
    /// where nobody has anything to offer, all of it is waited.
    pub adopt_within: Option<Duration>,
}

/// Why there is no holder.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// Somebody listens at the socket already.
    #[error("another Archipelago listens at {}", .0.display())]
    Taken(PathBuf),
    /// No region.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A system call failed.
    #[error("{what}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> HolderError {
    move |source| HolderError::System { what, source }
}

/// Something that happened at the table, for the log and for whoever restarts peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody sat down.
    Joined {
        /// Where.
        seat: SeatNo,
        /// Role of a peer, name of a client (escaped).
        name: String,
        /// Its process, as the kernel says.
        pid: i32,
    },
    /// A seat's owner is dead or gone.
    Died {
        /// Whose.
        seat: SeatNo,
        /// Role of a peer, name of a client (escaped).
        name: String,
        /// What was swept of a client.
        swept: Option<reclaim::Swept>,
    },
    /// Nothing is left of a client that died; its seat can be dealt again.
    Cleared {
        /// Which.
        seat: SeatNo,
    },
    /// Somebody was not let in.
    Refused {
        /// The sentence that it was told.
        text: String,
        /// Its process, as the kernel says.
        pid: i32,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    Empty,
    /// Somebody sits here; the number is that of its connection.
    Taken(Sitter, u64),
    /// Its connection ended then, its lock is held (or it came with an adopted segment).
    Orphan(Sitter, Instant),
    /// Its owner died then; servers still hold requests of it, or it waits for a successor.
    Dead(Sitter, Instant),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Sitter {
    pub(super) name: String,
    /// First and last port.
    pub(super) ports: (u32, u32),
}

impl Place {
    pub(super) fn sitter(&self) -> Option<&Sitter> {
        match self {
            Place::Empty => None,
            Place::Taken(s, _) | Place::Orphan(s, _) | Place::Dead(s, _) => Some(s),
        }
    }

    pub(super) fn is_occupied(&self) -> bool {
        matches!(self, Place::Taken(..) | Place::Orphan(..))
    }
}

pub(super) struct Guest {
    pub(super) socket: OwnedFd,
    pub(super) who: Credentials,
    since: Instant,
    said_hello: bool,
}

/// Holds a segment and hands it out.
pub struct Holder {
    pub(super) spec: HolderSpec,
    pub(super) table: Table,
    pub(super) places: Vec<Place>,
    pub(super) guests: HashMap<u64, Guest>,
    next_guest: u64,
    listener: OwnedFd,
    epoll: Epoll,
    pub(super) uid: u32,
    pub(super) notices: Vec<Notice>,
    /// The socket file, to remove no other than ours.
    inode: u64,
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder")
            .field("spec", &self.spec)
            .field("guests", &self.guests.len())
            .finish_non_exhaustive()
    }
}

fn patience(since: Instant, [soon, late]: [Duration; 2]) -> Duration {
    (since.elapsed() / 4).clamp(soon, late)
}

impl Holder {
    /// Listens, and makes the segment or takes it back from a living peer.
    pub fn new(spec: HolderSpec) -> Result<Holder, HolderError> {
        socket::raise_descriptor_limit().map_err(system("can't raise the limit of open files"))?;
        let mode = 0o660 & !spec.umask;
        let listener = socket::listen(&spec.socket, mode).map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => HolderError::Taken(spec.socket.clone()),
            _ => system("can't listen for those who join the segment")(e),
        })?;
        let inode = own_socket(&spec).map_err(system("can't set up the segment's socket"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .and_then(|epoll| {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
                epoll.add(&listener, event).map(|()| epoll)
            })
            .map_err(|e| system("can't make an epoll")(e.into()))?;
        let (adopted, early) = match spec.adopt_within {
            Some(within) => await_offer(&spec, listener.as_fd(), within),
            None => (None, Vec::new()),
        };
        let table = match adopted {
            Some(table) => table,
            None => Table::create(&spec.region, spec.generation)?,
        };
        let mut holder = Holder {
            spec,
            table,
            places: vec![Place::Empty; SEATS as usize],
            guests: HashMap::new(),
            next_guest: LISTENER + 1,
            listener,
            epoll,
            uid: nix::unistd::geteuid().as_raw(),
            notices: Vec::new(),
            inode,
        };
        holder.seat_survivors();
        for (socket, hello) in early {
            holder.admit(socket, Some(hello));
        }
        Ok(holder)
    }

    /// Becomes readable when [`Holder::turn`] has something to do.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// When [`Holder::turn`] wants to be called at the latest, descriptor or not; `None`: never.
    pub fn patience(&self) -> Option<Duration> {
        let places = self.places.iter().enumerate();
        let looks = places.filter_map(|(seat, place)| match place {
            Place::Orphan(_, since) => Some(patience(*since, ORPHAN_LOOK)),
            Place::Dead(_, since) if !is_peer(SeatNo(seat as u16)) => {
                Some(patience(*since, SWEEP_AGAIN))
            }
            _ => None,
        });
        let silent = self.guests.values().filter(|g| !g.said_hello);
        let hellos = silent.map(|g| HELLO_WITHIN.saturating_sub(g.since.elapsed()));
        looks.chain(hellos).min()
    }

    /// Does what there is to do without waiting, and says what happened.
    pub fn turn(&mut self) -> io::Result<Vec<Notice>> {
        self.run_once(Some(Duration::ZERO))
    }

    /// The same, but waits at most `timeout` (`None`: as long as it takes) until there is
    /// something to do.
    pub fn run_once(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Notice>> {
        let wait = [timeout, self.patience()].into_iter().flatten().min();
        let wait = match wait {
            // Rounded up to whole milliseconds, or a short wait would spin.
            Some(d) => i32::try_from(d.as_micros().div_ceil(1000))
                .ok()
                .and_then(|ms| EpollTimeout::try_from(ms).ok())
                .unwrap_or(EpollTimeout::MAX),
            None => EpollTimeout::NONE,
        };
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, wait) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept()?,
                guest => self.hear(guest),
            }
        }
        self.look_again();
        Ok(std::mem::take(&mut self.notices))
    }

    /// The region that clients and peers share.
    pub fn public(&self) -> &Segment {
        &self.table.public
    }

    /// The peers' own region.
    pub fn private(&self) -> &Segment {
        &self.table.private
    }

    /// The bells.
    pub fn bells(&self) -> &EventBells {
        &self.table.bells
    }

    /// Which seats' owners live.
    pub fn alive(&self) -> SeatSet {
        (0..SEATS as u16)
            .map(SeatNo)
            .filter(|&s| self.may_live(s))
            .collect()
    }

    /// The seat of a role, and whether its owner lives.
    pub fn role(&self, role: &str) -> Option<(SeatNo, bool)> {
        let seat = self.seat_of_role(role)?;
        Some((seat, self.may_live(seat)))
    }

    pub(super) fn place(&self, seat: SeatNo) -> &Place {
        &self.places[usize::from(seat.0)]
    }

    pub(super) fn seat_of_role(&self, role: &str) -> Option<SeatNo> {
        (0..ROLES_MAX)
            .map(SeatNo)
            .find(|&seat| self.place(seat).sitter().is_some_and(|s| s.name == role))
    }

    /// Fills the table from what an adopted segment says; a new one says nothing.
    fn seat_survivors(&mut self) {
        let now = Instant::now();
        for seat in (0..SEATS as u16).map(SeatNo) {
            let alive = self.table.is_alive(seat);
            let sitter = self
                .table
                .describe(seat)
                .map(|(name, ports)| Sitter { name, ports });
            let sitter = match (sitter, alive) {
                (Some(sitter), _) => sitter,
                (None, true) => Sitter::default(),
                (None, false) => continue,
            };
            self.places[usize::from(seat.0)] = Place::Orphan(sitter, now);
        }
        self.look_again();
    }

    // ---- connections ----

    fn accept(&mut self) -> io::Result<()> {
        while let Some(socket) = socket::accept(self.listener.as_fd())? {
            self.admit(socket, None);
        }
        Ok(())
    }

    fn admit(&mut self, socket: OwnedFd, hello: Option<Early>) {
        if self.guests.len() >= CONNECTIONS_MAX {
            return;
        }
        let Ok(who) = socket::credentials(socket.as_fd()) else {
            return;
        };
        let id = self.next_guest;
        self.next_guest += 1;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, id);
        if self.epoll.add(&socket, event).is_err() {
            return;
        }
        let guest = Guest {
            socket,
            who,
            since: Instant::now(),
            said_hello: false,
        };
        self.guests.insert(id, guest);
        if let Some(message) = hello {
            self.respond(id, &message);
        }
    }

    fn hear(&mut self, id: u64) {
        let Some(guest) = self.guests.get(&id) else {
            return;
        };
        match socket::receive(guest.socket.as_fd(), HELLO_MAX) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Ok((bytes, _offer)) if !bytes.is_empty() => self.respond(id, &bytes),
            _ => self.part(id),
        }
    }

    fn respond(&mut self, id: u64, message: &[u8]) {
        let (mut answer, own) = match Hello::decode(message) {
            Ok(hello) => self.consider(id, &hello),
            Err(e @ BadMessage::Version(_)) => {
                (Answer::refused(libc::EPROTONOSUPPORT, e.to_string()), None)
            }
            Err(e) => (Answer::refused(libc::EPROTO, e.to_string()), None),
        };
        let Some(guest) = self.guests.get_mut(&id) else {
            return;
        };
        guest.said_hello = true;
        answer.generation = self.table.public.generation();
        answer.region = Some(self.table.public.layout().spec);
        let descriptors = self.table.descriptors(answer.has, own.as_ref());
        let sent = socket::send(guest.socket.as_fd(), &answer.encode(), &descriptors);
        let pid = guest.who.pid;
        // The seat's lock is the joiner's alone from here on.
        drop(own);
        if answer.errno != 0 {
            let text = answer.text;
            self.notices.push(Notice::Refused { text, pid });
        }
        let seated = self.seats_of(id).next().is_some();
        if sent.is_err() || (answer.errno != 0 && !seated) {
            self.part(id);
        }
    }

    pub(super) fn seats_of(&self, id: u64) -> impl Iterator<Item = SeatNo> + '_ {
        let places = self.places.iter().enumerate();
        places.filter_map(move |(seat, place)| {
            matches!(place, Place::Taken(_, by) if *by == id).then_some(SeatNo(seat as u16))
        })
    }

    /// A connection is over.
    fn part(&mut self, id: u64) {
        self.guests.remove(&id);
        let now = Instant::now();
        for place in &mut self.places {
            if let Place::Taken(sitter, by) = place
                && *by == id
            {
                *place = Place::Orphan(sitter.clone(), now);
            }
        }
    }

    // ---- deaths ----

    fn look_again(&mut self) {
        for seat in (0..SEATS as u16).map(SeatNo) {
            match self.place(seat) {
                Place::Orphan(..) if !self.table.is_alive(seat) => self.bury(seat),
                Place::Dead(..) if !is_peer(seat) => {
                    self.sweep(seat);
                }
                _ => {}
            }
        }
        let silent = |g: &Guest| !g.said_hello && g.since.elapsed() >= HELLO_WITHIN;
        self.guests.retain(|_, g| !silent(g));
    }

    pub(super) fn bury(&mut self, seat: SeatNo) {
        let Some(sitter) = self.place(seat).sitter().cloned() else {
            return;
        };
        let name = sitter.name.clone();
        reclaim::mark_dead(&self.table.segments(), seat);
        self.places[usize::from(seat.0)] = Place::Dead(sitter, Instant::now());
        let first = self.notices.len();
        let swept = (!is_peer(seat)).then(|| self.sweep(seat));
        let living = |s: SeatNo| self.place(s).is_occupied();
        reclaim::alarm(&self.table.segments(), &self.table.bells, &living);
        // Before the notice that nothing is left.
        self.notices
            .insert(first, Notice::Died { seat, name, swept });
    }

    /// Sweeps a dead client's seat, and empties it when nothing is left.
    fn sweep(&mut self, seat: SeatNo) -> reclaim::Swept {
        let swept = reclaim::sweep(&self.table.public, &self.table.bells, &|s| s == seat);
        if swept.is_clean() {
            reclaim::clear_member(&self.table.public, seat);
            self.places[usize::from(seat.0)] = Place::Empty;
            self.notices.push(Notice::Cleared { seat });
        }
        swept
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Only our own file: a successor may listen there already.
        let ours = std::fs::metadata(&self.spec.socket)
            .is_ok_and(|m| std::os::unix::fs::MetadataExt::ino(&m) == self.inode);
        if ours {
            // Gone already is as good.
            let _ = std::fs::remove_file(&self.spec.socket);
        }
    }
}

fn own_socket(spec: &HolderSpec) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    if let Some(group) = spec.group {
        std::os::unix::fs::chown(&spec.socket, None, Some(group))?;
    }
    Ok(std::fs::metadata(&spec.socket)?.ino())
}
