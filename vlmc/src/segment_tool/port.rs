//! Commands that send a request to a port. Answers are read by a following `wait`.

use super::Place;
use super::words::{OnPort, Ports};
use crate::failure::Failure;
use client::wait::Patience;
use client::{Core, Done, Name};
use std::io::{Read, Write, stdin, stdout};
use xseg::join::{self, Connection, Kind};
use xseg::protocol::{CloneRequest, NameRequest, Operation, PortNo, flags};
use xseg::seat::PUBLIC;
use xseg::{Extent, Request, State};

/// A seat, and what was sent from it.
pub(super) struct Line {
    core: Core,
    connection: Connection,
    patience: Patience,
    sent: Vec<(Operation, String)>,
    answers: Vec<Done>,
}

pub(super) fn run(
    place: &Place,
    ports: Ports,
    line: &mut Option<Line>,
    command: OnPort,
) -> Result<(), Failure> {
    let line = match line {
        Some(line) => line,
        None => line.insert(Line::new(place)?),
    };
    if let OnPort::Wait(count) = command {
        return line.wait(count);
    }
    let port = ports
        .dst
        .ok_or_else(|| Failure::new("which port? Give SRC:DST before the command"))?;
    if command == OnPort::Report {
        return line.report(port);
    }
    line.send(port, command)
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text.as_bytes())
        .ok_or_else(|| Failure::new(format!("`{text}` is longer than a target can be")))
}

fn operation(word: &str) -> Operation {
    match word {
        "info" => Operation::Info,
        "delete" => Operation::Delete,
        "acquire" => Operation::Acquire,
        "release" => Operation::Release,
        "open" => Operation::Open,
        "close" => Operation::Close,
        "copy" => Operation::Copy,
        "clone" => Operation::Clone,
        _ => Operation::Snapshot,
    }
}

impl Line {
    fn new(place: &Place) -> Result<Line, Failure> {
        let mut joined = join::connect(&place.socket(), Kind::Client { name: "xseg" })
            .map_err(|e| Failure::new(format!("cannot join segment! {e}")))?;
        joined.seat.bind_dynamic();
        Ok(Line {
            core: Core::new(joined.seat),
            connection: joined.connection,
            patience: Patience::default(),
            sent: Vec::new(),
            answers: Vec::new(),
        })
    }

    fn send(&mut self, port: PortNo, command: OnPort) -> Result<(), Failure> {
        match command {
            OnPort::Read {
                target,
                offset,
                size,
            } => {
                let request = Request {
                    offset,
                    size,
                    ..Request::new(Operation::Read, name(&target)?)
                };
                self.submit(port, Operation::Read, request, &[], size)
            }
            OnPort::Write { target, offset } => {
                let mut data = Vec::new();
                stdin()
                    .read_to_end(&mut data)
                    .map_err(|e| Failure::unexpected("can't read standard input", e))?;
                let size = data.len() as u64;
                let request = Request {
                    offset,
                    size,
                    ..Request::new(Operation::Write, name(&target)?)
                };
                self.submit(port, Operation::Write, request, &data, size)
            }
            OnPort::Simple {
                operation: word,
                target,
            } => {
                let operation = operation(word);
                // As in the original, a lock is not waited for.
                let flags = if operation == Operation::Acquire {
                    flags::NOSYNC
                } else {
                    0
                };
                let request = Request {
                    flags,
                    ..Request::new(operation, name(&target)?)
                };
                self.submit(port, operation, request, &[], 8)
            }
            OnPort::Two {
                operation: word,
                source,
                target,
                size_mib,
            } => self.two(
                port,
                operation(word),
                name(&source)?,
                name(&target)?,
                size_mib,
            ),
            OnPort::Truncate { target, size } => {
                let operation = Operation::Truncate;
                let request = Request {
                    offset: size,
                    ..Request::new(operation, name(&target)?)
                };
                self.submit(port, operation, request, &[], 0)
            }
            OnPort::Wait(count) => self.wait(count),
            OnPort::Report => self.report(port),
        }
    }

