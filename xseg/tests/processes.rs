//! Two and more real processes over a segment, some of them killed at random points.
//!
//! The test binary starts itself again for each child: `child` below is no test of its own, it
//! turns the process into what `XSEG_CHILD` names. Seeds are printed; `XSEG_SEED` replays one.

#[path = "processes/actors.rs"]
mod actors;
#[path = "processes/node.rs"]
mod node;

use node::{Child, Client, Node, Random};
use std::os::fd::AsFd;
use xseg::join::{self, JoinError, Kind, Local, Notice};
use xseg::protocol::Operation;
use xseg::report::{self, Report};
use xseg::seat::PUBLIC;
use xseg::{Answer, Event, Name, RegionSpec, Request};

/// The port of the server that clients ask.
const FRONT: u32 = 1;
/// The port of the server that the front server asks.
const BACK: u32 = 2;

#[test]
fn child() {
    let Ok(role) = std::env::var("XSEG_CHILD") else {
        return;
    };
    actors::play(&role);
}

#[test]
fn two_processes_ask_and_answer() {
    let node = Node::start();
    let _server = Child::start("echo", &node.socket, 0);
    let mut client = Client::join(&node.socket, "asker");
    for i in 0..20_000 {
        assert_eq!(client.ask(FRONT, i), i ^ actors::ECHO);
    }
    let data = client.ask_for_data(FRONT, 100_000);
    assert!(data.iter().all(|&b| b == actors::FILL));
}

#[test]
fn a_killed_client_leaves_nothing_and_the_server_goes_on() {
    let node = Node::start();
    let mut random = Random::seeded("killed client");
    let _server = Child::start("echo", &node.socket, 0);
    let mut living = Client::join(&node.socket, "living");
    let mut in_flight = 0;
    for round in 0..300 {
        let victim = Child::start("victim", &node.socket, random.next());
        node::spin_us(random.below(3000));
        victim.kill();
        let died = node.wait_for(|n| matches!(n, Notice::Died { .. }));
        let Notice::Died { seat, name, swept } = died else {
            unreachable!()
        };
        assert_eq!(name, "victim");
        in_flight += swept.map_or(0, |s| s.slots + s.serving);
        // The server answers the living, whatever it holds of the dead.
        assert_eq!(living.ask(FRONT, round), round ^ actors::ECHO);
        node.wait_for(|n| *n == Notice::Cleared { seat });
    }
    println!("{in_flight} requests of the dead");
    assert!(in_flight > 300, "few kills hit a request");
    node.assert_nothing_in_use();
}

#[test]
fn a_killed_server_is_an_event_and_each_request_is_answered_once() {
    let node = Node::start();
    let mut random = Random::seeded("killed server");
    let mut servers = [
        Child::start("front", &node.socket, 0),
        Child::start("back", &node.socket, 0),
    ];
    let mut client = Client::join(&node.socket, "asker");
    let mut answered = 0;
    for _ in 0..100 {
        let which = random.below(2) as usize;
        for _ in 0..8 {
            client.send(FRONT);
        }
        answered += client.pump();
        node::spin_us(random.below(2000));
        let role = ["front", "back"][which];
        let fresh = |socket: &std::path::Path| Child::start(role, socket, 0);
        std::mem::replace(&mut servers[which], Child::none()).kill();
        // More requests while nobody serves: they wait for the successor.
        client.send(FRONT);
        servers[which] = fresh(&node.socket);
    }
    answered += client.drain();
    assert_eq!(answered, 100 * 9, "each request once");
    node.assert_nothing_in_use();
}

