//! The node of a test: two blockers over memory in one process, mapperd in another, a client, and
//! a peer that plays vlmcd. Nothing happens but in [`Rig::turn`].

use crate::short::{Half, Short};
use blocker::{Blocker, Settings};
use driver::{Faults, HashAlgorithm, MemoryDriver, MemoryStore};
use mapperd::{Config, Mapperd};
use reactor::{Env, Executor, SimClock, Timers};
use runtime::{Desk, Host, LeaseTerm};
use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use xseg::join::Local;
use xseg::protocol::{
    CloneRequest, CreateObject, CreateRequest, MapReply, MapSegment, NameRequest, Operation, flags,
};
use xseg::report::Report;
use xseg::seat::{PRIVATE, PUBLIC, RequestId};
use xseg::{Answer, Bells, Event, Extent, Name, RegionSpec, Request, Seat, SeatNo};

pub(crate) const BLOCKERB: u32 = 0;
pub(crate) const BLOCKERM: u32 = 1;
pub(crate) const MAPPERD: u32 = 2;
/// The usual block size.
pub(crate) const BLOCK: u64 = 4 << 20;
const OWNER: &str = "testhost_1";

struct NoBells;

impl Bells for NoBells {
    fn ring(&self, _: SeatNo) {}
    fn descriptor(&self, _: SeatNo) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Somebody who asks, over one region.
pub(crate) struct Asker {
    seat: Seat,
    region: u8,
    buffers: HashMap<RequestId, Extent>,
    done: HashMap<RequestId, (Answer, Vec<u8>)>,
}

impl Asker {
    fn new(seat: Seat, region: u8) -> Asker {
        Asker {
            seat,
            region,
            buffers: HashMap::new(),
            done: HashMap::new(),
        }
    }

    /// Sends a request with a buffer that begins with `data` and has `room` bytes at least.
    pub(crate) fn ask(&mut self, port: u32, request: Request, data: &[u8], room: u64) -> RequestId {
        let ticket = self.seat.claim(self.region).expect("a free slot");
        let len = room.max(data.len() as u64);
        let buffer = self
            .seat
            .take_buffer(self.region, len.max(1))
            .expect("a free buffer");
        buffer.fill(data);
        let request = Request {
            data: buffer.address(),
            datalen: len,
            ..request
        };
        let id = self
            .seat
            .submit(ticket, port, &request)
            .expect("a served port");
        self.buffers.insert(id, buffer);
        id
    }

    fn poll(&mut self) -> bool {
        let mut events = Vec::new();
        self.seat.poll(&mut events);
        let any = !events.is_empty();
        for event in events {
            let Event::Reply(ticket, answer) = event else {
                panic!("nobody asks a client")
            };
            let reply = self.seat.reply_data(&ticket);
            let bytes = reply.as_ref().map(Extent::to_vec).unwrap_or_default();
            if let Some(buffer) = self.buffers.remove(&ticket.id()) {
                self.seat.give_buffer_back(buffer.address());
                if let Some(larger) = reply.filter(|r| r.address() != buffer.address()) {
                    self.seat.give_buffer_back(larger.address());
                }
            }
            assert!(
                self.done.insert(ticket.id(), (answer, bytes)).is_none(),
                "answered twice"
            );
            self.seat.release(ticket);
        }
        any
    }

    /// Whether the answer is there.
    pub(crate) fn is_done(&self, id: RequestId) -> bool {
        self.done.contains_key(&id)
    }

