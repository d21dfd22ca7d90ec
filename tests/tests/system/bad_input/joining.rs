//! Segments of another version, messages of strangers, ports that nobody serves.

use super::{Storage, Victim, name, program};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, connect, listen,
    recv, send, socket,
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use xseg::Request;
use xseg::join::wire::{Answer, Hello, Wish};
use xseg::protocol::Operation;

// Of the segment alone: nobody gets as far as a storage.
on_each! {
    files =>
        joiners_of_another_version_are_told,
        a_node_of_another_version_is_told,
}
on_each!(files, rados => ports_that_nobody_serves);

const OTHER_LAYOUT: &str = "the node runs another version of Archipelago (its segment is laid out \
                            differently); stop the node and start it again";
const OTHER_PROTOCOL: &str = "another version of Archipelago speaks here (protocol 9, ours is 1); \
                              stop the node and start it again";

fn seqpacket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap()
}

/// What the holder at `path` says to `hello`.
fn says(path: &Path, hello: &[u8]) -> Answer {
    let socket = seqpacket();
    connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    send(socket.as_raw_fd(), hello, MsgFlags::empty()).unwrap();
    let mut bytes = [0; 512];
    let len = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
    Answer::decode(&bytes[..len]).unwrap()
}

fn joiners_of_another_version_are_told(storage: &Storage) {
    let node = Victim::new(storage);
    let ours = Hello::new(Wish::Client, "stranger");
    let another_layout = Hello {
        layout_hash: ours.layout_hash ^ 1,
        ..ours.clone()
    };
    let mut another_protocol = ours.encode();
    another_protocol[8] = 9;
    let rows: [(&[u8], i32, &str); 4] = [
        (
            &another_layout.encode(),
            libc::EPROTONOSUPPORT,
            OTHER_LAYOUT,
        ),
        (&another_protocol, libc::EPROTONOSUPPORT, OTHER_PROTOCOL),
        (
            b"GET / HTTP/1.0\r\n\r\n",
            libc::EPROTO,
            "this is no Archipelago joining message",
        ),
        (
            &ours.encode()[..20],
            libc::EPROTO,
            "this is no Archipelago joining message",
        ),
    ];
    for (hello, errno, sentence) in rows {
        let answer = says(&node.node.socket(), hello);
        assert_eq!(
            (answer.errno as i32, answer.text.as_str()),
            (errno, sentence)
        );
        node.is_unchanged(sentence);
    }
    node.end();
}

/// A tool of this version finds a node of another one: its holder refuses in its own words, or
/// speaks another protocol.
fn a_node_of_another_version_is_told(storage: &Storage) {
    let node = Victim::new(storage);
    let other = tempfile::tempdir().unwrap();
    let run = other.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let text = std::fs::read_to_string(&node.node.file).unwrap();
    for dir in ["blocks", "maps", "locks", "log"] {
        std::fs::create_dir(other.path().join(dir)).unwrap();
    }
    let file = other.path().join("archipelago.conf");
    std::fs::write(&file, text).unwrap();
    let listener = seqpacket();
    let path = run.join("archipelago.sock");
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(4).unwrap()).unwrap();
    let refusal = Answer::refused(libc::EPROTONOSUPPORT, "layout 7 is spoken here, not 1");
    let mut protocol_9 = Answer::default().encode();
    protocol_9[8] = 9;
    for (answer, sentence) in [
        (refusal.encode(), "layout 7 is spoken here, not 1"),
        (protocol_9, OTHER_PROTOCOL),
    ] {
        let asked = std::thread::scope(|scope| {
            let vlmc = scope.spawn(|| {
                let mut vlmc = std::process::Command::new(program("vlmc"));
                vlmc.arg("-c").arg(&file).args(["info", "volume-1"]);
                vlmc.output().unwrap()
            });
            // SAFETY: accept returned it just now, and nobody else has it.
            let joiner = unsafe { OwnedFd::from_raw_fd(accept(listener.as_raw_fd()).unwrap()) };
            let mut hello = [0; 512];
            recv(joiner.as_raw_fd(), &mut hello, MsgFlags::empty()).unwrap();
            send(joiner.as_raw_fd(), &answer, MsgFlags::empty()).unwrap();
            vlmc.join().unwrap()
        });
        assert_eq!(super::text(&asked.stderr), format!("{sentence}\n"));
        assert_eq!(asked.status.code(), Some(255));
    }
    node.end();
}

fn ports_that_nobody_serves(storage: &Storage) {
    let node = Victim::new(storage);
    for port in [60, 127, 128, 1 << 20, u32::MAX] {
        let request = Request::new(Operation::Info, name("volume-1"));
        let call = node.client.call(port, request, b"some data", 0);
        let answer = node.client.block_on(call).map(|reply| reply.serviced);
        assert_eq!(answer, Err(libc::ENXIO), "port {port}");
        node.is_unchanged(&format!("port {port}"));
    }
    node.end();
}
