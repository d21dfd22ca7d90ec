//! What is known of a volume while somebody uses it or its lock is held.
//!
//! What always holds: a volume has a map only while it is held; a lost one has none until it is
//! opened again. The record is dropped when nobody is inside and there is nothing to remember.

use crate::errno::{Errno, Result};
use crate::gate::{Access, Gate, Pass};
use crate::map::Map;
use crate::naming::wire;
use mapfile::VolumeName;
use reactor::sync::{Lock, Notify};
use runtime::volume_tag;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use xseg::Name;

/// How this node stands to the volume's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Tenure {
    /// Nothing is known to be held.
    #[default]
    None,
    /// The lock is ours, as far as we know.
    Held,
    /// It was ours and was broken: nothing is served until the volume is opened again.
    Lost,
}

#[derive(Default)]
struct State {
    tenure: Tenure,
    /// When the lock was last known to be ours, ns.
    checked_ns: u64,
    /// Map writes that may be volatile, and how many of them a sync covered.
    written: u64,
    synced: u64,
    sync_failed: Option<Errno>,
    map: Option<Map>,
}

/// One volume.
pub(crate) struct Volume {
    name: VolumeName,
    tag: u32,
    gate: Gate,
    /// Told when a page came or an entry is no longer busy.
    pub(crate) changed: Notify,
    /// Held by who looks at the lock, so that others need not.
    pub(crate) look: Lock,
    state: RefCell<State>,
}

impl Volume {
    fn new(name: VolumeName) -> Volume {
        let tag = volume_tag(&wire(name.as_bytes()));
        Volume {
            name,
            tag,
            gate: Gate::default(),
            changed: Notify::new(),
            look: Lock::new(),
            state: RefCell::default(),
        }
    }

    pub(crate) fn name(&self) -> &VolumeName {
        &self.name
    }

    /// The name as the target of a request about its lock.
    pub(crate) fn target(&self) -> Name {
        wire(self.name.as_bytes())
    }

    pub(crate) fn tag(&self) -> u32 {
        self.tag
    }

    pub(crate) fn is_held(&self) -> bool {
        self.state.borrow().tenure == Tenure::Held
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state.borrow().tenure == Tenure::Lost
    }

    /// Held, and its map is loaded.
    pub(crate) fn is_ready(&self) -> bool {
        let state = self.state.borrow();
        state.tenure == Tenure::Held && state.map.is_some()
    }

    /// The lock is ours since `now_ns`. `unknown`: it was before, so what was written then may be
    /// volatile.
    pub(crate) fn begin(&self, unknown: bool, now_ns: u64) {
        *self.state.borrow_mut() = State {
            tenure: Tenure::Held,
            checked_ns: now_ns,
            written: u64::from(unknown),
            ..State::default()
        };
    }

    /// The lock was given back, or the loss was acknowledged.
    pub(crate) fn end(&self) {
        *self.state.borrow_mut() = State::default();
        self.changed.notify_all();
    }

    /// The lock was broken.
    pub(crate) fn lose(&self) {
        *self.state.borrow_mut() = State {
            tenure: Tenure::Lost,
            ..State::default()
        };
        self.changed.notify_all();
    }

    pub(crate) fn set_map(&self, map: Map) {
        self.state.borrow_mut().map = Some(map);
    }

    /// Drops the cached map: it is loaded again when needed.
    pub(crate) fn forget_map(&self) {
        self.state.borrow_mut().map = None;
        self.changed.notify_all();
    }

    /// Does something with the map. ESTALE: it went away, because the lock did.
    pub(crate) fn with_map<T>(&self, act: impl FnOnce(&mut Map) -> T) -> Result<T> {
        self.state
            .borrow_mut()
            .map
            .as_mut()
            .map(act)
            .ok_or(Errno::STALE)
    }

    /// When the lock was last known to be ours, ns.
    pub(crate) fn checked_ns(&self) -> u64 {
        self.state.borrow().checked_ns
    }

    /// A volatile map write was answered.
    pub(crate) fn count_write(&self) {
        self.state.borrow_mut().written += 1;
    }

    /// Whether map writes may be volatile.
    pub(crate) fn is_unsynced(&self) -> bool {
        let state = self.state.borrow();
        state.written > state.synced
    }

    /// What a sync that is sent now covers.
    pub(crate) fn written(&self) -> u64 {
        self.state.borrow().written
    }

    /// That no sync has failed: what one lost stays lost until the volume is closed.
    pub(crate) fn may_flush(&self) -> Result<()> {
        self.state.borrow().sync_failed.map_or(Ok(()), Err)
    }

    /// A sync under the lock that covers `written`, sent at `sent_ns`, ended. One that storage
    /// failed was under the lock all the same.
    pub(crate) fn end_sync(&self, written: u64, sent_ns: u64, result: Result<()>) {
        let mut state = self.state.borrow_mut();
        match result {
            _ if state.tenure != Tenure::Held => return,
            Err(errno) if errno.is_shortage() => return,
            Ok(()) => state.synced = state.synced.max(written),
            Err(errno) => state.sync_failed = Some(errno),
        }
        state.checked_ns = state.checked_ns.max(sent_ns);
    }

    fn is_forgettable(&self) -> bool {
        self.state.borrow().tenure == Tenure::None
    }
}

/// All volumes that are in use or held.
#[derive(Default)]
pub(crate) struct Table {
    volumes: RefCell<HashMap<VolumeName, Rc<Volume>>>,
}

impl Table {
    fn of(&self, name: &VolumeName) -> Rc<Volume> {
        let mut volumes = self.volumes.borrow_mut();
        let volume = volumes
            .entry(name.clone())
            .or_insert_with(|| Rc::new(Volume::new(name.clone())));
        volume.clone()
    }

    /// Waits for leave to use the volume.
    pub(crate) async fn enter(self: &Rc<Self>, name: &VolumeName, access: Access) -> Inside {
        let volume = self.of(name);
        let pass = volume.gate.enter(access).await;
        Inside {
            volume,
            pass,
            table: self.clone(),
        }
    }

    /// Leave now, if nobody is in the way.
    pub(crate) fn try_enter(self: &Rc<Self>, name: &VolumeName, access: Access) -> Option<Inside> {
        let volume = self.of(name);
        let pass = volume.gate.try_enter(access)?;
        Some(Inside {
            volume,
            pass,
            table: self.clone(),
        })
    }

    /// The names of the volumes whose lock is held, in order.
    pub(crate) fn held(&self) -> Vec<VolumeName> {
        let volumes = self.volumes.borrow();
        let mut held: Vec<_> = volumes
            .values()
            .filter(|v| v.is_held())
            .map(|v| v.name.clone())
            .collect();
        held.sort();
        held
    }
}

/// Somebody inside a volume's gate.
pub(crate) struct Inside {
    pub(crate) volume: Rc<Volume>,
    pub(crate) pass: Pass,
    table: Rc<Table>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Two: the table and this one. Whoever waits at the gate has a third.
        if Rc::strong_count(&self.volume) == 2 && self.volume.is_forgettable() {
            self.table.volumes.borrow_mut().remove(self.volume.name());
        }
    }
}
