//! Every lock names every client of its node that may write; and who is not named yet does not.
//!
//! `RUN_DIR` is watched with inotify: when a client comes (again), who holds locks says in each of
//! them whom it names now, and then says in its file that it has. Until then the new client's
//! changes wait; its reads do not.
//!
//! A client that was cut off because its node's lock was broken has a successor that nobody has cut
//! off. So it changes nothing of a volume whose lock turned out to be lost, whatever mapping it is
//! given, until that lock was taken again: it answers ESTALE.

use super::{Locks, Take, object};
use crate::core::Core;
use driver::{Errno, Name, Tag};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use reactor::sync::{Notify, Semaphore, oneshot};
use reactor::{Handler, Ring, opcode, types};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

/// How many locks are taken or renewed at once.
const AT_ONCE: usize = 32;

/// After how long a lock that could not be asked about is asked about again, in nanoseconds.
const AGAIN_NS: u64 = 1_000_000_000;

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
    /// Tags of volumes whose locks are lost.
    lost: RefCell<Vec<Tag>>,
}

impl Gate {
    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Whether any volume's lock is lost.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.borrow().is_empty()
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
        self.locks.pending.borrow_mut().extend(held.iter().copied());
        self.for_each(held, addresses, |core, volume| async move {
            core.take_again(&volume).await;
        });
        self.watch_gate();
    }

    /// Does something for many locks at once; when all is done they name `addresses`. Nothing else
    /// says so meanwhile.
    fn for_each<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        volumes: Vec<Name>,
        addresses: Vec<String>,
        act: impl Fn(Rc<Core>, Name) -> F + 'static,
    ) {
        let core = self.clone();
        self.locks.busy.set(true);
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
            if core.lost.borrow().is_none() {
                core.locks.note(|record| record.listed = addresses);
                core.locks.busy.set(false);
                core.members_changed();
            }
        });
    }

    /// Finds out what became of a lock that our predecessor held, as often as it takes.
    async fn take_again(&self, volume: &Name) {
        let Ok(object) = object(volume) else { return };
        while self.lost.borrow().is_none() {
            let answer = {
                let _turn = self.turns.take(&object).await;
                self.settle_predecessors(volume, &object).await
            };
            let Err(why) = answer else { return };
            tracing::error!(%volume, %why, "the lock that our predecessor held cannot be looked at");
            self.pause().await;
        }
    }

    async fn pause(&self) {
        let until = self.env.clock.now_ns() + AGAIN_NS;
        self.timers.sleep_until(until).await;
    }

    /// The clients of the node have changed: every lock names them anew.
    pub(crate) fn members_changed(self: &Rc<Self>) {
        self.look_for_lost();
        self.look_at_gate();
        let locks = &self.locks;
        if !locks.registry.has_locks() || locks.busy.get() || locks.lists_all() {
            return;
        }
        let addresses = self.locks.addresses();
        let ours = self.locks.held_or_being_taken();
        self.for_each(ours, addresses, |core, volume| async move {
            core.renew(&volume).await;
        });
    }

    async fn renew(&self, volume: &Name) {
        let Ok(object) = object(volume) else { return };
        while self.lost.borrow().is_none() {
            let answer = {
                let _turn = self.turns.take(&object).await;
                match self.locks.is_held(volume) {
                    true => self.take(volume, &object, Take::Ours).await,
                    false => return,
                }
            };
            match answer {
                Ok(()) => return,
                Err(Errno::NOENT | Errno::BUSY) => return self.lose_lock(volume, &object).await,
                Err(why) => tracing::error!(%volume, %why, "the lock cannot be renewed"),
            }
            self.pause().await;
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
        let us = &locks.registration.0;
        if !locks.gate.is_open() && locks.registry.not_listing_us(us).is_empty() {
            // What is lost was said before we were listed.
            self.look_for_lost();
            locks.gate.open();
        }
    }

    fn look_for_lost(&self) {
        let lost = self.locks.registry.lost();
        let tags = lost.iter().map(|volume| Tag((self.tag_of)(volume)));
        self.locks.gate.lost.replace(tags.collect());
    }

    /// Whether a volume's lock is lost. A lock that was taken again is in the files before anybody
    /// is told, so they decide, not what we remember.
    pub(crate) fn is_lost(&self, tag: Tag) -> bool {
        let gate = &self.locks.gate;
        if !gate.lost.borrow().contains(&tag) {
            return false;
        }
        self.look_for_lost();
        gate.lost.borrow().contains(&tag)
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
