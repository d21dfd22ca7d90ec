//! An embedded node over a storage, and raw requests to its peers.

use crate::storage::Place;
use client::{Client, Hint, Name};
use config::{NodeConfig, Role, RoleKind, SampleParams};
use node::roles::Purpose;
use node::{Embedded, Storage};
use std::path::Path;
use std::pin::pin;
use std::sync::mpsc::RecvTimeoutError;
use std::task::Poll;
use std::time::Duration;
use xseg::Request;
use xseg::protocol::{MapReply, MapSegment, NameRequest, Operation, PortNo, flags};

/// Who the original was when it wrote the golden trees (`peer_uniquestr` of the manifest).
pub const OWNER_M: &str = "refhost_1002";
/// The same, of the blocker of data.
pub const OWNER_B: &str = "refhost_1000";

/// A name, as requests carry it.
pub fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

/// What a node over a tree of files may vary in.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// O_DIRECT.
    pub direct: bool,
    /// `pithos_migrate` of both blockers.
    pub migrate: bool,
    /// `unique_str` of blockerm.
    pub owner: &'static str,
    /// Lock files lie in `locks`; without it, beside the maps.
    pub flat_locks: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            direct: false,
            migrate: false,
            owner: OWNER_M,
            flat_locks: true,
        }
    }
}

/// An embedded node and one client of it. What it makes has the modes of umask 007.
pub struct Node {
    client: Client,
    embedded: Embedded,
}

/// What was serviced and the reply's data; or an errno.
pub type Answer = Result<(u64, Vec<u8>), i32>;

impl Node {
    /// A node whose folder is `dir` and whose objects are in `place`; what is missing of either is
    /// made.
    pub fn on(dir: &Path, place: &Place, setup: Setup) -> Node {
        if matches!(place, Place::Memory) {
            return Node::of(Embedded::in_memory().unwrap());
        }
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o007));
        let file = dir.join("archipelago.conf");
        if !file.exists() {
            let mut params = SampleParams::new(dir);
            place.vary(&mut params);
            params.write().unwrap();
        }
        let config = NodeConfig::load(&file).unwrap();
        let mut roles = config.roles.clone();
        roles.iter_mut().for_each(|role| set_up(role, setup));
        let storage = Storage::Roles {
            roles,
            places: config.archipelago.places(),
            purpose: Purpose::Serve,
        };
        Node::of(Embedded::start(storage, 64).unwrap())
    }

    fn of(embedded: Embedded) -> Node {
        let client = embedded.client().unwrap();
        Node { client, embedded }
    }

    /// Its client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The node itself, which threads may share.
    pub fn embedded(&self) -> &Embedded {
        &self.embedded
    }

    /// Where its peers serve: blockerb, blockerm, mapperd, vlmcd.
    pub fn all_ports(&self) -> [PortNo; 4] {
        let ports = self.client.ports();
        [ports.blockerb, ports.blockerm, ports.mapperd, ports.vlmcd]
    }

    /// Waits until no object is being moved in the background.
    pub fn settle(&self) {
        let ports = self.client.ports();
        for port in [ports.blockerm, ports.blockerb] {
            while moving(&self.client, port) > 0 {
                std::thread::yield_now();
            }
        }
    }

    /// Stops the node, which gives back what it holds.
    pub fn stop(self) {
        drop(self.client);
        self.embedded.stop().unwrap();
    }

    /// One request to the peer at `port`, with `bytes` as its data.
    pub fn ask(&self, port: PortNo, request: Request, bytes: &[u8]) -> Answer {
        let call = self.client.call(port, request, bytes, 0);
        let reply = self.client.block_on(call)?;
        Ok((reply.serviced, reply.bytes))
    }

    /// An operation on a whole volume or object, with no data: does it succeed?
    pub fn do_to(&self, port: PortNo, operation: Operation, target: &str) -> Result<(), i32> {
        let request = Request::new(operation, name(target));
        self.ask(port, request, &[]).map(drop)
    }

    /// READ of a volume (vlmcd) or object (a blocker), in one request.
    pub fn read(&self, port: PortNo, target: &str, offset: u64, size: u64) -> Answer {
        let request = Request {
            offset,
            size,
            ..Request::new(Operation::Read, name(target))
        };
        self.ask(port, request, &vec![0xee; size as usize])
    }

    /// WRITE, in one request; what was serviced.
    pub fn write(&self, port: PortNo, target: &str, offset: u64, bytes: &[u8]) -> Result<u64, i32> {
        let request = Request {
            offset,
            size: bytes.len() as u64,
            ..Request::new(Operation::Write, name(target))
        };
        self.ask(port, request, bytes).map(|(serviced, _)| serviced)
    }

    /// SNAPSHOT or RENAME at vlmcd, COPY at a blocker: an operation with one more name.
    pub fn with_name(
        &self,
        port: PortNo,
        operation: Operation,
        target: &str,
        other: &str,
        size: u64,
    ) -> Result<u64, i32> {
        let request = Request {
            size,
            ..Request::new(operation, name(target))
        };
        let bytes = NameRequest(name(other)).encode();
        self.ask(port, request, &bytes)
            .map(|(serviced, _)| serviced)
    }

    /// MAPR or MAPW: the objects behind a range.
    pub fn map(
        &self,
        operation: Operation,
        volume: &str,
        offset: u64,
        size: u64,
    ) -> Result<Vec<MapSegment>, i32> {
        self.map_with(operation, volume, (offset, size), Hint::default(), 0)
    }

    /// MAPR with PEEK, which neither takes the lock nor upgrades.
    pub fn peek(&self, volume: &str, size: u64, hint: Hint) -> Result<Vec<MapSegment>, i32> {
        self.map_with(Operation::MapRead, volume, (0, size), hint, flags::PEEK)
    }

    fn map_with(
        &self,
        operation: Operation,
        volume: &str,
        (offset, size): (u64, u64),
        hint: Hint,
        flags: u32,
    ) -> Result<Vec<MapSegment>, i32> {
        let request = hinted(
            Request {
                offset,
                size,
                flags,
                ..Request::new(operation, name(volume))
            },
            hint,
        );
        let (_, bytes) = self.ask(self.client.ports().mapperd, request, &[])?;
        Ok(MapReply::decode(&bytes).unwrap().segments)
    }
}