#[test]
fn a_scribbler_hurts_nobody_for_long() {
    let node = Node::start();
    let mut random = Random::seeded("scribbler");
    let mut server = Child::start("echo", &node.socket, 0);
    let mut bystander = Client::join(&node.socket, "bystander");
    for _ in 0..5 {
        let scribbler = Child::start("scribbler", &node.socket, random.next());
        for i in 0..200 {
            // Its requests may be lost or answered wrongly meanwhile, nothing worse.
            bystander.try_ask(FRONT, i);
        }
        scribbler.kill();
        node.wait_for(|n| matches!(n, Notice::Died { .. }));
        assert!(server.is_running(), "the server crashed");
        let done = join::repair(&node.socket).unwrap();
        println!("{done}");
        bystander = Client::join(&node.socket, "bystander");
        for i in 0..1000 {
            assert_eq!(bystander.ask(FRONT, i), i ^ actors::ECHO);
        }
    }
    drop(bystander);
    node.wait_for(|n| matches!(n, Notice::Died { .. }));
    let seen = join::observe(&node.socket).unwrap();
    let alive = |seat| seen.alive.contains(seat);
    let found = report::verify(&seen.public, seen.private.as_ref(), &alive);
    let strange = |f: &report::Finding| {
        matches!(
            f,
            report::Finding::StrangeSlot { .. } | report::Finding::StrangeBuffers { .. }
        )
    };
    assert!(!found.iter().any(strange), "{found:?}");
}

#[test]
fn a_crashed_holder_takes_the_segment_back_from_a_living_peer() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("node.sock");
    let holder = Child::start("holder", &socket, 0);
    let server = Child::start("echo", &socket, 0);
    let mut client = Client::join(&socket, "asker");
    assert_eq!(client.ask(FRONT, 7), 7 ^ actors::ECHO);
    holder.kill();
    assert!(!client.connection.is_up());
    // Nobody needs the holder to ask and to answer.
    assert_eq!(client.ask(FRONT, 8), 8 ^ actors::ECHO);
    let node = Node::adopt(place, &socket);
    client.connection.reattach().unwrap();
    assert!(client.connection.is_up());
    assert_eq!(client.ask(FRONT, 9), 9 ^ actors::ECHO);
    // The new holder knows whose seat is whose: the role's successor takes the old seat.
    client.send(FRONT);
    server.kill();
    node.wait_for(|n| matches!(n, Notice::Died { name, .. } if name == "echo"));
    let _server = Child::start("echo", &socket, 0);
    assert_eq!(client.drain(), 1);
    let newcomer = Client::join(&socket, "newcomer");
    assert_ne!(newcomer.seat.no(), client.seat.no());
}

#[test]
fn without_a_holder_the_sentence_names_the_socket() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("nobody.sock");
    let refused = join::connect(&socket, Kind::Client { name: "c" }).unwrap_err();
    assert!(matches!(refused, JoinError::NotRunning(_)), "{refused:?}");
    assert!(refused.to_string().contains("nobody.sock"));
}

#[test]
fn a_role_runs_once_and_ports_belong_to_one_role() {
    let node = Node::start();
    let vlmcd = Kind::Peer {
        role: "vlmcd",
        first: 3,
        last: 4,
    };
    let mut first = join::connect(&node.socket, vlmcd).unwrap();
    let again = join::connect(&node.socket, vlmcd).unwrap_err();
    assert_eq!(again.to_string(), "vlmcd is running already");
    let clash = Kind::Peer {
        role: "mapperd",
        first: 4,
        last: 5,
    };
    let clash = first.connection.join_more(clash).unwrap_err();
    assert_eq!(clash.to_string(), "vlmcd serves the ports 3 to 4 already");
    let mapperd = Kind::Peer {
        role: "mapperd",
        first: 5,
        last: 5,
    };
    // A refusal does not end the connection of a process that has a seat.
    let second = first.connection.join_more(mapperd).unwrap();
    assert_ne!(second.no(), first.seat.no());
    let no = first.seat.no();
    drop(first);
    drop(second);
    for _ in 0..2 {
        node.wait_for(|n| matches!(n, Notice::Died { .. }));
    }
    assert_eq!(join::connect(&node.socket, vlmcd).unwrap().seat.no(), no);
}