    /// Who serves the port, and the requests that wait there or are worked on.
    fn report(&self, port: PortNo) -> Result<(), Failure> {
        let segment = self.core.seat().segment(PUBLIC);
        let served = segment.and_then(|s| Some((s, s.seat_of_port(port)?)));
        let (segment, seat) =
            served.ok_or_else(|| Failure::new(format!("nobody serves port {port}")))?;
        let words = segment.slots().iter().filter_map(|slot| slot.state.load());
        let (mut queued, mut serving) = (0, 0);
        for word in words.filter(|word| word.holder == seat) {
            queued += u32::from(word.state == State::Queued);
            serving += u32::from(word.state == State::Serving);
        }
        let seat = seat.0;
        eprintln!("port {port}: seat {seat}, {queued} requests wait, {serving} are worked on");
        Ok(())
    }

    /// Requests that name two things. Only SNAPSHOT is sent to the source.
    fn two(
        &mut self,
        port: PortNo,
        operation: Operation,
        source: Name,
        target: Name,
        size_mib: u64,
    ) -> Result<(), Failure> {
        let (on, bytes) = match operation {
            Operation::Clone => {
                let size = size_mib.saturating_mul(1 << 20);
                (
                    target,
                    CloneRequest {
                        parent: source,
                        size,
                    }
                    .encode()
                    .to_vec(),
                )
            }
            Operation::Snapshot => (source, NameRequest(target).encode().to_vec()),
            _ => (target, NameRequest(source).encode().to_vec()),
        };
        let size = if operation == Operation::Copy {
            u64::from(xseg::protocol::BLOCK_SIZE)
        } else {
            0
        };
        let request = Request {
            size,
            ..Request::new(operation, on)
        };
        self.submit(port, operation, request, &bytes, bytes.len() as u64)
    }

    fn submit(
        &mut self,
        port: PortNo,
        operation: Operation,
        request: Request,
        bytes: &[u8],
        room: u64,
    ) -> Result<(), Failure> {
        let data = match room {
            0 => None,
            room => Some(self.core.take_buffer(room).ok_or_else(|| {
                Failure::new(format!("the segment has no room for {room} bytes now"))
            })?),
        };
        if let Some(data) = &data {
            data.fill(bytes);
        }
        let token = self.sent.len() as u64;
        let what = format!("{operation:?} of {}", request.target).to_lowercase();
        self.core
            .submit(port, &request, data, token)
            .map_err(|(errno, _)| {
                let why = nix::errno::Errno::from_raw(errno).desc();
                Failure::new(format!("{what}: port {port}: {why}"))
            })?;
        self.sent.push((operation, what));
        Ok(())
    }

    /// Waits for so many answers (at most those that are due), and prints them.
    fn wait(&mut self, count: u64) -> Result<(), Failure> {
        let mut last = Ok(());
        for _ in 0..count {
            if self.answers.is_empty() && self.core.under_way() == 0 {
                return Err(Failure::new("no more answers are due"));
            }
            while self.answers.is_empty() {
                let node = Some(self.connection.descriptor());
                if !self.patience.wait(&mut self.core, node, &mut self.answers)
                    && self.answers.is_empty()
                {
                    return Err(Failure::new("the segment's holder went away"));
                }
            }
            let done = self.answers.remove(0);
            last = self.tell(&done);
            for buffer in done.data.iter().chain(&done.larger) {
                self.core.give_buffer_back(buffer);
            }
        }
        last
    }

    fn tell(&self, done: &Done) -> Result<(), Failure> {
        let (operation, what) = &self.sent[done.token as usize];
        let serviced = done.answer.result().map_err(|errno| {
            let why = nix::errno::Errno::from_raw(errno).desc();
            Failure::new(format!("{what}: {why}"))
        })?;
        let bytes = done.reply().map(Extent::to_vec).unwrap_or_default();
        match (operation, bytes.first_chunk()) {
            (Operation::Read, _) => stdout()
                .write_all(&bytes[..bytes.len().min(serviced as usize)])
                .map_err(|e| Failure::unexpected("can't write to standard output", e)),
            (Operation::Info, Some(size)) => {
                eprintln!("{what}: {} bytes", u64::from_le_bytes(*size));
                Ok(())
            }
            _ => {
                eprintln!("{what}: done");
                Ok(())
            }
        }
    }
}
