//! The disk behind [`MemoryDriver`](crate::MemoryDriver)s: objects, locks, and late landings.
//!
//! Every object has two images: what a reader sees, and what a loss of power would leave.

use crate::digest::strip_zeros;
use crate::{Detail, Errno, HashAlgorithm, LockHolder, LockReply, Name, Op, Reply, Tag};
use sha2::Digest as _;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What an operation came to.
pub(super) type Outcome = Result<Reply, Errno>;

/// What a loss of power keeps or drops as one piece, in bytes.
const SECTOR: usize = 512;

/// Objects larger than this are refused, so that a wrong offset cannot eat the machine's memory.
const MAX_OBJECT: u64 = 1 << 30;

/// A disk in memory, shared by the drivers that were made from clones of it.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Name, Object>,
    locks: BTreeMap<Name, Held>,
    instances: u64,
    alive: BTreeSet<u64>,
    late: Vec<Op>,
}

#[derive(Default)]
struct Object {
    seen: Option<Vec<u8>>,
    durable: Option<Vec<u8>>,
    dirty: BTreeSet<Tag>,
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
        for object in state.objects.values_mut() {
            object.lose_power(choose);
        }
        state.objects.retain(|_, object| object.seen.is_some());
    }

    /// The content of an object, as a reader sees it.
    pub fn content(&self, name: &Name) -> Option<Vec<u8>> {
        self.state.borrow().objects.get(name)?.seen.clone()
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<Name> {
        let state = self.state.borrow();
        let existing = |(name, object): (&Name, &Object)| object.seen.as_ref().map(|_| *name);
        state.objects.iter().filter_map(existing).collect()
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
        for object in self.state.borrow_mut().objects.values_mut() {
            if object.dirty.contains(&tag) {
                object.persist();
            }
        }
        Reply::default()
    }

    pub(super) fn apply(&self, op: &Op) -> Outcome {
        let mut state = self.state.borrow_mut();
        match op {
            Op::Read { name, offset, buf } => {
                let content = state.existing(name)?;
                let from = content.get(*offset as usize..).unwrap_or(&[]);
                let len = from.len().min(buf.len());
                buf.copy_in(0, &from[..len]);
                buf.zero(len..buf.len());
                Ok(Reply::bytes(buf.len() as u64))
            }
            Op::Write {
                name,
                offset,
                buf,
                tag,
                fresh,
                durable,
            } => {
                let end = checked_end(*offset, buf.len() as u64)?;
                let object = state.objects.entry(*name).or_default();
                let content = object.open(*fresh);
                if content.len() < end && !buf.is_empty() {
                    content.resize(end, 0);
                }
                if !buf.is_empty() {
                    buf.copy_out(0, &mut content[*offset as usize..end]);
                }
                object.changed(*tag, *durable);
                Ok(Reply::bytes(buf.len() as u64))
            }
            Op::Zeroes {
                name,
                offset,
                len,
                tag,
                durable,
            } => {
                if offset
                    .checked_add(*len)
                    .is_none_or(|end| end > i64::MAX as u64)
                {
                    return Err(Errno::INVAL);
                }
                if let Ok(content) = state.existing(name) {
                    let end = (offset + len).min(content.len() as u64);
                    content[(*offset).min(end) as usize..end as usize].fill(0);
                    state
                        .objects
                        .entry(*name)
                        .or_default()
                        .changed(*tag, *durable);
                }
                Ok(Reply::bytes(*len))
            }
            Op::Truncate {
                name,
                size,
                tag,
                fresh,
                durable,
            } => {
                let size = checked_end(*size, 0)?;
                if !fresh {
                    state.existing(name)?;
                }
                let object = state.objects.entry(*name).or_default();
                object.open(*fresh).resize(size, 0);
                object.changed(*tag, *durable || *fresh);
                Ok(Reply::default())
            }
            Op::Copy {
                src,
                dst,
                max,
                tag,
                durable,
            } => {
                let mut content = state.existing(src)?.clone();
                content.truncate(usize::try_from(*max).unwrap_or(usize::MAX));
                let copied = content.len() as u64;
                let object = state.objects.entry(*dst).or_default();
                object.seen = Some(content);
                object.changed(*tag, *durable);
                Ok(Reply::bytes(copied))
            }
            Op::Delete { name, durable } => {
                state.existing(name)?;
                let object = state.objects.entry(*name).or_default();
                object.seen = None;
                object.changed(Tag::NONE, *durable);
                Ok(Reply::default())
            }
            Op::Info { name } => Ok(Detail::Size(state.existing(name)?.len() as u64).into()),
            Op::Hash {
                name,
                offset,
                size,
                algorithm,
            } => state.hash(name, *offset, *size, *algorithm),
            Op::List { cursor, max } => Ok(state.list(*cursor, *max)),
            Op::Acquire { .. }
            | Op::Release { .. }
            | Op::LockInfo { .. }
            | Op::Sync { .. }
            | Op::Forget { .. } => unreachable!("these belong to the driver"),
        }
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
        let alive = state.alive.contains(&held.instance);
        let ended = (!ours).then(|| held.holder(instance, Some(alive)));
        Ok(Detail::Lock(Box::new(LockReply {
            ended,
            ..LockReply::default()
        }))
        .into())
    }

    pub(super) fn lock_info(&self, name: &Name, instance: u64) -> Reply {
        let state = self.state.borrow();
        let lives = |held: &Held| state.alive.contains(&held.instance);
        let holder = state
            .locks
            .get(name)
            .map(|held| held.holder(instance, Some(lives(held))));
        Detail::Lock(Box::new(LockReply {
            holder,
            ..LockReply::default()
        }))
        .into()
    }

    pub(super) fn is_held_by(&self, name: &Name, instance: u64) -> bool {
        let state = self.state.borrow();
        state
            .locks
            .get(name)
            .is_some_and(|held| held.instance == instance)
    }
}