#[test]
fn strangers_and_other_versions_are_told_why_not() {
    use xseg::join::wire::{Answer, Hello, Wish};
    let node = Node::start();
    let say = |bytes: &[u8]| Answer::decode(&node::say(&node.socket, bytes)).unwrap();
    assert_eq!(say(b"GET / HTTP/1.0\r\n\r\n").errno, libc::EPROTO as u32);
    let hello = Hello::new(Wish::Client, "c");
    let mut newer = hello.encode();
    newer[8] += 1;
    assert_eq!(say(&newer).errno, libc::EPROTONOSUPPORT as u32);
    let other_layout = Hello {
        layout_hash: 1,
        ..hello.clone()
    };
    let refused = say(&other_layout.encode());
    assert_eq!(refused.errno, libc::EPROTONOSUPPORT as u32);
    assert!(refused.text.contains("another version"), "{}", refused.text);
    assert_eq!(say(&hello.encode()).errno, 0);
}

#[test]
fn other_users_join_only_by_their_group_and_never_as_peers() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        println!("not root: nobody else to be");
        return;
    }
    let strict = Node::start_open(None);
    let open = Node::start_open(Some(NOBODY));
    let peer = Kind::Peer {
        role: "p",
        first: 1,
        last: 1,
    };
    let client = Kind::Client { name: "c" };
    node::as_user(NOBODY, || {
        let errno = |socket, kind| match join::connect(socket, kind) {
            Err(JoinError::Refused { errno, .. }) => errno,
            Ok(_) => 0,
            Err(other) => panic!("{other}: {other:?}"),
        };
        assert_eq!(errno(&strict.socket, client), libc::EACCES);
        assert_eq!(errno(&open.socket, client), 0);
        assert_eq!(errno(&open.socket, peer), libc::EACCES);
        let repair = join::repair(&open.socket).unwrap_err();
        assert!(matches!(
            repair,
            JoinError::Refused {
                errno: libc::EACCES,
                ..
            }
        ));
        assert!(join::observe(&open.socket).unwrap().private.is_none());
    });
}

#[test]
fn the_socket_opens_to_nobody_beyond_0660() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::start();
    let mode = std::fs::metadata(&node.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640, "umask 027");
    let socket = node.socket.clone();
    drop(node);
    assert!(!socket.exists());
}

/// A reply goes to the seat that asked, not to whoever has its port by then.
#[test]
fn no_stale_reply_reaches_the_new_owner_of_a_port_or_of_a_seat() {
    let local = Local::new(RegionSpec::public(16, 8, 64)).unwrap();
    let mut server = local.peer_seat("server").unwrap();
    assert!(server.bind(FRONT, FRONT));
    let mut old = local.client_seat("old").unwrap();
    assert!(old.bind(5, 5));
    for _ in 0..2 {
        let ticket = old.claim(PUBLIC).unwrap();
        let request = Request::new(Operation::Ping, Name::EMPTY);
        old.submit(ticket, FRONT, &request).unwrap();
    }
    let mut events = Vec::new();
    assert!(server.poll(&mut events));
    let mut new = local.client_seat("new").unwrap();
    assert!(new.bind(5, 5));
    let mut served = events.drain(..).map(|event| match event {
        Event::Request(incoming) => incoming,
        Event::Reply(..) => panic!("the server asked nothing"),
    });
    server.answer(served.next().unwrap(), Answer::served(1));
    let last = served.next().unwrap();
    drop(served);
    assert!(
        !new.poll(&mut events),
        "the port is new's, the reply is not"
    );
    assert!(old.poll(&mut events));

    let no = old.no();
    let swept = local.leave(old);
    assert_eq!(swept.serving, 1, "the server still has one");
    server.answer(last, Answer::served(1));
    let mut heir = local.client_seat("heir").unwrap();
    assert_eq!(heir.no(), no, "the lowest free seat");
    heir.poll(&mut events);
    assert_eq!(events.len(), 1, "only what old itself had received");
    let report = Report::new(local.public(), None, &|_| true);
    assert_eq!(report.slots_in_use(PUBLIC), 0);
    assert_eq!(local.public().seat_of_port(5), Some(new.no()));
}

