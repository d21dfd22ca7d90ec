//! Every lock names every client of its node that may write; and who is not named yet does not.
//!
//! `RUN_DIR` is watched with inotify: when a client comes (again), who holds locks says in each of
//! them whom it names now, and then says in its file that it has. Until then the new client's
//! changes wait; its reads do not.

use super::wire::Take;
use super::{Locks, object};
use crate::core::Core;
use driver::{Errno, Name};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use reactor::sync::{Notify, Semaphore, oneshot};
use reactor::{Handler, Ring, opcode, types};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

/// How many locks are taken or renewed at once.
const AT_ONCE: usize = 32;

/// How often a closed gate is looked at, in nanoseconds.
const LOOK_NS: u64 = 20_000_000;

/// How long a dead holder of locks is waited for, in nanoseconds: no longer than a lease lasts,
/// after which no mapping that it vouched for is used.
const DEAD_NS: u64 = 30_000_000_000;

/// What holds changes back until every lock of the node names this client.
#[derive(Default)]
pub(crate) struct Gate {
    open: Cell<bool>,
    opened: Notify,
}

impl Gate {
    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    fn open(&self) {
        self.open.set(true);
        self.opened.notify_all();
    }

    /// Waits until this client may change anything.
    pub(crate) async fn pass(&self) {
        while !self.open.get() {
            self.opened.notified().await;
        }
    }
}

/// Reports that a file of the node's clients has changed.
pub(crate) struct Neighbours {
    inotify: Inotify,
    handler: Handler,
    rings: Vec<(u64, i32, u32)>,
}

/// IORING_CQE_F_MORE: the poll stays armed.
const MORE: u32 = 1 << 1;

impl Neighbours {
    pub(crate) fn new(ring: &Ring, dir: &std::path::Path) -> nix::Result<Neighbours> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // Every file is replaced whole, by a rename.
        inotify.add_watch(dir, AddWatchFlags::IN_MOVED_TO)?;
        let neighbours = Neighbours {
            inotify,
            handler: ring.handler(),
            rings: Vec::new(),
        };
        neighbours.listen();
        Ok(neighbours)
    }

    fn listen(&self) {
        let fd = types::Fd(self.inotify.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .multi(true)
            .build();
        // SAFETY: a poll names no memory. The ring holds the file itself.
        unsafe { self.handler.push(poll, 0) };
    }

    /// Whether something has changed since the last call.
    pub(crate) fn changed(&mut self) -> bool {
        if !self.handler.has_completions() {
            return false;
        }
        self.handler.take(&mut self.rings);
        if self.rings.drain(..).any(|(_, _, flags)| flags & MORE == 0) {
            self.listen();
        }
        let mut changed = false;
        while self
            .inotify
            .read_events()
            .is_ok_and(|events| !events.is_empty())
        {
            changed = true;
        }
        changed
    }
}

impl Core {
    /// Begins: what the predecessor held is taken over, then the gate is watched.
    pub(crate) fn begin_locks(self: &Rc<Self>) {
        let addresses = self.locks.addresses();
        let held = self.locks.registry.held();
        self.for_each(held, addresses, |core, volume| async move {
            core.take_again(&volume).await;
        });
        self.watch_gate();
    }

    /// Does something for many locks at once; when all is done they name `addresses`.
    fn for_each<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        volumes: Vec<Name>,
        addresses: Vec<String>,
        act: impl Fn(Rc<Core>, Name) -> F + 'static,
    ) {
        let core = self.clone();
        self.executor.spawn(async move {
            let some = Semaphore::new(AT_ONCE);
            let mut ends = Vec::new();
            for volume in volumes {
                let permit = some.acquire().await;
                let (job, (end, ended)) = (act(core.clone(), volume), oneshot());
                core.executor.spawn(async move {
                    job.await;
                    drop(permit);
                    end.send(());
                });
                ends.push(ended);
            }
            for ended in ends {
                ended.await;
            }
            core.locks.note(|record| record.listed = addresses);
        });
    }

    /// A lock that our predecessor held, unless it was given back or broken meanwhile.
    async fn take_again(&self, volume: &Name) {
        let found = match object(volume) {
            Ok(object) => self.find(&object).await,
            Err(errno) => Err(errno),
        };
        let taken = match found {
            Ok(Some(_)) => self.acquire(volume).await.map(drop),
            Ok(None) => Err(Errno::NOENT),
            Err(errno) => Err(errno),
        };
        if let Err(why) = taken {
            tracing::warn!(%volume, %why, "the lock that our predecessor held is not ours");
            self.locks.forget(volume);
        }
    }

    /// The clients of the node have changed: every lock names them anew.
    pub(crate) fn members_changed(self: &Rc<Self>) {
        self.look_at_gate();
        if !self.locks.registry.has_locks() || self.locks.lists_all() {
            return;
        }
        let addresses = self.locks.addresses();
        let held = self.locks.registry.held();
        self.for_each(held, addresses, |core, volume| async move {
            core.renew(&volume).await;
        });
    }

    async fn renew(&self, volume: &Name) {
        let Ok(object) = object(volume) else { return };
        let _turn = self.turns.take(&object).await;
        if !self.locks.is_held(volume) {
            return;
        }
        match self.take(volume, &object, Take::Ours).await {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::BUSY) => self.locks.forget(volume),
            Err(why) => tracing::error!(%volume, %why, "the lock cannot be renewed"),
        }
    }

    /// Looks at the gate until it is open.
    fn watch_gate(self: &Rc<Self>) {
        let core = self.clone();
        let begin = self.env.clock.now_ns();
        self.executor.spawn(async move {
            loop {
                core.look_at_gate();
                let now = core.env.clock.now_ns();
                if now - begin > DEAD_NS {
                    core.locks.open_without_the_dead();
                }
                if core.locks.gate.is_open() {
                    return;
                }
                core.timers.sleep_until(now + LOOK_NS).await;
            }
        });
    }

    fn look_at_gate(&self) {
        let locks = &self.locks;
        if !locks.gate.is_open()
            && locks
                .registry
                .not_listing_us(&locks.registration.0)
                .is_empty()
        {
            locks.gate.open();
        }
    }
}

impl Locks {
    /// All addresses of the node.
    fn addresses(&self) -> Vec<String> {
        let members = self.registry.members();
        let mut addresses: Vec<_> = members.into_iter().map(|member| member.address).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    fn lists_all(&self) -> bool {
        let listed = self.registry.listed();
        self.addresses()
            .iter()
            .all(|address| listed.contains(address))
    }

    fn open_without_the_dead(&self) {
        let lacking = self.registry.not_listing_us(&self.registration.0);
        if lacking.iter().any(|(_, lives)| *lives) {
            return;
        }
        for (role, _) in &lacking {
            tracing::warn!(role, "it is dead, and its locks do not name this client");
        }
        self.gate.open();
    }
}