    /// The answer, once it is there.
    pub(crate) fn take(&mut self, id: RequestId) -> Option<Result<(Answer, Vec<u8>), i32>> {
        let (answer, bytes) = self.done.remove(&id)?;
        Some(answer.result().map(|_| (answer, bytes)))
    }
}

/// What a test may change about the blockers.
#[derive(Clone, Default)]
pub(crate) struct Weather {
    pub(crate) maps: Option<Faults>,
    pub(crate) blocks: Option<Faults>,
    pub(crate) half: Rc<Cell<Half>>,
    /// Whether storage hears nothing of locks that others give back, as files do not.
    pub(crate) deaf: bool,
}

/// The node.
pub(crate) struct Rig {
    local: Local,
    pub(crate) clock: Rc<SimClock>,
    env: Env,
    pub(crate) blocks: MemoryStore,
    pub(crate) maps: MemoryStore,
    pub(crate) storage: Option<Host>,
    pub(crate) mapper: Option<Host>,
    pub(crate) weather: Weather,
    /// A client of the public region.
    pub(crate) client: Asker,
    /// A peer, as vlmcd is one.
    pub(crate) peer: Asker,
    pub(crate) nr_ops: usize,
    pub(crate) lease_term: LeaseTerm,
}

impl Rig {
    /// A node that serves.
    pub(crate) fn new() -> Rig {
        Rig::over(MemoryStore::new(), MemoryStore::new())
    }

    /// A node over storage that is there already.
    pub(crate) fn over(maps: MemoryStore, blocks: MemoryStore) -> Rig {
        let (env, clock) = Env::simulated(1);
        clock.advance(1_000_000_000);
        let spec = RegionSpec::public(64, 32, 64);
        let local = Local::with_bells(spec, Arc::new(NoBells)).expect("a small segment");
        let mut client = local.client_seat("client").expect("a seat");
        client.bind_dynamic().expect("a port");
        let mut rig = Rig {
            client: Asker::new(client, PUBLIC),
            peer: Asker::new(local.peer_seat("vlmcd").expect("a seat"), PRIVATE),
            local,
            clock,
            env,
            blocks,
            maps,
            storage: None,
            mapper: None,
            weather: Weather::default(),
            nr_ops: 32,
            lease_term: LeaseTerm::DEFAULT,
        };
        rig.start_storage();
        rig.start_mapper();
        rig
    }

    /// Starts the process of both blockers.
    pub(crate) fn start_storage(&mut self) {
        let (executor, timers) = (Executor::new(), Timers::new());
        let mut host = Host::new(self.env.clone(), executor.clone(), timers.clone());
        let roles = [
            ("blockerb", BLOCKERB, &self.blocks, &self.weather.blocks),
            ("blockerm", BLOCKERM, &self.maps, &self.weather.maps),
        ];
        for (role, port, store, faults) in roles {
            store.drain();
            let driver = match faults {
                None => MemoryDriver::new(store, OWNER),
                Some(faults) => MemoryDriver::with_faults(store, OWNER, faults.clone()),
            };
            let desk = Desk::new(self.local.peer_seat(role).expect("a seat"));
            let settings = Settings {
                role: role.into(),
                nr_ops: 64,
                hash_algorithm: HashAlgorithm::Sha256,
                lease_term: self.lease_term,
            };
            let (timers, executor) = (timers.clone(), executor.clone());
            let half = self.weather.half.clone();
            let driver = Box::new(Short::new(driver, half, self.weather.deaf));
            let env = self.env.clone();
            let peer = Blocker::new(settings, desk.clone(), driver, env, timers, executor);
            host.add(desk.clone(), Box::new(peer));
            assert!(desk.with_seat(|seat| seat.bind(port, port)));
        }
        self.storage = Some(host);
    }

    /// Starts mapperd.
    pub(crate) fn start_mapper(&mut self) {
        let (executor, timers) = (Executor::new(), Timers::new());
        let mut host = Host::new(self.env.clone(), executor.clone(), timers.clone());
        let desk = Desk::new(self.local.peer_seat("mapperd").expect("a seat"));
        let config = Config {
            blockerm_port: BLOCKERM,
            blockerb_port: BLOCKERB,
            map_version: 2,
            nr_ops: self.nr_ops,
            lease_term: self.lease_term,
        };
        let peer = Mapperd::new(config, desk.clone(), executor, timers, self.env.clone());
        host.add(desk.clone(), Box::new(peer));
        assert!(desk.with_seat(|seat| seat.bind(MAPPERD, MAPPERD)));
        self.mapper = Some(host);
    }

    /// Kills mapperd where it stands.
    pub(crate) fn kill_mapper(&mut self) {
        self.mapper.take().expect("a living mapperd").kill();
    }