impl Held {
    fn holder(&self, asker: u64, alive: Option<bool>) -> LockHolder {
        LockHolder {
            owner: self.owner.clone(),
            process: None,
            ours: self.instance == asker,
            alive,
        }
    }
}

impl State {
    fn existing(&mut self, name: &Name) -> Result<&mut Vec<u8>, Errno> {
        let object = self.objects.get_mut(name).ok_or(Errno::NOENT)?;
        object.seen.as_mut().ok_or(Errno::NOENT)
    }

    fn hash(&mut self, name: &Name, offset: u64, size: u64, algorithm: HashAlgorithm) -> Outcome {
        let content = self.existing(name)?;
        let from = (offset as usize).min(content.len());
        let to = (offset.saturating_add(size)).min(content.len() as u64) as usize;
        let stripped = strip_zeros(&content[from..to.max(from)]).to_vec();
        let digest = algorithm.digest(&stripped);
        let serviced = size;
        let object = self.objects.entry(digest.to_name()).or_default();
        object.seen.get_or_insert(stripped);
        object.persist();
        Ok(Reply {
            serviced,
            detail: Detail::Hash(digest),
        })
    }

    /// Names in the order of their hash, because a cursor is a number and has to stay valid while
    /// names come and go.
    fn list(&self, cursor: u64, max: usize) -> Reply {
        let existing = self
            .objects
            .iter()
            .filter(|(_, object)| object.seen.is_some());
        let mut page: Vec<(u64, Name)> = existing
            .map(|(name, _)| (position(name), *name))
            .filter(|(at, _)| *at >= cursor)
            .collect();
        page.sort_unstable_by_key(|(at, _)| *at);
        let cut = page.get(max.max(1)).map(|(at, _)| *at);
        let names = page
            .into_iter()
            .take_while(|(at, _)| cut.is_none_or(|cut| *at < cut))
            .map(|(_, name)| name)
            .collect();
        Detail::List { names, next: cut }.into()
    }
}

impl Object {
    fn open(&mut self, fresh: bool) -> &mut Vec<u8> {
        if fresh {
            self.seen = None;
        }
        self.seen.get_or_insert_default()
    }

    fn changed(&mut self, tag: Tag, durable: bool) {
        if durable || tag == Tag::NONE {
            self.persist();
        } else {
            self.dirty.insert(tag);
        }
    }

    fn persist(&mut self) {
        self.durable = self.seen.clone();
        self.dirty.clear();
    }

    fn lose_power(&mut self, choose: &dyn Fn() -> u64) {
        let (Some(seen), false) = (&self.seen, self.dirty.is_empty()) else {
            self.seen = self.durable.clone();
            return;
        };
        let durable = self.durable.clone();
        if durable.is_none() && choose().is_multiple_of(2) {
            self.seen = None;
            return;
        }
        let mut left = durable.unwrap_or_default();
        if choose().is_multiple_of(2) {
            left.resize(seen.len(), 0);
        }
        for (old, new) in left.chunks_mut(SECTOR).zip(seen.chunks(SECTOR)) {
            if choose().is_multiple_of(2) {
                let len = old.len().min(new.len());
                old[..len].copy_from_slice(&new[..len]);
            }
        }
        self.seen = Some(left);
        self.persist();
    }
}

fn checked_end(offset: u64, len: u64) -> Result<usize, Errno> {
    let end = offset
        .checked_add(len)
        .filter(|end| *end <= i64::MAX as u64);
    let end = end.ok_or(Errno::INVAL)?;
    if end > MAX_OBJECT {
        return Err(Errno::FBIG);
    }
    Ok(end as usize)
}

fn position(name: &Name) -> u64 {
    let hash: [u8; 32] = sha2::Sha256::digest(name.as_bytes()).into();
    u64::from_be_bytes(*hash.first_chunk().expect("32 bytes hold 8")) >> 1
}
