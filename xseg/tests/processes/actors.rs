//! What the children play.

use crate::node::{self, Random, wait};
use crate::{BACK, FRONT};
use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use xseg::join::{self, Connection, Holder, Joined, Kind};
use xseg::protocol::Operation;
use xseg::seat::{PRIVATE, PUBLIC, Recovery, RequestId};
use xseg::{Answer, Event, Incoming, Name, Request, Seat};

/// The line that an actor prints when it is at work.
pub(crate) const AT_WORK: &str = "@at work";
/// A server answers a request's offset combined with this.
pub(crate) const ECHO: u64 = 0x5555_0000_0000_5555;
/// A server fills a request's data with this.
pub(crate) const FILL: u8 = 0xa7;

fn socket() -> PathBuf {
    std::env::var_os("XSEG_SOCKET").unwrap().into()
}

fn at_work() {
    use std::io::Write;
    let mut out = std::io::stdout();
    writeln!(out, "{AT_WORK}").unwrap();
    out.flush().unwrap();
}

/// Plays until it is killed, or until the node is gone.
pub(crate) fn play(role: &str) {
    match role {
        "echo" => Server::join("echo", FRONT).serve(),
        "back" => Server::join("back", BACK).serve(),
        "front" => Server::join("front", FRONT).serve(),
        "victim" => victim(),
        "scribbler" => scribbler(),
        "holder" => holder(),
        other => panic!("no such role: {other}"),
    }
}

fn holder() {
    let mut holder = Holder::new(node::spec(&socket())).unwrap();
    at_work();
    loop {
        holder.run_once(None).unwrap();
    }
}

/// A server: it answers by itself, or (front) asks the back server first.
struct Server {
    seat: Seat,
    connection: Connection,
    forward: bool,
    recovery: Option<Recovery>,
    todo: VecDeque<Incoming>,
    asked: HashMap<RequestId, Incoming>,
    events: Vec<Event>,
    lost_at: Option<Instant>,
}

impl Server {
    fn join(role: &str, port: u32) -> Server {
        let kind = Kind::Peer {
            role,
            first: port,
            last: port,
        };
        let Joined {
            mut seat,
            connection,
        } = join::connect(&socket(), kind).unwrap();
        let recovery = seat.recover();
        assert!(seat.bind(port, port));
        Server {
            seat,
            connection,
            forward: role == "front",
            recovery: Some(recovery),
            todo: VecDeque::new(),
            asked: HashMap::new(),
            events: Vec::new(),
            lost_at: None,
        }
    }

    fn serve(mut self) {
        at_work();
        while self.keep_holder() {
            self.turn();
            self.sleep();
        }
    }

    /// False: the node is gone for good.
    fn keep_holder(&mut self) -> bool {
        if self.connection.is_up() {
            self.lost_at = None;
            return true;
        }
        let since = *self.lost_at.get_or_insert_with(Instant::now);
        self.connection.reattach().is_ok() || since.elapsed() < Duration::from_secs(2)
    }