    /// Kills both blockers where they stand.
    pub(crate) fn kill_storage(&mut self) {
        self.storage.take().expect("living blockers").kill();
    }

    /// Everybody who lives gets a turn. True: something happened.
    pub(crate) fn turn(&mut self) -> bool {
        self.clock.advance(1000);
        let mut any = self.mapper.as_mut().is_some_and(Host::turn);
        any |= self.storage.as_mut().is_some_and(Host::turn);
        any |= self.client.poll();
        any | self.peer.poll()
    }

    /// Turns until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the node never comes to rest");
    }

    /// Buffers of both regions that are taken.
    pub(crate) fn buffers_in_use(&self) -> u32 {
        let region = |number| self.peer.seat.segment(number).expect("a peer sees both");
        let report = Report::new(region(PUBLIC), Some(region(PRIVATE)), &|_| true);
        report.buffers_in_use(PUBLIC) + report.buffers_in_use(PRIVATE)
    }

    /// What the clock shows.
    pub(crate) fn clock_ns(&self) -> u64 {
        self.env.clock.now_ns()
    }

    /// Lets time pass, and what is due happen.
    pub(crate) fn pass(&mut self, ns: u64) {
        self.clock.advance(ns);
        self.settle();
    }

    /// Asks as a client, and waits for the answer.
    pub(crate) fn call(
        &mut self,
        request: Request,
        data: &[u8],
        room: u64,
    ) -> Result<Vec<u8>, i32> {
        let id = self.client.ask(MAPPERD, request, data, room);
        self.settle();
        let answer = self
            .client
            .take(id)
            .expect("an answer without time passing");
        answer.map(|(_, bytes)| bytes)
    }

    /// Asks as vlmcd.
    pub(crate) fn call_as_peer(&mut self, request: Request) -> Result<(Answer, Vec<u8>), i32> {
        let id = self.peer.ask(MAPPERD, request, &[], 1 << 16);
        self.settle();
        self.peer.take(id).expect("an answer without time passing")
    }

    /// An operation that has no data.
    pub(crate) fn simple(&mut self, op: Operation, volume: &str) -> Result<(), i32> {
        self.call(Request::new(op, name(volume)), &[], 0)
            .map(|_| ())
    }

    /// Asks a blocker as a client.
    pub(crate) fn storage_call(
        &mut self,
        port: u32,
        request: Request,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let id = self.client.ask(port, request, data, 4096);
        self.settle();
        self.client
            .take(id)
            .expect("an answer")
            .map(|(_, bytes)| bytes)
    }

    // ---- operations ----

    pub(crate) fn create(&mut self, volume: &str, size: u64) -> Result<(), i32> {
        self.clone_of("", volume, size)
    }

    pub(crate) fn clone_of(&mut self, parent: &str, volume: &str, size: u64) -> Result<(), i32> {
        let (request, data) = clone_request(parent, volume, size);
        self.call(request, &data, 0).map(|_| ())
    }

    pub(crate) fn snapshot(&mut self, volume: &str, snapshot: &str) -> Result<(), i32> {
        let (request, data) = naming_request(Operation::Snapshot, volume, snapshot);
        self.call(request, &data, 0).map(|_| ())
    }

    pub(crate) fn rename(&mut self, volume: &str, new: &str) -> Result<(), i32> {
        let (request, data) = naming_request(Operation::Rename, volume, new);
        self.call(request, &data, 0).map(|_| ())
    }

    pub(crate) fn truncate(&mut self, volume: &str, size: u64, flags: u32) -> Result<(), i32> {
        self.call(truncate_request(volume, size, flags), &[], 0)
            .map(|_| ())
    }

    pub(crate) fn info(&mut self, volume: &str) -> Result<u64, i32> {
        let reply = self.call(Request::new(Operation::Info, name(volume)), &[], 8)?;
        Ok(u64::from_le_bytes(
            reply[..8].try_into().expect("eight bytes"),
        ))
    }

    /// MAPR or MAPW as vlmcd: what it says, and the segments.
    pub(crate) fn map(
        &mut self,
        op: Operation,
        volume: &str,
        offset: u64,
        size: u64,
    ) -> Result<(Answer, Vec<MapSegment>), i32> {
        self.map_with(op, volume, offset, size, 0)
    }

