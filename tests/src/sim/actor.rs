//! A client of a simulation: writes, reads, trims nothing it does not know, and checks.

use super::model::{Model, SECTOR, Volume};
use super::world::{PORTS, World};
use client::{Core, Done};
use std::collections::BTreeMap;
use std::ops::Range;
use xseg::protocol::{CloneRequest, NameRequest, Operation, flags};
use xseg::{Name, Request};

/// Bytes of a simulated volume: small, so that requests meet.
pub const VOLUME_SIZE: u64 = 3 * (4 << 20);
/// Sectors around each block border that are used.
const HOT: u64 = 24;
const DEPTH: usize = 12;

enum Act {
    Write {
        volume: String,
        sectors: Range<u64>,
        value: u64,
    },
    Read {
        volume: String,
        sectors: Range<u64>,
        number: u64,
    },
    Flush,
    Close,
    Snapshot {
        volume: String,
        snapshot: String,
    },
    Clone {
        snapshot: String,
        volume: String,
    },
}

/// One client with several requests under way.
pub struct Actor {
    core: Core,
    acts: BTreeMap<u64, Act>,
    next: u64,
    value: u64,
    done: Vec<Done>,
    /// How many requests ended.
    pub ended: u64,
    /// How many of them because another node had the volume.
    pub given_up: u64,
}

/// What the actors share.
#[derive(Default)]
pub struct Shared {
    /// What may be seen.
    pub model: Model,
    /// Volumes that may be written.
    pub volumes: Vec<String>,
    /// Snapshots that are there.
    pub snapshots: Vec<String>,
    /// A snapshot or clone is under way.
    pub controlling: bool,
    /// Numbers for new names and reads.
    pub counter: u64,
    /// Another node takes locks as well: volumes are closed now and then.
    pub strangers: bool,
}

fn name(text: &str) -> Name {
    Name::try_from(text).expect("a short name")
}

fn bytes(sectors: &Range<u64>) -> Range<u64> {
    sectors.start * SECTOR..sectors.end * SECTOR
}

