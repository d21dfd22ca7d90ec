//! MAPW: every block of the range gets an object that may be written in place.
//!
//! What always holds: the object is ready before its entry is written, the entry is written before
//! the cache says so, and the cache says so before anybody is answered. A block is made writable by
//! one request at a time; others wait. What fails leaves the entries of its blocks as they were.

use crate::core::count;
use crate::delete::runs;
use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{Job, Reply};
use crate::map::Map;
use crate::naming::wire;
use crate::read::Lease;
use crate::store::Durability;
use crate::volume::Volume;
use crate::window;
use mapfile::{Entry, ObjectName, VolumeName};
use std::ops::Range;
use xseg::protocol::flags;

/// Objects made at once for one request.
const WIDTH: usize = 16;

/// How a block's own object comes about.
#[derive(Clone)]
enum Source {
    /// It is there: the entry only has to say so again.
    Itself,
    /// Empty.
    Zeros,
    /// A copy.
    Object {
        name: ObjectName,
        missing_is_zeros: bool,
    },
}

/// One block that has to be made writable.
#[derive(Clone)]
struct Step {
    object: ObjectName,
    entry: Entry,
    source: Source,
}

impl Job {
    /// MAPW: takes the lock, and waits while another node has it (spec/observed.md point 19); not
    /// with NOSYNC. For vlmcd it waits once: EBUSY tells it to ask again.
    pub(crate) async fn map_write(&self) -> Result<Reply> {
        let name = self.volume_name()?;
        let place = self.core.waits.join(wire(name.as_bytes()));
        loop {
            match self.map_write_once(&name).await {
                Err(Errno::BUSY) if self.may_wait(&place) => self.wait_for_lock(&place).await,
                other => return other,
            }
            // Nothing more is asked for a write that is given up: blockerm may be gone.
            if self.from_peer || !self.may_wait(&place) {
                return Err(Errno::BUSY);
            }
        }
    }

    async fn map_write_once(&self, name: &VolumeName) -> Result<Reply> {
        let entered = self.enter(name, Access::Shared).await;
        if entered.volume().is_ready() {
            return self.write_held(entered.volume()).await;
        }
        drop(entered);
        let entered = self.enter(name, Access::Alone).await;
        let volume = entered.volume();
        let opened_here = self.open(volume).await?;
        if opened_here && volume.with_map(|map| map.header().flags.readonly)? {
            self.give_back(volume).await;
            return Err(Errno::ROFS);
        }
        entered.share();
        self.write_held(volume).await
    }

    async fn write_held(&self, volume: &Volume) -> Result<Reply> {
        if volume.is_lost() {
            return Err(Errno::STALE);
        }
        self.confirm_lock(volume).await?;
        let header = volume.with_map(|map| map.header())?;
        if header.flags.readonly {
            return Err(Errno::ROFS);
        }
        let blocks = self.blocks_asked_for(header.geometry)?;
        for part in volume.with_map(|map| map.by_page(blocks.clone()))? {
            self.make_writable(volume, part).await?;
        }
        if self.durability() == Durability::Now && volume.is_unsynced() {
            self.flush_map(volume).await?;
        }
        self.read_held(volume, Lease::Granted).await
    }

    /// Clients have no FLUSH of their own for what they get here, so theirs is durable at once.
    fn durability(&self) -> Durability {
        match self.from_peer && !self.request.has(flags::FUA) {
            true => Durability::Later,
            false => Durability::Now,
        }
    }

    /// Makes blocks of one page writable.
    async fn make_writable(&self, volume: &Volume, part: Range<u64>) -> Result<()> {
        loop {
            self.ensure_page(volume, part.start).await?;
            let planned = volume.with_map(|map| self.plan(map, part.clone()))?;
            match planned {
                Some(steps) => return self.carry_out(volume, steps).await,
                None if volume.with_map(|map| part.clone().any(|i| map.is_busy(i)))? => {
                    volume.changed.notified().await;
                }
                None => {}
            }
        }
    }