/// What a node over files may vary in; in a pool there is nothing of the kind.
fn set_up(role: &mut Role, setup: Setup) {
    let owner = match role.name.as_str() {
        "blockerm" => setup.owner,
        _ => OWNER_B,
    };
    if let RoleKind::FileBlocker(files) = &mut role.kind {
        files.direct = setup.direct;
        files.pithos_migrate = setup.migrate;
        files.unique_str = Some(owner.to_owned());
        files.lock_dir = files.lock_dir.take().filter(|_| setup.flat_locks);
    }
}

/// How many objects the blocker at `port` is moving.
pub fn moving(client: &Client, port: PortNo) -> u64 {
    let status = client.status(port, Name::EMPTY, Hint::default()).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    status["moving"].as_u64().expect("a blocker says it")
}

/// `request` with what its sender knows of maps without a header.
fn hinted(request: Request, hint: Hint) -> Request {
    if !hint.assume_v0 {
        return request;
    }
    Request {
        flags: request.flags | flags::ASSUME_V0,
        v0_size: hint.v0_size.unwrap_or(request.v0_size),
        ..request
    }
}

/// Runs `body`, which would hang where the original did: a minute is more than it ever takes.
pub fn ends(body: impl FnOnce() + Send + 'static) {
    let (ended, end) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        // Nobody listens any more, if it took too long.
        let _ = ended.send(());
    });
    if end.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
        panic!("this has not ended after a minute");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs two futures of one client to their ends, by turns.
pub async fn both<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(move |cx| {
        if first.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(cx)
        {
            first = Some(output);
        }
        if second.is_none()
            && let Poll::Ready(output) = other.as_mut().poll(cx)
        {
            second = Some(output);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}
