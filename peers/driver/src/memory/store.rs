//! The disk behind [`MemoryDriver`](crate::MemoryDriver)s: objects, locks, and late landings.

use super::objects::Objects;
use crate::{Detail, Errno, LockHolder, LockReply, Name, Op, Reply, Tag};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What an operation came to.
pub(super) type Outcome = Result<Reply, Errno>;

/// A disk in memory, shared by the drivers that were made from clones of it.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    locks: BTreeMap<Name, Held>,
    instances: u64,
    alive: BTreeSet<u64>,
    late: Vec<Op>,
    /// Which instances wait for which lock.
    listeners: BTreeSet<(Name, u64)>,
    /// What an instance has heard and not been told yet.
    heard: Vec<(Name, u64)>,
}

#[derive(Clone)]
struct Held {
    owner: Vec<u8>,
    instance: u64,
}

impl MemoryStore {
    /// An empty disk.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// How many operations of dead drivers may still land.
    pub fn late(&self) -> usize {
        self.state.borrow().late.len()
    }

    /// Lets one late operation land, any one, chosen by `choose`; false when there is none.
    pub fn step(&self, choose: &dyn Fn() -> u64) -> bool {
        let op = {
            let late = &mut self.state.borrow_mut().late;
            if late.is_empty() {
                return false;
            }
            let at = choose() as usize % late.len();
            late.swap_remove(at)
        };
        // Nobody is left to hear how it went.
        let _ = self.apply(&op);
        true
    }

    /// What waiting for the drain lock does: afterwards nothing of a dead driver lands any more.
    pub fn drain(&self) {
        while self.step(&|| 0) {}
    }

    /// The host loses power: of everything that was not made durable, `choose` keeps or drops
    /// each sector; late operations are gone, locks stay.
    pub fn lose_power(&self, choose: &dyn Fn() -> u64) {
        let mut state = self.state.borrow_mut();
        state.late.clear();
        state.alive.clear();
        state.objects.lose_power(choose);
    }

    /// The content of an object, as a reader sees it.
    pub fn content(&self, name: &Name) -> Option<Vec<u8>> {
        self.state.borrow().objects.content(name).cloned()
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<Name> {
        self.state.borrow().objects.names().copied().collect()
    }

    pub(super) fn register(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.instances += 1;
        let instance = state.instances;
        state.alive.insert(instance);
        instance
    }

    pub(super) fn bury(&self, instance: u64, in_flight: impl Iterator<Item = Op>) {
        let mut state = self.state.borrow_mut();
        state.alive.remove(&instance);
        state
            .listeners
            .retain(|(_, listener)| *listener != instance);
        state.heard.retain(|(_, listener)| *listener != instance);
        let lands = |op: &Op| {
            matches!(
                op,
                Op::Read { .. }
                    | Op::Write { .. }
                    | Op::Zeroes { .. }
                    | Op::Truncate { .. }
                    | Op::Copy { .. }
                    | Op::Delete { .. }
            )
        };
        state.late.extend(in_flight.filter(lands));
    }

    pub(super) fn sync(&self, tag: Tag) -> Reply {
        self.state.borrow_mut().objects.sync(tag);
        Reply::default()
    }

    pub(super) fn apply(&self, op: &Op) -> Outcome {
        self.state.borrow_mut().objects.apply(op)
    }

    pub(super) fn acquire(&self, name: &Name, owner: &[u8], instance: u64) -> Outcome {
        let mut state = self.state.borrow_mut();
        let before = state.locks.get(name).cloned();
        let lives = |held: &Held| state.alive.contains(&held.instance);
        if before
            .as_ref()
            .is_some_and(|held| held.instance != instance && lives(held))
        {
            return Err(Errno::BUSY);
        }
        let ours = before.as_ref().is_some_and(|held| held.owner == owner);
        let ended = before
            .filter(|_| !ours)
            .map(|held| held.holder(instance, Some(false)));
        let owner = owner.to_vec();
        let held = Held { owner, instance };
        state.locks.insert(*name, held.clone());
        let reply = LockReply {
            holder: Some(held.holder(instance, Some(true))),
            already_ours: ours,
            ended,
        };
        Ok(Detail::Lock(Box::new(reply)).into())
    }

    pub(super) fn release(&self, name: &Name, instance: u64, force: bool) -> Outcome {
        let mut state = self.state.borrow_mut();
        let held = state.locks.get(name).cloned().ok_or(Errno::NOENT)?;
        let ours = held.instance == instance;
        if !ours && !force {
            return Err(Errno::PERM);
        }
        state.locks.remove(name);
        state.tell(name);
        let alive = state.alive.contains(&held.instance);
        let ended = (!ours).then(|| held.holder(instance, Some(alive)));
        Ok(Detail::Lock(Box::new(LockReply {
            ended,
            ..LockReply::default()
        }))
        .into())
    }

    pub(super) fn lock_info(&self, name: &Name, owner: &[u8], instance: u64) -> Reply {
        let state = self.state.borrow();
        let lives = |held: &Held| state.alive.contains(&held.instance);
        let holder = state.locks.get(name).map(|held| LockHolder {
            foreign: held.owner != owner,
            ..held.holder(instance, Some(lives(held)))
        });
        Detail::Lock(Box::new(LockReply {
            holder,
            ..LockReply::default()
        }))
        .into()
    }

    /// `instance` wants to hear when nobody holds the lock.
    pub(super) fn listen(&self, name: &Name, instance: u64) {
        let mut state = self.state.borrow_mut();
        state.listeners.insert((*name, instance));
        if !state.locks.contains_key(name) {
            state.tell(name);
        }
    }

    /// What `instance` has heard since it was asked last.
    pub(super) fn take_heard(&self, instance: u64, names: &mut Vec<Name>) {
        let mut state = self.state.borrow_mut();
        let heard = state.heard.extract_if(.., |(_, of)| *of == instance);
        names.extend(heard.map(|(name, _)| name));
    }

    pub(super) fn is_held_by(&self, name: &Name, instance: u64) -> bool {
        let state = self.state.borrow();
        state
            .locks
            .get(name)
            .is_some_and(|held| held.instance == instance)
    }
}

impl State {
    /// Nobody holds this lock: who waits for it hears that, once.
    fn tell(&mut self, name: &Name) {
        let told = self.listeners.extract_if(.., |(of, _)| of == name);
        self.heard.extend(told);
    }
}

impl Held {
    fn holder(&self, asker: u64, alive: Option<bool>) -> LockHolder {
        LockHolder {
            run_dir: None,
            owner: self.owner.clone(),
            process: None,
            ours: self.instance == asker,
            alive,
            ..LockHolder::default()
        }
    }
}