/// A slip of precedence kept the original from seeing that nobody serves a port: the request waited
/// there for ever, and its slot with it (B26).
#[test]
fn a_port_that_nobody_serves_refuses_requests() {
    let local = Local::new(RegionSpec::public(16, 8, 64)).unwrap();
    let mut server = local.peer_seat("server").unwrap();
    assert!(server.bind(FRONT, FRONT));
    let mut asker = local.client_seat("asker").unwrap();
    let request = Request::new(Operation::Ping, Name::EMPTY);
    // More often than there are slots: each comes back.
    for port in (FRONT + 1..8).chain([8, 4711, u32::MAX]).cycle().take(50) {
        let ticket = asker.claim(PUBLIC).unwrap();
        assert_eq!(asker.submit(ticket, port, &request), Err(libc::ENXIO));
    }
    let mut events = Vec::new();
    assert!(!server.poll(&mut events), "it got none of them");
}

/// A client can serve, too; when it dies, who asked it is told.
#[test]
fn requests_to_a_dead_client_fail() {
    let local = Local::new(RegionSpec::public(16, 8, 64)).unwrap();
    let mut server = local.client_seat("server").unwrap();
    assert!(server.bind(6, 6));
    let mut asker = local.client_seat("asker").unwrap();
    let request = Request::new(Operation::Ping, Name::EMPTY);
    let ticket = asker.claim(PUBLIC).unwrap();
    asker.submit(ticket, 6, &request).unwrap();
    assert!(asker.doze());
    let swept = local.leave(server);
    assert_eq!((swept.failed, swept.ports), (1, 1));
    let bell = asker.bells().descriptor(asker.no()).unwrap();
    assert!(node::is_readable(bell.as_fd()), "and its bell rang");
    let mut events = Vec::new();
    asker.poll(&mut events);
    let Some(Event::Reply(ticket, answer)) = events.pop() else {
        panic!("no answer")
    };
    assert_eq!(answer.result(), Err(libc::EIO));
    asker.release(ticket);
    let ticket = asker.claim(PUBLIC).unwrap();
    assert_eq!(asker.submit(ticket, 6, &request), Err(libc::ENXIO));
}

/// Whatever the dead did not push or ring is found, because everybody looks.
#[test]
fn a_death_alarms_the_living() {
    let node = Node::start();
    let witness = Client::join(&node.socket, "witness");
    let victim = Client::join(&node.socket, "victim");
    assert!(witness.seat.doze());
    drop(victim);
    node.wait_for(|n| matches!(n, Notice::Died { name, .. } if name == "victim"));
    let bell = witness.seat.bells().descriptor(witness.seat.no()).unwrap();
    assert!(node::is_readable(bell), "its bell rings");
    assert!(!witness.seat.doze(), "there is something to look for");
}

/// Whoever takes a port says from whom, so that two successors of a dead owner do not both get it.
#[test]
fn a_port_is_taken_from_who_had_it_or_not_at_all() {
    let local = Local::new(RegionSpec::public(16, 8, 64)).unwrap();
    let seats = ["first", "second", "third"].map(|name| local.client_seat(name).unwrap());
    let [mut first, mut second, mut third] = seats;
    let owner = || local.public().seat_of_port(5);
    assert!(first.take_port(5, None));
    assert_eq!((first.port(), owner()), (5, Some(first.no())));
    assert!(!second.take_port(5, None));
    assert!(second.take_port(5, Some(first.no())));
    assert!(!third.take_port(5, Some(first.no())));
    assert_eq!(owner(), Some(second.no()));
    assert!(!third.take_port(16, None), "there is no such port");
    // What the first had is not its own to give back any more.
    first.unbind_all();
    assert_eq!(owner(), Some(second.no()));
    second.unbind_all();
    assert_eq!(owner(), None);
    assert!(third.take_port(5, None));
}