    fn turn(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.seat.poll(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Request(incoming) => self.todo.push_back(incoming),
                Event::Reply(ticket, answer) => {
                    let incoming = self.asked.remove(&ticket.id()).expect("asked");
                    self.seat.release(ticket);
                    self.seat.answer(incoming, answer);
                }
            }
        }
        self.events = events;
        if let Some(mut recovery) = self.recovery.take() {
            if !self.seat.recovered(&mut recovery) {
                self.recovery = Some(recovery);
                return;
            }
            // What the predecessor was doing comes first.
            for incoming in recovery.requeued.into_iter().rev() {
                self.todo.push_front(incoming);
            }
        }
        while let Some(incoming) = self.todo.pop_front() {
            if self.forward {
                self.ask_back(incoming);
            } else {
                self.answer(incoming);
            }
        }
    }

    fn answer(&mut self, incoming: Incoming) {
        let answer = match self.seat.read(&incoming) {
            Err(_) => Answer::failed(libc::EINVAL),
            Ok(request) => {
                let region = incoming.id().region;
                let data = self.seat.extent(region, request.data, request.datalen);
                if let Some(data) = data.filter(|_| request.datalen <= 1 << 20) {
                    data.fill(&vec![FILL; request.datalen as usize]);
                }
                Answer::served(request.offset ^ ECHO)
            }
        };
        self.seat.answer(incoming, answer);
    }

    fn ask_back(&mut self, incoming: Incoming) {
        let Ok(request) = self.seat.read(&incoming) else {
            return self.seat.answer(incoming, Answer::failed(libc::EINVAL));
        };
        let ticket = self.seat.claim(PRIVATE).expect("a private slot");
        let id = self.seat.submit(ticket, BACK, &request).unwrap();
        self.asked.insert(id, incoming);
    }

    fn sleep(&self) {
        self.seat.hush();
        if !self.seat.doze() {
            return;
        }
        let bell = self.seat.bells().descriptor(self.seat.no()).unwrap();
        // A successor looks again at what it waits for: its answer rings no bell if the answerer
        // frees it for the dead. Without a holder it tries to return.
        let restless = self.recovery.is_some() || self.lost_at.is_some();
        let patience = restless.then_some(Duration::from_millis(2));
        if self.lost_at.is_some() {
            wait(&[bell], patience);
        } else {
            wait(&[bell, self.connection.descriptor()], patience);
        }
        self.seat.wake();
    }
}

/// A client with many requests in flight, to be killed at any moment.
fn victim() {
    let mut random = Random::seeded("victim");
    let kind = Kind::Client { name: "victim" };
    let Joined {
        mut seat,
        connection,
    } = join::connect(&socket(), kind).unwrap();
    if random.below(2) == 0 {
        seat.bind_dynamic();
    }
    let mut said = false;
    let depth = 1 + random.below(32) as usize;
    let mut flying = HashMap::new();
    let mut events = Vec::new();
    loop {
        while flying.len() < depth {
            let len = 1 + random.below(200_000);
            let Some(buffer) = seat.take_buffer(PUBLIC, len) else {
                break;
            };
            let Some(ticket) = seat.claim(PUBLIC) else {
                seat.give_buffer_back(buffer.address());
                break;
            };
            let request = Request {
                data: buffer.address(),
                datalen: len.min(8192),
                ..Request::new(Operation::Read, Name::try_from("v").unwrap())
            };
            let id = seat.submit(ticket, FRONT, &request).unwrap();
            flying.insert(id, buffer.address());
        }
        if !std::mem::replace(&mut said, true) {
            at_work();
        }
        seat.poll(&mut events);
        for event in events.drain(..) {
            let Event::Reply(ticket, _) = event else {
                panic!("nobody asks a victim")
            };
            let address = flying.remove(&ticket.id()).unwrap();
            seat.release(ticket);
            assert!(seat.give_buffer_back(address));
        }
        if !flying.is_empty() && random.below(4) == 0 {
            seat.hush();
            if seat.doze() {
                let bell = seat.bells().descriptor(seat.no()).unwrap();
                wait(&[bell, connection.descriptor()], None);
                seat.wake();
            }
        }
        if !connection.is_up() {
            return;
        }
    }
}

/// Overwrites the whole public region with noise, again and again.
fn scribbler() {
    let mut random = Random::seeded("scribbler");
    let joined = join::connect(&socket(), Kind::Client { name: "scribbler" }).unwrap();
    let public = joined.seat.segment(PUBLIC).unwrap().clone();
    let file = std::fs::File::from(public.descriptor().as_fd().try_clone_to_owned().unwrap());
    let layout = public.layout();
    at_work();
    let mut noise = vec![0u8; 1 << 20];
    while joined.connection.is_up() {
        for word in noise.chunks_exact_mut(8) {
            // Small numbers among them: those pass for states, seats and ports.
            let mask = u64::MAX >> (random.next() % 64);
            word.copy_from_slice(&(random.next() & mask).to_ne_bytes());
        }
        for at in (0..layout.total).step_by(noise.len()) {
            let len = noise.len().min((layout.total - at) as usize);
            file.write_all_at(&noise[..len], at).unwrap();
        }
        for _ in 0..64 {
            file.write_all_at(&noise, 0).unwrap();
        }
    }
}