    /// What has to be done for the blocks of `part`, which are busy from here on. `None`: one of
    /// them is busy already, or the page went away.
    fn plan(&self, map: &mut Map, part: Range<u64>) -> Option<Vec<(u64, Step)>> {
        let mut steps = Vec::new();
        for index in part {
            let old = map.entry(index)?;
            if map.is_busy(index) {
                return None;
            }
            if !map.is_writable(old) {
                steps.push((index, self.step_for(map, index, old)));
            }
        }
        steps.iter().for_each(|(index, _)| map.set_busy(*index));
        Some(steps)
    }

    fn step_for(&self, map: &Map, index: u64, old: Entry) -> Step {
        let entry = Entry::fresh(map.owner());
        let source = if old.is_own_already(map.owner()) && !old.is_zero() {
            Source::Itself
        } else if old.is_zero() || self.is_wholly_zeroed(map, index) {
            Source::Zeros
        } else {
            let name = map.object(index, old);
            Source::Object {
                name,
                missing_is_zeros: old.is_archip(),
            }
        };
        Step {
            object: map.object(index, entry),
            entry,
            source,
        }
    }

    /// Whether the caller promised to make all of the block zero.
    fn is_wholly_zeroed(&self, map: &Map, index: u64) -> bool {
        let geometry = map.header().geometry;
        let start = index * u64::from(geometry.block_size().bytes());
        let end = start + u64::from(geometry.block_len(index));
        let asked = self.request.offset..self.request.offset + self.request.size;
        self.request.has(flags::WHOLE) && asked.start <= start && end <= asked.end
    }

    async fn carry_out(&self, volume: &Volume, steps: Vec<(u64, Step)>) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let indices: Vec<u64> = steps.iter().map(|(index, _)| *index).collect();
        let made = window::each(WIDTH, steps, async |(index, step)| {
            self.make_object(volume, &step)
                .await
                .map(|()| (index, step.entry))
        })
        .await;
        let mut outcome = Ok(());
        let mut ready = Vec::new();
        for result in made {
            match result {
                Ok(entry) => ready.push(entry),
                Err(errno) => outcome = outcome.and(Err(errno)),
            }
        }
        for run in runs(&ready) {
            let published = self.publish(volume, run).await;
            outcome = outcome.and(published);
        }
        // Err: the map went away, and what was busy with it.
        let _ = volume.with_map(|map| indices.iter().for_each(|index| map.clear_busy(*index)));
        volume.changed.notify_all();
        outcome
    }

    async fn make_object(&self, volume: &Volume, step: &Step) -> Result<()> {
        match &step.source {
            Source::Itself => Ok(()),
            Source::Zeros => {
                count(&self.core.counters.fresh);
                self.make_fresh(volume, &step.object, self.durability())
                    .await
            }
            Source::Object {
                name,
                missing_is_zeros,
            } => {
                count(&self.core.counters.copies);
                let max = volume.with_map(|map| map.header().geometry.block_size().bytes())?;
                let pair = (name, &step.object);
                match self.copy_object(volume, pair, max.into()).await {
                    Err(Errno::NOENT) => {
                        self.missing(volume, name, *missing_is_zeros)?;
                        self.make_fresh(volume, &step.object, self.durability())
                            .await
                    }
                    other => other,
                }
            }
        }
    }

    /// An object that an entry names is not there: zeros if Archipelago made it, else EIO.
    fn missing(&self, volume: &Volume, object: &ObjectName, is_zeros: bool) -> Result<()> {
        count(&self.core.counters.missing_objects);
        match is_zeros {
            true => {
                tracing::warn!(volume = %volume.name(), %object, "a missing object counts as zeros");
                Ok(())
            }
            false => {
                tracing::error!(volume = %volume.name(), %object, "a block's object is missing");
                Err(Errno::IO)
            }
        }
    }

    /// Writes the entries of neighbouring blocks of one page, then shows them to everybody.
    async fn publish(&self, volume: &Volume, run: &[(u64, Entry)]) -> Result<()> {
        let first = run[0].0;
        let (found, bytes) = volume.with_map(|map| {
            let entries: Vec<Entry> = run.iter().map(|(_, entry)| *entry).collect();
            (
                map.found(),
                crate::order::encoded(&entries, first, map.names()),
            )
        })?;
        let map = (&found.header_name, found.layout);
        self.write_entries(volume, map, (first, &bytes), self.durability())
            .await?;
        volume.with_map(|map| {
            run.iter()
                .for_each(|(index, entry)| map.set_entry(*index, *entry))
        })
    }
}