    pub(crate) fn map_with(
        &mut self,
        op: Operation,
        volume: &str,
        offset: u64,
        size: u64,
        flags: u32,
    ) -> Result<(Answer, Vec<MapSegment>), i32> {
        let (answer, bytes) = self.call_as_peer(map_request(op, volume, offset, size, flags))?;
        Ok((answer, MapReply::decode(&bytes).expect("a map").segments))
    }

    /// Writes as vlmcd does: MAPW, then the objects.
    pub(crate) fn write(&mut self, volume: &str, offset: u64, data: &[u8]) -> Result<(), i32> {
        let size = data.len() as u64;
        let (answer, segments) = self.map(Operation::MapWrite, volume, offset, size)?;
        let mut at = 0;
        for segment in segments {
            let part = &data[at..at + segment.size as usize];
            at += segment.size as usize;
            let request = Request {
                offset: segment.offset,
                size: segment.size,
                flags: flags::VOLATILE,
                tag: answer.tag,
                lease: answer.lease,
                ..Request::new(Operation::Write, segment.name)
            };
            let id = self.peer.ask(BLOCKERB, request, part, 0);
            self.settle();
            self.peer.take(id).expect("an answer")?;
        }
        Ok(())
    }

    /// Reads as vlmcd does.
    pub(crate) fn read(&mut self, volume: &str, offset: u64, size: u64) -> Result<Vec<u8>, i32> {
        let (_, segments) = self.map(Operation::MapRead, volume, offset, size)?;
        let mut data = Vec::new();
        for segment in segments {
            let mut part = self.block(&segment.name).unwrap_or_default();
            part.resize(part.len().max((segment.offset + segment.size) as usize), 0);
            data.extend_from_slice(&part[segment.offset as usize..][..segment.size as usize]);
        }
        Ok(data)
    }

    // ---- what is stored ----

    /// Makes an object of the map storage hold `bytes`.
    pub(crate) fn maps_put(&mut self, object: &str, bytes: &[u8]) {
        self.put(BLOCKERM, object, bytes);
    }

    /// Makes a data object hold `bytes`.
    pub(crate) fn blocks_put(&mut self, object: &str, bytes: &[u8]) {
        self.put(BLOCKERB, object, bytes);
    }

    fn put(&mut self, port: u32, object: &str, bytes: &[u8]) {
        let size = bytes.len() as u64;
        let request = Request {
            size,
            ..Request::new(Operation::Write, name(object))
        };
        self.storage_call(port, request, bytes)
            .expect("it can be written");
    }

    /// An object of the map storage.
    pub(crate) fn stored(&self, object: &str) -> Option<Vec<u8>> {
        self.maps
            .content(&driver::Name::try_from(object).expect("a name"))
    }

    /// A data object.
    pub(crate) fn block(&self, object: &[u8]) -> Option<Vec<u8>> {
        self.blocks
            .content(&driver::Name::new(object).expect("a name"))
    }

    /// A header's bytes in hexadecimal.
    pub(crate) fn header(&self, volume: &str) -> String {
        hex(&self.stored(volume).expect("a header")[..32])
    }

    /// The flags and names of a volume's entries, as far as there are chunks.
    pub(crate) fn entries(&self, volume: &str) -> Vec<(u8, String)> {
        let chunks = (0..).map_while(|n| self.stored(&format!("{volume}_{n:016x}")));
        chunks
            .flat_map(|chunk| chunk.chunks_exact(128).map(entry).collect::<Vec<_>>())
            .collect()
    }

    /// Whether the note of a rename is about.
    pub(crate) fn is_noted(&self) -> bool {
        let names = self.maps.names();
        names
            .iter()
            .any(|name| name.ends_with(b"_ffffffffffffffff"))
    }

    /// Whether a lock is held, as another node sees it: nobody here gets a turn.
    pub(crate) fn maps_locked(&self, volume: &str) -> bool {
        let mut stranger = Stranger::new(self);
        let free = stranger.acquire(volume);
        if free {
            assert!(stranger.release(volume, false));
        }
        !free
    }

