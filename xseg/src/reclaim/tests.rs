//! Sweeps, repairs, recoveries and reports on a table inside one process.

use crate::join::Local;
use crate::protocol::{Operation, flags};
use crate::report::{Finding, Report, verify};
use crate::seat::{PRIVATE, PUBLIC};
use crate::sync::Ordering;
use crate::word::{SeatNo, State};
use crate::{Answer, Event, Incoming, Name, RegionSpec, Request, Seat};

const PORT: u32 = 1;

fn table() -> (Local, Seat, Seat) {
    let local = Local::new(RegionSpec::public(16, 8, 64)).unwrap();
    let mut server = local.peer_seat("server").unwrap();
    assert!(server.bind(PORT, PORT));
    let client = local.client_seat("client").unwrap();
    (local, server, client)
}

fn send(client: &mut Seat, len: u64) {
    let buffer = client.take_buffer(PUBLIC, len).unwrap();
    let request = Request {
        data: buffer.address(),
        datalen: len,
        ..Request::new(Operation::Write, Name::try_from("v").unwrap())
    };
    let ticket = client.claim(PUBLIC).unwrap();
    client.submit(ticket, PORT, &request).unwrap();
}

fn accept(server: &mut Seat) -> Vec<Incoming> {
    let mut events = Vec::new();
    server.poll(&mut events);
    let requests = events.into_iter().filter_map(|event| match event {
        Event::Request(incoming) => Some(incoming),
        Event::Reply(..) => None,
    });
    requests.collect()
}

#[test]
fn buffers_of_the_dead_stay_until_no_server_has_a_request_of_theirs() {
    let (local, mut server, mut client) = table();
    send(&mut client, 4096);
    let served = accept(&mut server).pop().unwrap();
    send(&mut client, 4096);
    let swept = local.leave(client);
    assert_eq!((swept.slots, swept.serving, swept.buffers), (1, 1, 0));
    let report = Report::new(local.public(), None, &|_| true);
    assert_eq!(report.buffers_in_use(PUBLIC), 2, "data may still land");
    server.answer(served, Answer::served(0));
    assert!(accept(&mut server).is_empty(), "the other one was swept");
    let next = local.client_seat("next").unwrap();
    let report = Report::new(local.public(), None, &|_| true);
    assert_eq!(report.buffers_in_use(PUBLIC), 0);
    assert_eq!(report.slots_in_use(PUBLIC), 0);
    drop(next);
}

#[test]
fn a_living_neighbour_keeps_everything() {
    let (local, mut server, mut client) = table();
    let mut other = local.client_seat("other").unwrap();
    send(&mut other, 4096);
    send(&mut client, 4096);
    assert_eq!(local.leave(client).buffers, 1);
    assert_eq!(accept(&mut server).len(), 1);
    let report = Report::new(local.public(), None, &|_| true);
    assert_eq!(report.buffers_in_use(PUBLIC), 1);
}

/// A mark that outlived its request would make a server take new work for done work.
#[test]
fn a_step_mark_is_seen_by_the_successor_and_not_by_the_next_request() {
    let (local, mut server, mut client) = table();
    send(&mut client, 4096);
    let incoming = accept(&mut server).pop().unwrap();
    let root = server.read(&incoming).unwrap().root;
    assert_eq!(server.mark(root), 0);
    server.set_mark(root, 3);
    drop(server);
    let mut heir = local.peer_seat("server").unwrap();
    let mut recovery = heir.recover();
    assert!(heir.recovered(&mut recovery));
    let again = recovery.requeued.pop().unwrap();
    let request = heir.read(&again).unwrap();
    assert_eq!((request.root, request.attempt), (root, 1));
    assert_eq!(heir.mark(request.root), 3);
    let slot = again.id().slot;
    heir.answer(again, Answer::served(0));
    let mut events = Vec::new();
    client.poll(&mut events);
    for event in events {
        if let Event::Reply(ticket, _) = event {
            client.release(ticket);
        }
    }
    send(&mut client, 4096);
    let next = accept(&mut heir).pop().unwrap();
    assert_eq!(next.id().slot, slot, "the same slot");
    let root = heir.read(&next).unwrap().root;
    assert_eq!(heir.mark(root), 0);
}

/// A client can't make a peer's successor wait for an answer that never comes.
#[test]
fn a_scribbled_public_slot_holds_no_successor_up() {
    let (local, server, _client) = table();
    let cell = &local.public().slots()[9].state;
    let word = cell.claim(server.no()).unwrap();
    assert!(cell.change(word, word.with(State::Serving, SeatNo(99))));
    drop(server);
    let mut heir = local.peer_seat("server").unwrap();
    let mut recovery = heir.recover();
    assert!(heir.recovered(&mut recovery));
}

#[test]
fn a_server_never_sees_what_only_peers_may_say() {
    let (_local, mut server, mut client) = table();
    let request = Request {
        flags: flags::FUA | flags::VOLATILE | flags::FRESH,
        tag: 7,
        lease: 7,
        ..Request::new(Operation::Write, Name::EMPTY)
    };
    let ticket = client.claim(PUBLIC).unwrap();
    client.submit(ticket, PORT, &request).unwrap();
    let incoming = accept(&mut server).pop().unwrap();
    let read = server.read(&incoming).unwrap();
    assert_eq!((read.flags, read.tag, read.lease), (flags::FUA, 0, 0));
}

