//! The joiner's side.

use super::socket;
use super::wire::{self, Answer, Hello, SeatSet, Wish, has};
use crate::bell::{Bells, EventBells};
use crate::layout::{RegionSpec, SEATS};
use crate::protocol::PortNo;
use crate::seat::Seat;
use crate::segment::{Segment, SegmentError};
use crate::word::SeatNo;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a process can't join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody holds a segment there.
    #[error("Archipelago is not running: nobody listens at {}", .0.display())]
    NotRunning(PathBuf),
    /// The holder said no.
    #[error("{text}")]
    Refused {
        /// Why, to match on.
        errno: i32,
        /// Why, to read.
        text: String,
    },
    /// Holder and joiner come from different versions.
    #[error("{0}")]
    OtherVersion(String),
    /// A system call failed.
    #[error("{what}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl JoinError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> JoinError {
        move |source| JoinError::System { what, source }
    }
}

impl From<SegmentError> for JoinError {
    fn from(e: SegmentError) -> JoinError {
        match e {
            SegmentError::OtherVersion { .. } => JoinError::OtherVersion(e.to_string()),
            SegmentError::System { what, source } => JoinError::System { what, source },
            other => JoinError::Refused {
                errno: libc::EPROTO,
                text: other.to_string(),
            },
        }
    }
}

/// As what a process joins.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// As a client, under a name for display (its first 32 bytes).
    Client {
        /// For display.
        name: &'a str,
    },
    /// As a peer that serves the ports `first..=last`. The seat belongs to the role.
    Peer {
        /// At most 32 bytes; the same role always gets the same seat.
        role: &'a str,
        /// First port that it will bind.
        first: PortNo,
        /// Last port that it will bind.
        last: PortNo,
    },
}

impl Kind<'_> {
    fn hello(&self) -> Hello {
        match *self {
            Kind::Client { name } => Hello::new(Wish::Client, name),
            Kind::Peer { role, first, last } => Hello {
                first,
                last,
                ..Hello::new(Wish::Peer, role)
            },
        }
    }
}

/// A seat, and the connection that keeps it.
#[derive(Debug)]
pub struct Joined {
    /// The place at the table. Ports are not bound yet; a peer recovers first.
    pub seat: Seat,
    /// To be kept as long as the seat is used.
    pub connection: Connection,
}

/// The connection to the holder. When it is dropped (or its process dies) and the seat with it,
/// the holder sweeps what is left.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    path: PathBuf,
    table: Table,
    seats: Vec<SeatNo>,
}

/// What a process needs to sit at the table.
#[derive(Debug)]
struct Table {
    public: Segment,
    private: Option<Segment>,
    bells: Arc<EventBells>,
    /// Peers only: the peers' locks and the clients' locks.
    locks: Option<(File, File)>,
}

/// What an observer sees.
#[derive(Debug)]
pub struct Observed {
    /// What clients and peers share.
    pub public: Segment,
    /// What the peers keep to themselves; only root and the node's own user see it.
    pub private: Option<Segment>,
    /// The bells, to wake whom a repair concerns.
    pub bells: EventBells,
    /// Who was alive when the holder answered.
    pub alive: SeatSet,
}

/// Joins the segment that is handed out at `path`. Waits at most 10 s for an answer.
pub fn connect(path: &Path, kind: Kind<'_>) -> Result<Joined, JoinError> {
    let (socket, answer, handed) = ask(path, &kind.hello())?;
    let table = Table {
        public: need(handed.public)?,
        private: handed.private,
        bells: Arc::new(need(handed.bells)?),
        locks: handed.locks,
    };
    let no = SeatNo(answer.seat);
    let seat = table.sit(no, need(handed.own)?);
    let connection = Connection {
        socket,
        path: path.to_owned(),
        table,
        seats: vec![no],
    };
    Ok(Joined { seat, connection })
}

/// Looks at the segment without a seat, for reports and repairs.
pub fn observe(path: &Path) -> Result<Observed, JoinError> {
    let (_socket, answer, handed) = ask(path, &Hello::new(Wish::Observe, "observer"))?;
    Ok(Observed {
        public: need(handed.public)?,
        private: handed.private,
        bells: need(handed.bells)?,
        alive: answer.alive,
    })
}

/// Has the holder mend the regions, and returns what it did in a sentence. There are no locks
/// that a dead process could leave held: what it can leave is slots, buffers and ports.
pub fn repair(path: &Path) -> Result<String, JoinError> {
    let hello = Hello::new(Wish::Repair, "repair");
    ask(path, &hello).map(|(_, answer, _)| answer.text)
}

/// Has the holder look after what hangs at `port` ([`crate::reclaim::recover_port`]), and returns
/// what it did in a sentence.
pub fn recover_port(path: &Path, port: PortNo, force: bool) -> Result<String, JoinError> {
    let hello = Hello {
        first: port,
        last: u32::from(force),
        ..Hello::new(Wish::RecoverPort, "recoverport")
    };
    ask(path, &hello).map(|(_, answer, _)| answer.text)
}

impl Table {
    fn sit(&self, no: SeatNo, own: File) -> Seat {
        let bells: Arc<dyn Bells> = self.bells.clone();
        Seat::new(
            no,
            self.public.clone(),
            self.private.clone(),
            bells,
            Some(own),
        )
    }