    /// Whether somebody holds the lock of a volume.
    pub(crate) fn is_locked(&mut self, volume: &str) -> bool {
        let request = Request::new(Operation::LockInfo, name(volume));
        let reply = self
            .storage_call(BLOCKERM, request, &[])
            .expect("an answer");
        String::from_utf8_lossy(&reply).contains("owner")
    }
}

/// Another node, as far as its locks go.
pub(crate) struct Stranger(MemoryDriver);

impl Stranger {
    pub(crate) fn new(rig: &Rig) -> Stranger {
        Stranger(MemoryDriver::new(&rig.maps, "otherhost_9"))
    }

    fn act(&mut self, op: driver::Op) -> bool {
        use driver::Driver as _;
        let mut done = Vec::new();
        self.0.submit(driver::OpId(1), op);
        self.0.poll(&mut done);
        done.remove(0).result.is_ok()
    }

    pub(crate) fn acquire(&mut self, volume: &str) -> bool {
        self.act(driver::Op::Acquire {
            name: driver::Name::try_from(volume).unwrap(),
        })
    }

    pub(crate) fn release(&mut self, volume: &str, force: bool) -> bool {
        self.act(driver::Op::Release {
            name: driver::Name::try_from(volume).unwrap(),
            force,
        })
    }

    /// Writes an object of the map storage, or, without bytes, removes it.
    pub(crate) fn change(&mut self, object: &str, bytes: Option<&[u8]>) {
        let name = driver::Name::try_from(object).unwrap();
        let done = self.act(match bytes {
            Some(bytes) => driver::Op::Write {
                name,
                offset: 0,
                buf: driver::Buf::from_bytes(bytes),
                tag: driver::Tag::NONE,
                fresh: false,
                durable: true,
            },
            None => driver::Op::Delete {
                name,
                durable: true,
            },
        });
        assert!(done, "{object}");
    }
}

fn entry(bytes: &[u8]) -> (u8, String) {
    let len = u32::from_le_bytes(bytes[1..5].try_into().expect("four bytes")) as usize;
    assert!(bytes[5 + len..].iter().all(|&b| b == 0), "padding is zero");
    (
        bytes[0],
        String::from_utf8_lossy(&bytes[5..5 + len]).into_owned(),
    )
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn name(text: &str) -> Name {
    Name::try_from(text).expect("a short name")
}

/// The name of the object of block `index` that `volume` makes in `epoch`.
pub(crate) fn object(volume: &str, epoch: u64, index: u64) -> String {
    format!("{volume}_{epoch:016x}_{index:016x}")
}

pub(crate) const ZERO_NAME: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(crate) fn clone_request(parent: &str, volume: &str, size: u64) -> (Request, Vec<u8>) {
    let data = CloneRequest {
        parent: name(parent),
        size,
    }
    .encode()
    .to_vec();
    (Request::new(Operation::Clone, name(volume)), data)
}

pub(crate) fn naming_request(op: Operation, volume: &str, other: &str) -> (Request, Vec<u8>) {
    (
        Request::new(op, name(volume)),
        NameRequest(name(other)).encode().to_vec(),
    )
}

pub(crate) fn truncate_request(volume: &str, size: u64, flags: u32) -> Request {
    Request {
        offset: size,
        flags,
        ..Request::new(Operation::Truncate, name(volume))
    }
}

pub(crate) fn map_request(
    op: Operation,
    volume: &str,
    offset: u64,
    size: u64,
    flags: u32,
) -> Request {
    Request {
        offset,
        size,
        flags,
        ..Request::new(op, name(volume))
    }
}

pub(crate) fn create_request(
    volume: &str,
    size: u64,
    block_size: u32,
    map_flags: u32,
    objects: &[(&str, u32)],
) -> (Request, Vec<u8>) {
    let objects = objects
        .iter()
        .map(|(object, flags)| CreateObject {
            name: name(object),
            flags: *flags,
        })
        .collect();
    let data = CreateRequest {
        block_size,
        flags: map_flags,
        objects,
    }
    .encode();
    (
        Request {
            size,
            ..Request::new(Operation::Create, name(volume))
        },
        data,
    )
}
