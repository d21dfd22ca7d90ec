//! One connection for each process and node, shared by every `xseg_join` of it.
//!
//! A connection brings 240 bells, one descriptor each; sharing it keeps their numbers below the
//! 1024 that `select` can take, however many contexts a program has.
//!
//! A child that was forked shares its parent's descriptions, and would keep the parent's seats
//! alive after its death. So the child closes them at once ([`guard`]); the handles that it
//! inherited fail from then on, and it joins anew.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Once, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use xseg::Seat;
use xseg::join::{self, Connection, JoinError, Kind};
use xseg::word::SeatNo;

/// How long a node's holder may be away before its clients give up: its supervisor may be started
/// again meanwhile.
const AWAY_MAX: Duration = Duration::from_secs(15);
/// The same when its socket is gone too: who ends in order removes it, and who is started again
/// after a crash replaces it.
const STOPPED_MAX: Duration = Duration::from_secs(2);

/// Whether answers can be expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// The node is there.
    Up,
    /// Its holder is away; the peers may serve all the same.
    Away,
    /// Nothing will be answered any more.
    Gone,
}

/// A node that this process has joined.
pub struct Node {
    path: PathBuf,
    life: u64,
    table: Mutex<Table>,
}

struct Table {
    connection: Connection,
    /// The seat that came with the connection, until somebody sits down.
    spare: Option<Seat>,
    away_since: Option<Instant>,
    gone: bool,
}

static NODES: Mutex<Option<HashMap<PathBuf, Weak<Node>>>> = Mutex::new(None);

/// Who we are, for reports.
fn program() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    name.trim_end().to_owned()
}

/// The node whose segment is handed out at `path`.
pub(crate) fn join(path: &Path) -> Result<Arc<Node>, JoinError> {
    watch_forks();
    let mut nodes = NODES.lock();
    let nodes = nodes.get_or_insert_default();
    if let Some(node) = nodes.get(path).and_then(Weak::upgrade)
        && node.is_ours()
        && node.presence() == Presence::Up
    {
        return Ok(node);
    }
    nodes.retain(|_, node| node.strong_count() > 0);
    let joined = join::connect(path, Kind::Client { name: &program() })?;
    guard(joined.connection.descriptor().as_raw_fd());
    let node = Arc::new(Node {
        path: path.to_owned(),
        life: LIFE.load(Ordering::Acquire),
        table: Mutex::new(Table {
            connection: joined.connection,
            spare: Some(guarded(joined.seat)),
            away_since: None,
            gone: false,
        }),
    });
    nodes.insert(path.to_owned(), Arc::downgrade(&node));
    Ok(node)
}

fn guarded(seat: Seat) -> Seat {
    if let Some(alive) = seat.alive_descriptor() {
        guard(alive.as_raw_fd());
    }
    seat
}

/// Gets up from a seat: its ports lead nowhere, and its lock falls.
pub(crate) fn leave(mut seat: Seat) {
    seat.unbind_all();
    if let Some(alive) = seat.alive_descriptor() {
        unguard(alive.as_raw_fd());
    }
}

impl Node {
    /// Whether this process made it, and not its parent before a fork.
    pub(crate) fn is_ours(&self) -> bool {
        self.life == LIFE.load(Ordering::Acquire)
    }

    /// A place at the table.
    pub(crate) fn sit(&self) -> Result<Seat, JoinError> {
        let mut table = self.table.lock();
        match table.spare.take() {
            Some(seat) => Ok(seat),
            None => {
                let name = program();
                let seat = table.connection.join_more(Kind::Client { name: &name });
                seat.map(guarded)
            }
        }
    }

    /// Whether the process at a seat lives, as the holder says.
    pub(crate) fn is_alive(&self, seat: SeatNo) -> Result<bool, JoinError> {
        join::observe(&self.path).map(|seen| seen.alive.contains(seat))
    }

    /// Whether answers can be expected. A holder that came back is joined again here.
    pub(crate) fn presence(&self) -> Presence {
        let mut table = self.table.lock();
        if table.gone {
            return Presence::Gone;
        }
        if table.away_since.is_none() && table.connection.is_up() {
            return Presence::Up;
        }
        table.return_to_the_holder()
    }
}

impl Table {
    fn return_to_the_holder(&mut self) -> Presence {
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let old = self.connection.descriptor().as_raw_fd();
        let patience = match self.connection.path().exists() {
            true => AWAY_MAX,
            false => STOPPED_MAX,
        };
        match self.connection.reattach() {
            Ok(()) => {
                unguard(old);
                guard(self.connection.descriptor().as_raw_fd());
                self.away_since = None;
                Presence::Up
            }
            Err(JoinError::NotRunning(_) | JoinError::System { .. })
                if since.elapsed() < patience =>
            {
                Presence::Away
            }
            Err(_) => {
                self.gone = true;
                Presence::Gone
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let table = self.table.get_mut();
        unguard(table.connection.descriptor().as_raw_fd());
        if let Some(spare) = table.spare.take() {
            leave(spare);
        }
    }
}

// ---- forks ----

/// How many forks lie between this process and the first that used the library.
static LIFE: AtomicU64 = AtomicU64::new(0);
/// Descriptors + 1 that a forked child closes; 0 is an empty place. There is room for every seat
/// of four nodes; what finds no place is inherited.
static GUARDED: [AtomicI32; 1024] = [const { AtomicI32::new(0) }; 1024];

fn exchange(from: i32, to: i32) {
    // The first place that fits is enough.
    let _ = GUARDED.iter().any(|place| {
        place
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    });
}

fn guard(fd: RawFd) {
    exchange(0, fd + 1);
}

fn unguard(fd: RawFd) {
    exchange(fd + 1, 0);
}

extern "C" fn in_child() {
    LIFE.fetch_add(1, Ordering::AcqRel);
    for place in &GUARDED {
        let fd = place.swap(0, Ordering::AcqRel);
        if fd > 0 {
            // SAFETY: close is async-signal-safe, which is all that a forked child of a program
            // with threads may call; the number is the child's own copy, and its only user, the
            // inherited handle, is never used or dropped again (`is_ours`).
            unsafe { libc::close(fd - 1) };
        }
    }
}

fn watch_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler lives as long as the program: a library that registered one is
        // never unloaded by glibc before it has removed it.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}