#[test]
fn a_repair_mends_what_verify_finds() {
    let (local, server, client) = table();
    let public = local.public();
    let alive = |seat| seat == server.no() || seat == client.no();
    assert_eq!(verify(public, Some(local.private()), &alive), []);
    let cell = &public.slots()[5].state;
    let word = cell.claim(SeatNo(300)).unwrap();
    assert_eq!(word.owner, SeatNo(300));
    public.slots()[6].state.claim(SeatNo(77)).unwrap();
    public.words()[0].store(2, Ordering::Relaxed);
    public.words()[1].store(1 | 77 << 8, Ordering::Relaxed);
    public.ports()[PORT as usize].store(78, Ordering::Relaxed);
    public.ports()[9].store(78, Ordering::Relaxed);
    let found = verify(public, Some(local.private()), &alive);
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found.contains(&Finding::StolenPort {
        port: PORT,
        seat: server.no()
    }));
    let sentences: Vec<String> = found.iter().map(|f| f.to_string()).collect();
    assert!(sentences.iter().all(|s| s.len() > 20), "{sentences:?}");
    let repaired = super::repair(public, local.private(), &**local.bells(), &alive);
    assert_eq!(verify(public, Some(local.private()), &alive), []);
    assert_eq!((repaired.swept.wiped, repaired.swept.slots), (1, 1));
    assert_eq!((repaired.words, repaired.rebound), (1, 1));
}

#[test]
fn recoverport_leaves_peers_requests_to_their_successor_unless_forced() {
    let (local, server, mut client) = table();
    send(&mut client, 4096);
    let alive = |seat| seat != server.no();
    let recover =
        |force| super::recover_port(local.public(), &**local.bells(), &alive, PORT, force);
    assert_eq!((recover(false).waiting, recover(false).failed), (1, 0));
    assert_eq!(recover(true).failed, 1);
    let mut events = Vec::new();
    client.poll(&mut events);
    let failed = events.iter().all(|event| match event {
        Event::Reply(_, answer) => answer.result() == Err(libc::EIO),
        Event::Request(_) => false,
    });
    assert!(failed && events.len() == 1);
}

#[test]
fn a_report_names_who_holds_what() {
    let (local, mut server, mut client) = table();
    send(&mut client, 4096);
    let _incoming = accept(&mut server);
    let report = Report::new(local.public(), Some(local.private()), &|_| true);
    assert_eq!(report.slots_in_use(PUBLIC), 1);
    assert_eq!(report.slots_in_use(PRIVATE), 0);
    let text = report.to_string();
    let seat = format!("seat {}: owns 1 serving", client.no().0);
    assert!(text.contains(&seat), "{text}");
    assert!(text.contains("server") && text.contains("client"), "{text}");
}

/// A server was killed after it set the state word and before it pushed the slot.
#[test]
fn an_answer_that_the_dead_did_not_push_is_found() {
    let (local, mut server, mut client) = table();
    send(&mut client, 4096);
    let incoming = accept(&mut server).pop().unwrap();
    assert!(client.doze());
    let cell = &local.public().slots()[incoming.id().slot.0 as usize].state;
    let word = cell.load().unwrap();
    assert!(cell.change(word, word.with(State::Answered, client.no())));
    drop(server);
    let mut events = Vec::new();
    assert!(!client.poll(&mut events), "nobody told the client");
    assert!(client.doze());
    local.alarm();
    let bell = client.bells().descriptor(client.no()).unwrap();
    let mut fds = [nix::poll::PollFd::new(bell, nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut fds, 0u8), Ok(1), "the bell rings");
    assert!(!client.doze(), "there is something to look for");
    client.poll(&mut events);
    assert!(matches!(events[..], [Event::Reply(..)]), "{events:?}");
}

/// What was meant for a seat's previous owner is freed unread.
#[test]
fn a_reply_to_the_dead_does_not_reach_the_successor() {
    let (local, mut server, _client) = table();
    let mut asker = local.peer_seat("asker").unwrap();
    let ping = Request::new(Operation::Ping, Name::EMPTY);
    for _ in 0..2 {
        let ticket = asker.claim(PRIVATE).unwrap();
        asker.submit(ticket, PORT, &ping).unwrap();
    }
    let mut served = accept(&mut server);
    server.answer(served.pop().unwrap(), Answer::served(0));
    drop(asker);
    let mut heir = local.peer_seat("asker").unwrap();
    let mut recovery = heir.recover();
    assert!(!heir.recovered(&mut recovery), "one is still under way");
    let ticket = heir.claim(PRIVATE).unwrap();
    heir.submit(ticket, PORT, &ping).unwrap();
    server.answer(served.pop().unwrap(), Answer::served(0));
    let mut events = Vec::new();
    assert!(!heir.poll(&mut events), "{events:?}");
    assert!(heir.recovered(&mut recovery));
    let own = accept(&mut server).pop().unwrap();
    server.answer(own, Answer::served(0));
    assert!(heir.poll(&mut events));
    assert_eq!(events.len(), 1);
}
