//! A blocker that serves less than it was asked for, and calls that a success (B5): the original's
//! vlmcd looked at no answer's size, so that a write of which half had landed counted as done.

use reactor::{Env, Executor, Timers};
use runtime::{Desk, Host, LeaseTerm, Peer};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use vlmcd::{Settings, Vlmcd};
use xseg::join::Local;
use xseg::protocol::{MapReply, MapSegment, Operation, mapflags};
use xseg::seat::PUBLIC;
use xseg::{Answer, Bells, Event, Incoming, Name, RegionSpec, Request, Seat, SeatNo};

const BLOCKERB: u32 = 0;
const MAPPERD: u32 = 2;
const VLMCD: u32 = 3;
const BLOCK: u64 = 4096;

struct NoBells;

impl Bells for NoBells {
    fn ring(&self, _: SeatNo) {}
    fn descriptor(&self, _: SeatNo) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Every block has an object of its own, under a lease.
struct Mapper {
    desk: Desk,
    env: Env,
}

/// Serves all of the first part of a request and half of the others.
struct Stingy {
    desk: Desk,
}

impl Peer for Mapper {
    fn request(&mut self, incoming: Incoming, request: &Request) {
        let segment = |index: u64| MapSegment {
            name: Name::try_from(&*format!("object-{index}")).unwrap(),
            flags: mapflags::ARCHIP | mapflags::WRITABLE,
            offset: 0,
            size: BLOCK,
        };
        let blocks = request.offset / BLOCK..(request.offset + request.size).div_ceil(BLOCK);
        let segments = blocks.map(segment).collect();
        let bytes = MapReply { segments }.encode();
        self.desk.reply_bytes(&incoming, request, &bytes).unwrap();
        let answer = Answer {
            tag: request.tag,
            lease: self.env.clock.now_ns(),
            volume_size: 4 * BLOCK,
            block_size: BLOCK as u32,
            ..Answer::served(request.size)
        };
        self.desk.answer(incoming, answer);
    }
    fn reply(&mut self, _: u64, _: Answer) {}
    fn under_way(&self) -> usize {
        0
    }
}

impl Peer for Stingy {
    fn request(&mut self, incoming: Incoming, request: &Request) {
        let is_first = &*request.target == b"object-0";
        let served = if is_first {
            request.size
        } else {
            request.size / 2
        };
        self.desk.answer(incoming, Answer::served(served));
    }
    fn reply(&mut self, _: u64, _: Answer) {}
    fn under_way(&self) -> usize {
        0
    }
}

fn node() -> (Host, Seat) {
    let (env, clock) = Env::simulated(1);
    clock.advance(1_000_000_000);
    let spec = RegionSpec::public(64, 32, 64);
    let local = Local::with_bells(spec, Arc::new(NoBells)).unwrap();
    let mut host = Host::new(env.clone(), Executor::new(), Timers::new());
    let desk = |role| Desk::new(local.peer_seat(role).unwrap());
    let (blocker, mapper, vlmcd) = (desk("blockerb"), desk("mapperd"), desk("vlmcd"));
    let settings = Settings {
        mapper_port: MAPPERD,
        blocker_port: BLOCKERB,
        nr_ops: 8,
        lease_term: LeaseTerm::from_secs(30),
        write_through: false,
    };
    let peers: [(u32, Desk, Box<dyn Peer>); 3] = [
        (
            BLOCKERB,
            blocker.clone(),
            Box::new(Stingy { desk: blocker }),
        ),
        (
            MAPPERD,
            mapper.clone(),
            Box::new(Mapper {
                desk: mapper,
                env: env.clone(),
            }),
        ),
        (
            VLMCD,
            vlmcd.clone(),
            Box::new(Vlmcd::new(settings, vlmcd, env)),
        ),
    ];
    for (port, desk, peer) in peers {
        host.add(desk.clone(), peer);
        assert!(desk.with_seat(|seat| seat.bind(port, port)));
    }
    let mut client = local.client_seat("client").unwrap();
    client.bind_dynamic().unwrap();
    (host, client)
}

fn ask(host: &mut Host, client: &mut Seat, operation: Operation, size: u64) -> Result<u64, i32> {
    let ticket = client.claim(PUBLIC).unwrap();
    let buffer = client.take_buffer(PUBLIC, size).unwrap();
    let request = Request {
        size,
        data: buffer.address(),
        datalen: size,
        ..Request::new(operation, Name::try_from("volume").unwrap())
    };
    client.submit(ticket, VLMCD, &request).unwrap();
    let mut events = Vec::new();
    for _ in 0..1000 {
        host.turn();
        client.poll(&mut events);
        if let Some(Event::Reply(ticket, answer)) = events.pop() {
            client.release(ticket);
            return answer.result();
        }
    }
    panic!("no answer");
}

#[test]
fn b05_a_part_that_is_served_by_half_has_failed() {
    let (mut host, mut client) = node();
    for operation in [Operation::Write, Operation::Read] {
        let mut ask = |size| ask(&mut host, &mut client, operation, size);
        assert_eq!(ask(BLOCK), Ok(BLOCK), "{operation:?}: the first part");
        assert_eq!(ask(2 * BLOCK), Err(libc::EIO), "{operation:?}");
        assert_eq!(ask(BLOCK + 100), Err(libc::EIO), "{operation:?}");
    }
}