impl Actor {
    /// Actor number `number`; its values are its own.
    pub fn new(world: &World, number: u64) -> Actor {
        let seat = world.local.client_seat("actor").expect("a seat");
        Actor {
            core: Core::new(seat),
            acts: BTreeMap::new(),
            next: 0,
            value: number << 48,
            done: Vec::new(),
            ended: 0,
            given_up: 0,
        }
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> usize {
        self.acts.len()
    }

    /// Starts one more request, if it may.
    pub fn act(&mut self, world: &World, shared: &mut Shared) {
        if self.acts.len() >= DEPTH {
            return;
        }
        match world.below(100) {
            0..=1 => self.flush(world, shared),
            2..=3 => self.snapshot(world, shared),
            4 => self.clone_snapshot(world, shared),
            5 if shared.strangers => self.close(world, shared),
            5..=54 => self.write(world, shared),
            _ => self.read(world, shared),
        }
    }

    fn sectors(&self, world: &World) -> Range<u64> {
        let border = world.below(3) * ((4 << 20) / SECTOR);
        let start = (border + world.below(HOT)).saturating_sub(HOT / 2);
        let end = start + 1 + world.below(8);
        start..end.min(VOLUME_SIZE / SECTOR)
    }

    fn pick(world: &World, names: &[String]) -> Option<String> {
        names.get(world.below(names.len() as u64) as usize).cloned()
    }

    fn submit(
        &mut self,
        port: u32,
        request: Request,
        data: Option<&[u8]>,
        room: u64,
        act: Act,
    ) -> bool {
        let len = data.map_or(room, |d| d.len() as u64);
        let buffer = match len {
            0 => None,
            _ => match self.core.take_buffer(len) {
                Some(buffer) => Some(buffer),
                None => return false,
            },
        };
        if let (Some(buffer), Some(data)) = (&buffer, data) {
            buffer.fill(data);
        }
        let token = self.next;
        match self.core.submit(port, &request, buffer, token) {
            Ok(()) => {
                self.next += 1;
                self.acts.insert(token, act);
                true
            }
            Err((errno, back)) => {
                assert_eq!(errno, libc::EAGAIN, "a simulated node has its ports");
                back.iter().for_each(|b| self.core.give_buffer_back(b));
                false
            }
        }
    }

    fn write(&mut self, world: &World, shared: &mut Shared) {
        let Some(volume) = Self::pick(world, &shared.volumes) else {
            return;
        };
        let sectors = self.sectors(world);
        self.value += 1;
        let value = self.value;
        let range = bytes(&sectors);
        let data = value
            .to_le_bytes()
            .repeat(((range.end - range.start) / 8) as usize);
        let fua = if world.below(8) == 0 { flags::FUA } else { 0 };
        let request = Request {
            offset: range.start,
            size: range.end - range.start,
            flags: fua,
            ..Request::new(Operation::Write, name(&volume))
        };
        let act = Act::Write {
            volume: volume.clone(),
            sectors: sectors.clone(),
            value,
        };
        if self.submit(PORTS.vlmcd, request, Some(&data), 0, act) {
            shared
                .model
                .entry(volume)
                .or_default()
                .write_begins(sectors, value);
        }
    }

    fn read(&mut self, world: &World, shared: &mut Shared) {
        let all: Vec<String> = shared.model.keys().cloned().collect();
        let Some(volume) = Self::pick(world, &all) else {
            return;
        };
        let sectors = self.sectors(world);
        let range = bytes(&sectors);
        let len = range.end - range.start;
        let request = Request {
            offset: range.start,
            size: len,
            ..Request::new(Operation::Read, name(&volume))
        };
        shared.counter += 1;
        let number = shared.counter;
        let act = Act::Read {
            volume: volume.clone(),
            sectors: sectors.clone(),
            number,
        };
        if self.submit(PORTS.vlmcd, request, None, len, act) {
            shared
                .model
                .entry(volume)
                .or_default()
                .read_begins(number, sectors);
        }
    }

    fn flush(&mut self, world: &World, shared: &Shared) {
        let Some(volume) = Self::pick(world, &shared.volumes) else {
            return;
        };
        let request = Request::new(Operation::Flush, name(&volume));
        self.submit(PORTS.vlmcd, request, None, 0, Act::Flush);
    }

    fn close(&mut self, world: &World, shared: &Shared) {
        let Some(volume) = Self::pick(world, &shared.volumes) else {
            return;
        };
        let request = Request::new(Operation::Close, name(&volume));
        self.submit(PORTS.vlmcd, request, None, 0, Act::Close);
    }

    fn snapshot(&mut self, world: &World, shared: &mut Shared) {
        if shared.controlling || shared.snapshots.len() >= 12 {
            return;
        }
        let Some(volume) = Self::pick(world, &shared.volumes) else {
            return;
        };
        shared.counter += 1;
        let snapshot = format!("snapshot-{}", shared.counter);
        let request = Request::new(Operation::Snapshot, name(&volume));
        let data = NameRequest(name(&snapshot)).encode();
        // By whatever door it comes: through vlmcd, or straight to mapperd (B12).
        let port = if world.below(2) == 0 {
            PORTS.vlmcd
        } else {
            PORTS.mapperd
        };
        let act = Act::Snapshot {
            volume: volume.clone(),
            snapshot,
        };
        if self.submit(port, request, Some(&data), 0, act) {
            shared.controlling = true;
            shared.model.entry(volume).or_default().snapshot_begins();
        }
    }

    fn clone_snapshot(&mut self, world: &World, shared: &mut Shared) {
        if shared.controlling || shared.volumes.len() >= 6 {
            return;
        }
        let Some(snapshot) = Self::pick(world, &shared.snapshots) else {
            return;
        };
        shared.counter += 1;
        let volume = format!("clone-{}", shared.counter);
        let request = Request::new(Operation::Clone, name(&volume));
        let data = CloneRequest {
            parent: name(&snapshot),
            size: 0,
        }
        .encode();
        let act = Act::Clone { snapshot, volume };
        if self.submit(PORTS.mapperd, request, Some(&data), 0, act) {
            shared.controlling = true;
        }
    }

    /// Takes what was answered and checks it. Err: what was wrong.
    pub fn collect(&mut self, shared: &mut Shared) -> Result<(), String> {
        let mut done = std::mem::take(&mut self.done);
        self.core.poll(&mut done);
        for one in done.drain(..) {
            let act = self.acts.remove(&one.token).expect("an act of mine");
            let gave_up = shared.strangers && one.answer.result() == Err(libc::EBUSY);
            self.given_up += u64::from(gave_up);
            let checked = match gave_up {
                true => give_up(act, shared),
                false => check(act, &one, shared),
            };
            for buffer in one.data.iter().chain(&one.larger) {
                self.core.give_buffer_back(buffer);
            }
            self.ended += 1;
            checked?;
        }
        self.done = done;
        Ok(())
    }
}

/// Another node has the volume. Of a write nothing is known then; it is allowed, and never due.
fn give_up(act: Act, shared: &mut Shared) -> Result<(), String> {
    match act {
        Act::Write { .. } => Ok(()),
        Act::Snapshot { volume, .. } => {
            shared.controlling = false;
            shared.model.entry(volume).or_default().snapshot_ends();
            Ok(())
        }
        Act::Read { volume, .. } => Err(format!("a read of {volume} needed its lock")),
        Act::Flush | Act::Close | Act::Clone { .. } => Err("EBUSY".into()),
    }
}

fn check(act: Act, done: &Done, shared: &mut Shared) -> Result<(), String> {
    let served = done.answer.result();
    let failed = |what: String| Err(format!("{what} failed: errno {:?}", served));
    match act {
        Act::Flush => served.map(drop).or_else(|_| failed("flush".into())),
        // It was not open.
        Act::Close if served == Err(libc::EINVAL) => Ok(()),
        Act::Close => served.map(drop).or_else(|_| failed("close".into())),
        Act::Write {
            volume,
            sectors,
            value,
        } => {
            let bytes = bytes(&sectors);
            if served != Ok(bytes.end - bytes.start) {
                return failed(format!("write of {volume} at {bytes:?}"));
            }
            shared
                .model
                .entry(volume)
                .or_default()
                .write_ends(sectors, value);
            Ok(())
        }
        Act::Read {
            volume,
            sectors,
            number,
        } => {
            let bytes = bytes(&sectors);
            if served != Ok(bytes.end - bytes.start) {
                return failed(format!("read of {volume} at {bytes:?}"));
            }
            let data = done.data.as_ref().map(|d| d.to_vec()).unwrap_or_default();
            let model = shared.model.entry(volume.clone()).or_default();
            let values =
                values(&data).ok_or_else(|| format!("a torn sector in {volume} at {bytes:?}"))?;
            model
                .read_ends(number, &values)
                .map_err(|(sector, value, allowed)| {
                    format!("{volume} sector {sector} shows {value:#x}, allowed {allowed:x?}")
                })
        }
        Act::Snapshot { volume, snapshot } => {
            shared.controlling = false;
            if served.is_err() {
                return failed(format!("snapshot {snapshot} of {volume}"));
            }
            let frozen = shared.model.entry(volume).or_default().snapshot_ends();
            shared.model.insert(snapshot.clone(), frozen);
            shared.snapshots.push(snapshot);
            Ok(())
        }
        Act::Clone { snapshot, volume } => {
            shared.controlling = false;
            if served.is_err() {
                return failed(format!("clone {volume} of {snapshot}"));
            }
            let cloned = shared
                .model
                .get(&snapshot)
                .map(Volume::cloned)
                .unwrap_or_default();
            shared.model.insert(volume.clone(), cloned);
            shared.volumes.push(volume);
            Ok(())
        }
    }
}

/// The value of each sector; `None` when a sector is not of one value.
fn values(data: &[u8]) -> Option<Vec<u64>> {
    data.chunks_exact(SECTOR as usize)
        .map(|sector| {
            let first = &sector[..8];
            let whole = sector.chunks_exact(8).all(|word| word == first);
            whole.then(|| u64::from_le_bytes(first.try_into().expect("eight bytes")))
        })
        .collect()
}
