//! vlmcd while the peers' own region has no free slot: what waits for one goes on when there is.

use reactor::{Env, Executor, Timers};
use runtime::{Desk, Host, LeaseTerm};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use vlmcd::{Settings, Vlmcd};
use xseg::join::Local;
use xseg::protocol::Operation;
use xseg::seat::{PRIVATE, PUBLIC};
use xseg::{Bells, Event, Name, RegionSpec, Request, SeatNo, Ticket};

const BLOCKERB: u32 = 0;
const MAPPERD: u32 = 1;
const VLMCD: u32 = 3;

struct NoBells;

impl Bells for NoBells {
    fn ring(&self, _: SeatNo) {}
    fn descriptor(&self, _: SeatNo) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A request that found no free slot twice was forgotten: it was noted as waiting the first time,
/// and that note, never taken back, kept it off the list the second time. Its client waited for
/// ever.
#[test]
fn a_request_may_stall_more_than_once() {
    let local = Local::with_bells(RegionSpec::public(16, 8, 64), Arc::new(NoBells)).unwrap();
    let (env, _) = Env::simulated(1);
    let mut host = Host::new(env.clone(), Executor::new(), Timers::new());
    let desk = Desk::new(local.peer_seat("vlmcd").unwrap());
    let settings = Settings {
        mapper_port: MAPPERD,
        blocker_port: BLOCKERB,
        nr_ops: 4,
        lease_term: LeaseTerm::from_secs(30),
        write_through: false,
    };
    host.add(
        desk.clone(),
        Box::new(Vlmcd::new(settings, desk.clone(), env)),
    );
    desk.with_seat(|seat| seat.bind(VLMCD, VLMCD));
    let mut mapperd = local.peer_seat("mapperd").unwrap();
    mapperd.bind(MAPPERD, MAPPERD);
    host.turn();

    let all: Vec<Ticket> = std::iter::from_fn(|| mapperd.claim(PRIVATE)).collect();
    let mut client = local.client_seat("client").unwrap();
    let ticket = client.claim(PUBLIC).unwrap();
    let data = client.take_buffer(PUBLIC, 4096).unwrap();
    let read = Request {
        size: 4096,
        data: data.address(),
        datalen: 4096,
        ..Request::new(Operation::Read, Name::try_from("volume").unwrap())
    };
    client.submit(ticket, VLMCD, &read).unwrap();
    for _ in 0..5 {
        host.turn();
    }

    all.into_iter().for_each(|ticket| mapperd.release(ticket));
    host.turn();
    let mut events = Vec::new();
    mapperd.poll(&mut events);
    let asked = events.iter().find_map(|event| match event {
        Event::Request(incoming) => mapperd.read(incoming).ok(),
        Event::Reply(..) => None,
    });
    let operation = asked.and_then(|request| request.operation());
    assert_eq!(operation, Some(Operation::MapRead), "the request went on");
}