    fn descriptors(&self) -> Option<Vec<RawFd>> {
        let private = self.private.as_ref()?;
        let (peers, clients) = self.locks.as_ref()?;
        let mut all = vec![
            self.public.descriptor().as_raw_fd(),
            private.descriptor().as_raw_fd(),
            peers.as_raw_fd(),
            clients.as_raw_fd(),
        ];
        all.extend(self.bells.descriptors());
        Some(all)
    }
}

impl Connection {
    /// Becomes readable when the holder is gone.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether the holder is still there.
    pub fn is_up(&self) -> bool {
        !socket::is_closed(self.socket.as_fd())
    }

    /// Where the holder listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One more seat for this process, for a further role or a further thread of a client.
    /// Regions and bells are shared with the first.
    pub fn join_more(&mut self, kind: Kind<'_>) -> Result<Seat, JoinError> {
        let hello = Hello {
            more: true,
            ..kind.hello()
        };
        let (answer, handed) = exchange(self.socket.as_fd(), &hello, &[])?;
        let no = SeatNo(answer.seat);
        self.seats.push(no);
        Ok(self.table.sit(no, need(handed.own)?))
    }

    /// Goes on with the same seats under a new holder, after the old one ended: a peer offers
    /// the new holder everything it needs to take the segment back. Err(NotRunning): no holder
    /// yet, try again; Err(Refused): the new holder has another segment, so the seats are void.
    pub fn reattach(&mut self) -> Result<(), JoinError> {
        let hello = Hello {
            generation: self.table.public.generation(),
            seats: self.seats.iter().copied().collect(),
            ..Hello::new(Wish::Return, "")
        };
        let socket = dial(&self.path)?;
        let offer = self.table.descriptors().unwrap_or_default();
        exchange(socket.as_fd(), &hello, &offer)?;
        self.socket = socket;
        Ok(())
    }
}

fn dial(path: &Path) -> Result<OwnedFd, JoinError> {
    socket::dial(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            JoinError::NotRunning(path.to_owned())
        }
        _ => JoinError::System {
            what: "can't connect to the segment's holder",
            source: e,
        },
    })
}

fn ask(path: &Path, hello: &Hello) -> Result<(OwnedFd, Answer, Handed), JoinError> {
    socket::raise_descriptor_limit()
        .map_err(JoinError::system("can't raise the limit of open files"))?;
    let socket = dial(path)?;
    let (answer, handed) = exchange(socket.as_fd(), hello, &[])?;
    Ok((socket, answer, handed))
}

fn exchange(
    socket: BorrowedFd<'_>,
    hello: &Hello,
    offer: &[RawFd],
) -> Result<(Answer, Handed), JoinError> {
    let gone = "the segment's holder went away while this process joined";
    socket::send(socket, &hello.encode(), offer).map_err(JoinError::system(gone))?;
    let (bytes, descriptors) =
        socket::receive(socket, wire::ANSWER_MAX).map_err(JoinError::system(gone))?;
    if bytes.is_empty() {
        let end = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(JoinError::system(gone)(end));
    }
    let answer = Answer::decode(&bytes).map_err(|e| JoinError::OtherVersion(e.to_string()))?;
    match answer.errno as i32 {
        0 => Handed::sort(&answer, descriptors).map(|handed| (answer, handed)),
        libc::EPROTONOSUPPORT => Err(JoinError::OtherVersion(answer.text)),
        errno => Err(JoinError::Refused {
            errno,
            text: answer.text,
        }),
    }
}

/// The descriptors of an answer, in the order of [`wire`].
#[derive(Default)]
struct Handed {
    public: Option<Segment>,
    private: Option<Segment>,
    locks: Option<(File, File)>,
    own: Option<File>,
    bells: Option<EventBells>,
}

impl Handed {
    fn sort(answer: &Answer, descriptors: Vec<OwnedFd>) -> Result<Handed, JoinError> {
        let mut rest = descriptors.into_iter();
        let mut join = |spec| -> Result<Segment, JoinError> {
            let fd = need(rest.next())?;
            Ok(Segment::from_parts(fd, spec, answer.generation)?)
        };
        let mut handed = Handed::default();
        let has = |bit| answer.has & bit != 0;
        if has(has::PUBLIC) {
            handed.public = Some(join(need(answer.region)?)?);
        }
        if has(has::PRIVATE) {
            handed.private = Some(join(RegionSpec::private(&need(answer.region)?))?);
        }
        if has(has::LOCKS) {
            let (peers, clients) = (need(rest.next())?, need(rest.next())?);
            handed.locks = Some((peers.into(), clients.into()));
        }
        if has(has::OWN) {
            handed.own = Some(need(rest.next())?.into());
        }
        if has(has::BELLS) {
            let bells: Vec<OwnedFd> = rest.by_ref().take(SEATS as usize).collect();
            need((bells.len() == SEATS as usize).then_some(()))?;
            handed.bells = Some(EventBells::from_descriptors(bells));
        }
        Ok(handed)
    }
}

/// What the holder promised, or the sentence that it did not come.
fn need<T>(promised: Option<T>) -> Result<T, JoinError> {
    promised.ok_or_else(|| JoinError::Refused {
        errno: libc::EPROTO,
        text: "the segment's holder left out a part of its answer".into(),
    })
}
