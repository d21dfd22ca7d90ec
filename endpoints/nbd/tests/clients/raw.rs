//! Clients that no tool would be: silent, rude, slow, gone.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use archip_nbd::backends::MemoryExport;
use archip_nbd::wire::{OPTION_MAGIC, Request, command, option};
use archip_nbd::{Op, Options, Turn};

use crate::lab::{Lab, PATIENCE};

const SIZE: usize = 1 << 20;

struct Raw(UnixStream);

impl Raw {
    fn connect(lab: &Lab) -> Self {
        let stream = UnixStream::connect(lab.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Self(stream);
        raw.take(18);
        raw.0.write_all(&3u32.to_be_bytes()).unwrap();
        raw
    }

    /// Through `EXPORT_NAME`, so replies are simple.
    fn attached(lab: &Lab) -> Self {
        let mut raw = Self::connect(lab);
        raw.option(option::EXPORT_NAME, b"vol");
        raw.take(10);
        raw
    }

    fn option(&mut self, option: u32, data: &[u8]) {
        let len = data.len() as u32;
        let head = [
            &OPTION_MAGIC.to_be_bytes()[..],
            &option.to_be_bytes(),
            &len.to_be_bytes(),
        ];
        self.0.write_all(&[&head.concat(), data].concat()).unwrap();
    }

    fn ask(&mut self, command: u16, cookie: u64, offset: u64, len: u32) {
        let request = Request {
            flags: 0,
            command,
            cookie,
            offset,
            len,
        };
        self.0.write_all(&request.encode()).unwrap();
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Cookie and error of a simple reply; `data` bytes follow a success.
    fn reply(&mut self, data: usize) -> (u64, u32, Vec<u8>) {
        let head = self.take(16);
        let error = u32::from_be_bytes(*head[4..].first_chunk().unwrap());
        let cookie = u64::from_be_bytes(*head[8..].first_chunk().unwrap());
        let data = if error == 0 {
            self.take(data)
        } else {
            Vec::new()
        };
        (cookie, error, data)
    }

    /// The server closed: end of file, or a reset because it left bytes unread.
    fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn rubbish_costs_only_the_connection_that_sent_it() {
    let lab = Lab::new(SIZE);
    let mut good = Raw::attached(&lab);
    let mut bad = Raw::attached(&lab);
    bad.0.write_all(&[0xee; 64]).unwrap();
    assert!(bad.is_closed());
    let mut bad = Raw::connect(&lab);
    bad.0
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert!(bad.is_closed());
    let mut bad = Raw::connect(&lab);
    bad.option(option::EXPORT_NAME, b"no such volume");
    assert!(bad.is_closed());
    good.ask(command::READ, 5, 0, 4096);
    assert_eq!(good.reply(4096), (5, 0, vec![0; 4096]));
}

#[test]
fn replies_leave_in_the_order_of_completion() {
    let lab = Lab::new(SIZE);
    lab.backend
        .set(|knobs| (knobs.reverse, knobs.hold) = (true, true));
    let mut raw = Raw::attached(&lab);
    for cookie in 0..10 {
        raw.ask(command::READ, cookie, 0, 512);
    }
    lab.backend.wait("ten reads", |knobs| knobs.ops.len() == 10);
    lab.backend.set(|knobs| knobs.hold = false);
    let cookies: Vec<u64> = (0..10).map(|_| raw.reply(512).0).collect();
    assert_eq!(cookies, (0..10).rev().collect::<Vec<_>>());
}

/// A backend may still write into the buffer of a read whose client is gone.
#[test]
fn buffers_of_a_vanished_client_are_kept_until_completion() {
    let lab = Lab::new(SIZE);
    lab.backend.set(|knobs| knobs.hold = true);
    let mut raw = Raw::attached(&lab);
    for cookie in 0..4 {
        raw.ask(command::READ, cookie, 0, 65536);
    }
    lab.backend.wait("four reads", |knobs| knobs.ops.len() == 4);
    drop(raw);
    let mut witness = Raw::attached(&lab);
    witness.ask(command::FLUSH, 1, 0, 0);
    lab.backend.wait("a flush", |knobs| knobs.ops.len() == 5);
    assert_eq!(lab.backend.knobs().buffers_taken, 4);
    assert_eq!(
        lab.handle.clients().len(),
        2,
        "it counts until its operations end"
    );
    lab.backend.set(|knobs| knobs.hold = false);
    lab.backend
        .wait("the release", |knobs| knobs.buffers_taken == 0);
    assert!(lab.handle.wait_clients(1, PATIENCE));
    assert_eq!(witness.reply(0).0, 1);
}

#[test]
fn a_client_that_reads_nothing_hinders_no_other() {
    let options = Options {
        in_flight_bytes_max: 4 << 20,
        ..Options::default()
    };
    let lab = Lab::with(MemoryExport::new("vol", 8 << 20), options);
    let mut deaf = Raw::attached(&lab);
    deaf.0.set_nonblocking(true).unwrap();
    let request = Request {
        flags: 0,
        command: command::READ,
        cookie: 1,
        offset: 0,
        len: 1 << 20,
    };
    let header = request.encode();
    let sent = (0..100_000)
        .take_while(|_| deaf.0.write(&header).is_ok_and(|n| n == 28))
        .count();
    assert!(sent < 100_000, "the server never stopped reading");
    let mut good = Raw::attached(&lab);
    for cookie in 0..100 {
        good.ask(command::READ, cookie, 0, 65536);
        assert_eq!(good.reply(65536).0, cookie);
    }
    let taken = lab.backend.knobs().buffers_taken;
    assert!(
        taken <= 5,
        "4 MiB of the deaf one, and the last of the good one: {taken}"
    );
    drop(deaf);
    assert!(lab.handle.wait_clients(1, PATIENCE));
    assert_eq!(lab.backend.knobs().buffers_taken, 0);
}

#[test]
fn a_write_that_trickles_in_is_stored_whole() {
    let lab = Lab::new(SIZE);
    let mut raw = Raw::attached(&lab);
    let data: Vec<u8> = (0..200_000u32).map(|index| (index * 7) as u8).collect();
    raw.ask(command::WRITE, 1, 3, data.len() as u32);
    for piece in data.chunks(17_001) {
        raw.0.write_all(piece).unwrap();
    }
    assert_eq!(raw.reply(0), (1, 0, vec![]));
    raw.ask(command::READ, 2, 3, data.len() as u32);
    assert_eq!(raw.reply(data.len()), (2, 0, data));
}

#[test]
fn frozen_requests_reach_the_backend_only_after_the_thaw() {
    let lab = Lab::new(SIZE);
    let mut raw = Raw::attached(&lab);
    lab.handle.freeze();
    assert!(lab.handle.wait_frozen(PATIENCE));
    raw.ask(command::WRITE, 1, 0, 512);
    raw.0.write_all(&[8; 512]).unwrap();
    raw.ask(command::READ, 2, 0, 512);
    let mut asker = Raw::connect(&lab);
    asker.option(option::LIST, b"");
    asker.take(20);
    assert!(lab.backend.knobs().ops.is_empty());
    assert_eq!(lab.backend.knobs().buffers_taken, 0);
    lab.handle.thaw();
    assert_eq!(raw.reply(0), (1, 0, vec![]));
    assert_eq!(raw.reply(512), (2, 0, vec![8; 512]));
    assert!(matches!(
        lab.backend.knobs().ops[..],
        [Op::Write { .. }, Op::Read { .. }]
    ));
}

#[test]
fn a_write_that_a_freeze_interrupts_goes_on_after_the_thaw() {
    let lab = Lab::new(SIZE);
    let mut raw = Raw::attached(&lab);
    raw.ask(command::WRITE, 1, 0, 100_000);
    raw.0.write_all(&[8; 50_000]).unwrap();
    lab.backend
        .wait("a buffer", |knobs| knobs.buffers_taken == 1);
    lab.handle.freeze();
    assert!(lab.handle.wait_frozen(PATIENCE));
    raw.0.write_all(&[8; 50_000]).unwrap();
    let mut witness = Raw::connect(&lab);
    witness.option(option::LIST, b"");
    witness.take(20);
    assert!(lab.backend.knobs().ops.is_empty());
    lab.handle.thaw();
    assert_eq!(raw.reply(0), (1, 0, vec![]));
    raw.ask(command::READ, 2, 0, 100_000);
    assert_eq!(raw.reply(100_000), (2, 0, vec![8; 100_000]));
}

#[test]
fn the_backend_can_freeze_too_and_is_settled_only_when_idle() {
    let lab = Lab::new(SIZE);
    let mut raw = Raw::attached(&lab);
    lab.backend.set(|knobs| knobs.hold = true);
    raw.ask(command::FLUSH, 1, 0, 0);
    lab.backend.wait("a flush", |knobs| knobs.ops.len() == 1);
    lab.backend.set(|knobs| knobs.turn = Turn::Freeze);
    assert!(!lab.handle.wait_frozen(Duration::from_millis(50)));
    raw.ask(command::FLUSH, 2, 0, 0);
    lab.backend.set(|knobs| knobs.hold = false);
    assert!(lab.handle.wait_frozen(PATIENCE));
    assert_eq!(raw.reply(0).0, 1);
    assert_eq!(lab.backend.knobs().ops.len(), 1);
    lab.backend.set(|knobs| knobs.turn = Turn::Run);
    assert_eq!(raw.reply(0).0, 2);
}

#[test]
fn a_stop_answers_what_is_in_flight_then_closes() {
    let mut lab = Lab::new(SIZE);
    let mut raw = Raw::attached(&lab);
    lab.backend.set(|knobs| knobs.hold = true);
    raw.ask(command::READ, 1, 0, 4096);
    lab.backend.wait("a read", |knobs| knobs.ops.len() == 1);
    lab.handle.stop();
    lab.backend.set(|knobs| knobs.hold = false);
    assert_eq!(raw.reply(4096).0, 1);
    assert!(raw.is_closed());
    let summary = lab.join();
    assert_eq!((summary.connections, summary.abandoned), (1, 0));
    assert!(UnixStream::connect(lab.socket()).is_err());
}

#[test]
fn a_stop_waits_no_longer_than_the_grace_for_a_stuck_backend() {
    let options = Options {
        grace: Duration::from_millis(30),
        ..Options::default()
    };
    let mut lab = Lab::with(MemoryExport::new("vol", SIZE), options);
    let mut raw = Raw::attached(&lab);
    lab.backend.set(|knobs| knobs.hold = true);
    raw.ask(command::FLUSH, 1, 0, 0);
    lab.backend.wait("a flush", |knobs| knobs.ops.len() == 1);
    lab.handle.stop();
    assert_eq!(lab.join().abandoned, 1);
    assert!(raw.is_closed());
}

#[test]
fn clients_are_named_by_their_process() {
    let lab = Lab::new(SIZE);
    let _asking = Raw::connect(&lab);
    let _using = Raw::attached(&lab);
    let clients = lab.handle.clients();
    let pid = std::process::id() as i32;
    assert_eq!(
        clients.iter().map(|client| client.pid).collect::<Vec<_>>(),
        [pid, pid]
    );
    let attached: Vec<bool> = clients.iter().map(|client| client.attached).collect();
    assert_eq!(attached, [false, true]);
}

#[test]
fn one_client_too_many_waits_for_its_turn() {
    let options = Options {
        connections_max: 1,
        ..Options::default()
    };
    let lab = Lab::with(MemoryExport::new("vol", SIZE), options);
    let first = Raw::attached(&lab);
    let mut second = UnixStream::connect(lab.socket()).unwrap();
    second.set_nonblocking(true).unwrap();
    let early = second.read(&mut [0; 18]).unwrap_err();
    assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
    drop(first);
    second.set_nonblocking(false).unwrap();
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    second.read_exact(&mut [0; 18]).unwrap();
}

#[test]
fn scarce_buffers_slow_down_and_lose_nothing() {
    let memory = MemoryExport::new("vol", SIZE).with_buffers_max(1);
    let lab = Lab::with(memory, Options::default());
    let mut clients: Vec<Raw> = (0..3).map(|_| Raw::attached(&lab)).collect();
    for (index, raw) in clients.iter_mut().enumerate() {
        for cookie in 0..50 {
            raw.ask(command::WRITE, cookie, index as u64 * 4096, 4096);
            raw.0.write_all(&[index as u8 + 1; 4096]).unwrap();
        }
    }
    for (index, raw) in clients.iter_mut().enumerate() {
        (0..50).for_each(|cookie| assert_eq!(raw.reply(0).0, cookie));
        raw.ask(command::READ, 99, index as u64 * 4096, 4096);
        assert_eq!(raw.reply(4096).2, vec![index as u8 + 1; 4096]);
    }
}
