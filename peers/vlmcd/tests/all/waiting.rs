//! Writes of volumes that another node holds: they wait, whoever is not concerned is served, and a
//! close or a stop ends them.
//!
//! mapperd is played: what it is asked about the volumes of another node it keeps, until the test
//! says what comes of it, as the real one keeps it for a second.

use reactor::{Env, Executor, SimClock, Timers};
use runtime::{Desk, Host, LeaseTerm, Peer};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use vlmcd::{Settings, Vlmcd};
use xseg::join::Local;
use xseg::protocol::{MapReply, MapSegment, Operation, flags, mapflags};
use xseg::seat::{PUBLIC, RequestId};
use xseg::{Answer, Bells, Event, Incoming, Name, RegionSpec, Request, Seat, SeatNo};

const BLOCKERB: u32 = 0;
const MAPPERD: u32 = 2;
const VLMCD: u32 = 3;
const BLOCK: u64 = 4096;
const NR_OPS: usize = 4;

struct NoBells;

impl Bells for NoBells {
    fn ring(&self, _: SeatNo) {}
    fn descriptor(&self, _: SeatNo) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What mapperd was asked and has not answered, and whose lock another node has.
#[derive(Default)]
struct Elsewhere {
    held: BTreeSet<String>,
    kept: Vec<(Incoming, Request)>,
    /// How often each volume's lock was asked for in vain.
    asked: BTreeMap<String, u32>,
}

struct Mapper {
    desk: Desk,
    env: Env,
    elsewhere: Rc<RefCell<Elsewhere>>,
}

struct Blocker {
    desk: Desk,
}

fn text(name: &Name) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl Mapper {
    fn map(&self, incoming: Incoming, request: &Request, leased: bool) {
        let writable = if leased { mapflags::WRITABLE } else { 0 };
        let segment = |index: u64| MapSegment {
            name: Name::try_from(&*format!("object-{index}")).unwrap(),
            flags: mapflags::ARCHIP | writable,
            offset: 0,
            size: BLOCK,
        };
        let blocks = request.offset / BLOCK..(request.offset + request.size).div_ceil(BLOCK);
        let segments = blocks.map(segment).collect();
        let bytes = MapReply { segments }.encode();
        self.desk.reply_bytes(&incoming, request, &bytes).unwrap();
        let answer = Answer {
            tag: request.tag,
            lease: if leased { self.env.clock.now_ns() } else { 0 },
            volume_size: 64 * BLOCK,
            block_size: BLOCK as u32,
            ..Answer::served(request.size)
        };
        self.desk.answer(incoming, answer);
    }
}

impl Peer for Mapper {
    fn request(&mut self, incoming: Incoming, request: &Request) {
        let name = text(&request.target);
        let held = self.elsewhere.borrow().held.contains(&name);
        match request.operation().unwrap() {
            Operation::MapWrite if held && request.has(flags::NOSYNC) => {
                self.desk.answer(incoming, Answer::failed(libc::EBUSY));
            }
            Operation::MapWrite if held => {
                let mut elsewhere = self.elsewhere.borrow_mut();
                *elsewhere.asked.entry(name).or_default() += 1;
                elsewhere.kept.push((incoming, *request));
            }
            Operation::MapRead | Operation::MapWrite => self.map(incoming, request, !held),
            Operation::Close | Operation::Snapshot if held => {
                self.desk.answer(incoming, Answer::failed(libc::EINVAL));
            }
            _ => self.desk.answer(incoming, Answer::served(0)),
        }
    }
    fn reply(&mut self, _: u64, _: Answer) {}
    fn under_way(&self) -> usize {
        0
    }
}

impl Peer for Blocker {
    fn request(&mut self, incoming: Incoming, request: &Request) {
        self.desk.answer(incoming, Answer::served(request.size));
    }
    fn reply(&mut self, _: u64, _: Answer) {}
    fn under_way(&self) -> usize {
        0
    }
}

struct Node {
    peers: Host,
    vlmcd: Host,
    client: Seat,
    clock: Rc<SimClock>,
    mapper: Desk,
    elsewhere: Rc<RefCell<Elsewhere>>,
    answers: BTreeMap<RequestId, Result<u64, i32>>,
    /// In the order in which they came.
    order: Vec<RequestId>,
}

impl Node {
    fn new(nr_ops: usize) -> Node {
        let (env, clock) = Env::simulated(1);
        clock.advance(1_000_000_000);
        let spec = RegionSpec::public(64, 32, 64);
        let local = Local::with_bells(spec, Arc::new(NoBells)).unwrap();
        let host = || Host::new(env.clone(), Executor::new(), Timers::new());
        let desk = |role, port| {
            let desk = Desk::new(local.peer_seat(role).unwrap());
            assert!(desk.with_seat(|seat| seat.bind(port, port)));
            desk
        };
        let (blockerb, mapper) = (desk("blockerb", BLOCKERB), desk("mapperd", MAPPERD));
        let vlmcd = desk("vlmcd", VLMCD);
        let elsewhere: Rc<RefCell<Elsewhere>> = Rc::default();
        let (mut peers, mut own) = (host(), host());
        let blocker = Blocker {
            desk: blockerb.clone(),
        };
        peers.add(blockerb, Box::new(blocker));
        let mapperd = Mapper {
            desk: mapper.clone(),
            env: env.clone(),
            elsewhere: elsewhere.clone(),
        };
        peers.add(mapper.clone(), Box::new(mapperd));
        let settings = Settings {
            mapper_port: MAPPERD,
            blocker_port: BLOCKERB,
            nr_ops,
            lease_term: LeaseTerm::from_secs(30),
            write_through: false,
        };
        own.add(vlmcd.clone(), Box::new(Vlmcd::new(settings, vlmcd, env)));
        let mut client = local.client_seat("client").unwrap();
        client.bind_dynamic().unwrap();
        Node {
            peers,
            vlmcd: own,
            client,
            clock,
            mapper,
            elsewhere,
            answers: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    fn hold(&self, volume: &str) {
        self.elsewhere.borrow_mut().held.insert(volume.into());
    }

    fn give_back(&self, volume: &str) {
        self.elsewhere.borrow_mut().held.remove(volume);
    }

    fn ask(&mut self, operation: Operation, volume: &str, block: u64) -> RequestId {
        let ticket = self.client.claim(PUBLIC).unwrap();
        let buffer = self.client.take_buffer(PUBLIC, BLOCK).unwrap();
        let moves = matches!(operation, Operation::Read | Operation::Write);
        let request = Request {
            offset: block * BLOCK,
            size: if moves { BLOCK } else { 0 },
            data: buffer.address(),
            datalen: BLOCK,
            ..Request::new(operation, Name::try_from(volume).unwrap())
        };
        let id = self.client.submit(ticket, VLMCD, &request).unwrap();
        self.settle();
        id
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            self.clock.advance(1000);
            let mut any = self.vlmcd.turn() | self.peers.turn();
            let mut events = Vec::new();
            any |= self.client.poll(&mut events);
            for event in events {
                let Event::Reply(ticket, answer) = event else {
                    panic!("nobody asks a client")
                };
                let id = ticket.id();
                let data = self.client.reply_data(&ticket).unwrap();
                self.client.give_buffer_back(data.address());
                self.client.release(ticket);
                let before = self.answers.insert(id, answer.result());
                assert_eq!(before, None, "answered twice");
                self.order.push(id);
            }
            if !any {
                return;
            }
        }
        panic!("vlmcd never comes to rest");
    }

    fn take(&mut self, id: RequestId) -> Option<Result<u64, i32>> {
        self.answers.remove(&id)
    }

    /// The second is over for everything that mapperd keeps: it is served, or to ask again.
    fn second(&mut self) {
        let kept = std::mem::take(&mut self.elsewhere.borrow_mut().kept);
        for (incoming, _) in kept {
            self.mapper.answer(incoming, Answer::failed(libc::EBUSY));
        }
        self.settle();
    }

    fn kept(&self) -> usize {
        self.elsewhere.borrow().kept.len()
    }

    /// The volume `mine` is served at once.
    fn others_are_served(&mut self) {
        for (operation, block) in [(Operation::Write, 1), (Operation::Read, 1)] {
            let id = self.ask(operation, "mine", block);
            assert_eq!(self.take(id), Some(Ok(BLOCK)), "{operation:?}");
        }
    }
}

/// A guest with as many writes under way as vlmcd serves at once kept everybody else waiting for as
/// long as another node had its volume.
#[test]
fn writes_that_wait_hold_up_nobody_else() {
    let mut node = Node::new(NR_OPS);
    node.hold("theirs");
    let writes: Vec<_> = (0..3 * NR_OPS as u64)
        .map(|block| node.ask(Operation::Write, "theirs", block))
        .collect();
    for _ in 0..5 {
        assert_eq!(node.kept(), 1, "one asks for all of them");
        node.others_are_served();
        let read = node.ask(Operation::Read, "theirs", 2);
        assert_eq!(node.take(read), Some(Ok(BLOCK)));
        node.second();
    }
    assert!(writes.iter().all(|id| node.take(*id).is_none()));
    node.give_back("theirs");
    node.second();
    for id in writes {
        assert_eq!(node.take(id), Some(Ok(BLOCK)));
    }
}

/// More volumes wait than vlmcd has operations: all are asked for in turn.
#[test]
fn many_volumes_wait_and_take_turns() {
    for nr_ops in [1, 2, NR_OPS] {
        let mut node = Node::new(nr_ops);
        let volumes: Vec<String> = (0..10).map(|n| format!("theirs-{n}")).collect();
        let mut writes = Vec::new();
        for volume in &volumes {
            node.hold(volume);
            writes.push(node.ask(Operation::Write, volume, 0));
            writes.push(node.ask(Operation::Write, volume, 1));
        }
        let most = (nr_ops / 2).max(1);
        for round in 0..80 {
            assert_eq!(node.kept(), most, "of {nr_ops}");
            if round == 50 {
                // By now all have been let in.
                node.elsewhere.borrow_mut().asked.clear();
            }
            if nr_ops > 1 {
                node.others_are_served();
            }
            node.second();
        }
        let asked = node.elsewhere.borrow().asked.clone();
        assert_eq!(asked.len(), volumes.len(), "{asked:?}");
        let (least, most) = (asked.values().min(), asked.values().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{asked:?}");
        if nr_ops == 1 {
            let id = node.ask(Operation::Write, "mine", 0);
            node.second();
            assert_eq!(node.take(id), Some(Ok(BLOCK)));
        }
        for volume in &volumes {
            node.give_back(volume);
        }
        for _ in 0..volumes.len() {
            node.second();
        }
        for id in writes {
            assert_eq!(node.take(id), Some(Ok(BLOCK)), "of {nr_ops}");
        }
    }
}

/// CLOSE waited for the writes before it, and they for a lock that nobody gave back.
#[test]
fn a_close_ends_the_writes_that_wait() {
    let mut node = Node::new(NR_OPS);
    node.hold("theirs");
    let writes: Vec<_> = (0..2 * NR_OPS as u64)
        .map(|block| node.ask(Operation::Write, "theirs", block))
        .collect();
    let close = node.ask(Operation::Close, "theirs", 0);
    let later = node.ask(Operation::Write, "theirs", 0);
    node.second();
    for id in &writes {
        assert_eq!(node.take(*id), Some(Err(libc::EBUSY)));
    }
    assert_eq!(node.take(close), Some(Err(libc::EINVAL)), "it was not open");
    assert_eq!(node.take(later), None, "it came after the close, and waits");
    assert_eq!(
        node.order.iter().position(|id| *id == close),
        Some(writes.len())
    );
    node.give_back("theirs");
    node.second();
    assert_eq!(node.take(later), Some(Ok(BLOCK)));
}

/// A snapshot has no need of the lock's end: it is told at once that another node has the volume.
#[test]
fn what_freezes_a_volume_does_not_wait_for_its_lock() {
    let mut node = Node::new(NR_OPS);
    node.hold("theirs");
    let write = node.ask(Operation::Write, "theirs", 0);
    let snapshot = node.ask(Operation::Snapshot, "theirs", 0);
    let read = node.ask(Operation::Read, "theirs", 0);
    node.second();
    assert_eq!(node.take(snapshot), Some(Err(libc::EINVAL)));
    assert_eq!(node.take(read), Some(Ok(BLOCK)));
    assert_eq!(node.take(write), None);
    node.give_back("theirs");
    node.second();
    assert_eq!(node.take(write), Some(Ok(BLOCK)));
}

/// With a process for each role vlmcd is stopped before mapperd, which knew of no stop: the write
/// that waited there kept vlmcd, and so the whole node, from stopping.
#[test]
fn a_stop_ends_the_writes_that_wait() {
    let mut node = Node::new(NR_OPS);
    node.hold("theirs");
    let writes: Vec<_> = (0..2 * NR_OPS as u64)
        .map(|block| node.ask(Operation::Write, "theirs", block))
        .collect();
    node.vlmcd.stop();
    node.settle();
    assert!(!node.vlmcd.is_stopped());
    node.second();
    assert!(node.vlmcd.is_stopped());
    for id in writes {
        assert_eq!(node.take(id), Some(Err(libc::EBUSY)));
    }
}
