//! What the tests are played with: a node, children, a client, chance.

use crate::actors;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xseg::join::{self, Connection, Holder, HolderSpec, Kind, Notice};
use xseg::protocol::Operation;
use xseg::report::Report;
use xseg::seat::{PRIVATE, PUBLIC, RequestId};
use xseg::{Answer, Event, Name, RegionSpec, Request, Seat, Segment};

/// Longer than anything takes; who waits longer hangs.
pub(crate) const FOREVER: Duration = Duration::from_secs(60);

pub(crate) fn spec(socket: &Path) -> HolderSpec {
    HolderSpec {
        region: RegionSpec::public(16, 8, 64),
        socket: socket.to_owned(),
        umask: 0o027,
        group: None,
        generation: 1,
        adopt_within: None,
    }
}

/// A holder in a thread of its own, as a supervisor embeds it.
pub(crate) struct Node {
    pub(crate) socket: PathBuf,
    public: Segment,
    private: Segment,
    notices: Receiver<Notice>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    _place: tempfile::TempDir,
}

impl Node {
    pub(crate) fn start() -> Node {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("node.sock");
        Node::hold(place, spec(&socket))
    }

    /// A node whose socket every user can reach, so that credentials alone decide.
    pub(crate) fn start_open(group: Option<u32>) -> Node {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let all = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.path(), all(0o755)).unwrap();
        let socket = place.path().join("node.sock");
        let node = Node::hold(
            place,
            HolderSpec {
                group,
                ..spec(&socket)
            },
        );
        std::fs::set_permissions(&socket, all(0o666)).unwrap();
        node
    }

    /// A node that takes over from one that crashed.
    pub(crate) fn adopt(place: tempfile::TempDir, socket: &Path) -> Node {
        let adopt_within = Some(FOREVER);
        Node::hold(
            place,
            HolderSpec {
                adopt_within,
                generation: 2,
                ..spec(socket)
            },
        )
    }

    fn hold(place: tempfile::TempDir, spec: HolderSpec) -> Node {
        let socket = spec.socket.clone();
        let mut holder = Holder::new(spec).unwrap();
        let (public, private) = (holder.public().clone(), holder.private().clone());
        let (tell, notices) = mpsc::channel();
        let (stopped, stop) = nix::unistd::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            loop {
                let fds = [holder.descriptor(), stopped.as_fd()];
                if wait(&fds, holder.patience())[1] {
                    return;
                }
                for notice in holder.turn().unwrap() {
                    let _ = tell.send(notice);
                }
            }
        });
        Node {
            socket,
            public,
            private,
            notices,
            stop: Some(stop),
            thread: Some(thread),
            _place: place,
        }
    }

    /// The next notice that fits; others are dropped.
    pub(crate) fn wait_for(&self, fits: impl Fn(&Notice) -> bool) -> Notice {
        let until = Instant::now() + FOREVER;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let notice = self.notices.recv_timeout(left).expect("a notice in time");
            if fits(&notice) {
                return notice;
            }
        }
    }

    pub(crate) fn assert_nothing_in_use(&self) {
        let report = Report::new(&self.public, Some(&self.private), &|_| true);
        for region in [PUBLIC, PRIVATE] {
            assert_eq!(report.slots_in_use(region), 0, "{report}");
            assert_eq!(report.buffers_in_use(region), 0, "{report}");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking());
    }
}

/// Waits for any of `fds`, at most `patience`, and says which are ready.
pub(crate) fn wait(fds: &[BorrowedFd<'_>], patience: Option<Duration>) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    let timeout = patience.map_or(PollTimeout::NONE, |d| {
        PollTimeout::try_from(d.as_micros().div_ceil(1000) as i32).unwrap()
    });
    poll(&mut polled, timeout).unwrap();
    polled
        .iter()
        .map(|fd| fd.revents().is_some_and(|r| !r.is_empty()))
        .collect()
}

pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    wait(&[fd], Some(Duration::ZERO))[0]
}

/// A child process; it is killed when it is dropped.
pub(crate) struct Child(Option<std::process::Child>);

impl Child {
    /// Starts an actor and waits until it says that it is at work.
    pub(crate) fn start(role: &str, socket: &Path, seed: u64) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env("XSEG_CHILD", role)
            .env("XSEG_SOCKET", socket)
            .env("XSEG_SEED", seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let child = Child(Some(child));
        let at_work = out
            .lines()
            .any(|line| line.is_ok_and(|l| l.ends_with(actors::AT_WORK)));
        assert!(at_work, "{role} ended before it was at work");
        child
    }

    pub(crate) fn none() -> Child {
        Child(None)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        let child = self.0.as_mut().unwrap();
        child.try_wait().unwrap().is_none()
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// A client in this process.
pub(crate) struct Client {
    pub(crate) seat: Seat,
    pub(crate) connection: Connection,
    events: Vec<Event>,
    waiting: HashSet<RequestId>,
    sent: u64,
}

impl Client {
    pub(crate) fn join(socket: &Path, name: &str) -> Client {
        let joined = join::connect(socket, Kind::Client { name }).unwrap();
        Client {
            seat: joined.seat,
            connection: joined.connection,
            events: Vec::new(),
            waiting: HashSet::new(),
            sent: 0,
        }
    }

    fn submit(&mut self, port: u32, request: &Request) -> RequestId {
        let ticket = self.seat.claim(PUBLIC).expect("a free slot");
        self.seat.submit(ticket, port, request).unwrap()
    }

    fn sleep(&mut self, patience: Duration) -> bool {
        self.seat.hush();
        if !self.seat.doze() {
            return true;
        }
        let bell = self.seat.bells().descriptor(self.seat.no()).unwrap();
        let rang = wait(&[bell], Some(patience))[0];
        self.seat.wake();
        rang
    }

    fn reply(&mut self, id: RequestId, patience: Duration) -> Option<(xseg::Ticket, Answer)> {
        let until = Instant::now() + patience;
        loop {
            self.seat.poll(&mut self.events);
            for event in self.events.drain(..) {
                match event {
                    Event::Reply(ticket, answer) if ticket.id() == id => {
                        return Some((ticket, answer));
                    }
                    Event::Reply(ticket, _) => self.seat.release(ticket),
                    // Somebody scribbled.
                    Event::Request(incoming) => self.seat.answer(incoming, Answer::failed(0)),
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if !self.sleep(left) && Instant::now() >= until {
                return None;
            }
        }
    }

    /// One round trip.
    pub(crate) fn ask(&mut self, port: u32, number: u64) -> u64 {
        let id = self.submit(port, &ping(number));
        let (ticket, answer) = self.reply(id, FOREVER).expect("the server hangs");
        self.seat.release(ticket);
        answer.result().unwrap()
    }

    /// One round trip through whatever a scribbler makes of it.
    pub(crate) fn try_ask(&mut self, port: u32, number: u64) {
        let Some(ticket) = self.seat.claim(PUBLIC) else {
            return;
        };
        let Ok(id) = self.seat.submit(ticket, port, &ping(number)) else {
            return;
        };
        match self.reply(id, Duration::from_millis(2)) {
            Some((ticket, _)) => self.seat.release(ticket),
            None => {
                self.seat.forget(id);
            }
        }
    }

    /// One round trip with data: what the server wrote.
    pub(crate) fn ask_for_data(&mut self, port: u32, len: u64) -> Vec<u8> {
        let buffer = self.seat.take_buffer(PUBLIC, len).unwrap();
        let request = Request {
            data: buffer.address(),
            datalen: len,
            ..ping(0)
        };
        let id = self.submit(port, &request);
        let (ticket, answer) = self.reply(id, FOREVER).expect("the server hangs");
        answer.result().unwrap();
        let data = self.seat.reply_data(&ticket).unwrap().to_vec();
        self.seat.release(ticket);
        assert!(self.seat.give_buffer_back(buffer.address()));
        data
    }

    /// Sends one more request and does not wait.
    pub(crate) fn send(&mut self, port: u32) {
        let number = self.sent;
        self.sent += 1;
        let id = self.submit(port, &ping(number));
        assert!(self.waiting.insert(id), "an id is used twice");
    }

    /// Takes the answers that are there, and returns how many.
    pub(crate) fn pump(&mut self) -> usize {
        self.seat.poll(&mut self.events);
        let count = self.events.len();
        for event in self.events.drain(..) {
            let Event::Reply(ticket, answer) = event else {
                panic!("nobody asks a client")
            };
            assert!(self.waiting.remove(&ticket.id()), "answered twice");
            assert!(answer.result().unwrap() ^ actors::ECHO < self.sent);
            self.seat.release(ticket);
        }
        count
    }

    /// Waits for every answer, and returns how many came.
    pub(crate) fn drain(&mut self) -> usize {
        let mut count = self.pump();
        while !self.waiting.is_empty() {
            assert!(self.sleep(FOREVER), "{} unanswered", self.waiting.len());
            count += self.pump();
        }
        count
    }
}

fn ping(number: u64) -> Request {
    Request {
        offset: number,
        ..Request::new(Operation::Ping, Name::try_from("target").unwrap())
    }
}

/// Chance, replayable.
pub(crate) struct Random(u64);

impl Random {
    /// A seed from XSEG_SEED or the clock, printed under `what`.
    pub(crate) fn seeded(what: &str) -> Random {
        let seed = std::env::var("XSEG_SEED").map_or_else(
            |_| {
                let now = std::time::UNIX_EPOCH.elapsed().unwrap();
                now.as_nanos() as u64
            },
            |s| s.parse().unwrap(),
        );
        println!("{what}: XSEG_SEED={seed}");
        Random(seed | 1)
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A random point in time for a kill: what is at work goes on meanwhile.
pub(crate) fn spin_us(us: u64) {
    let until = Instant::now() + Duration::from_micros(us);
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

/// Sends raw bytes to a holder and returns its answer.
pub(crate) fn say(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None);
    let fd = fd.unwrap();
    nix::sys::socket::connect(fd.as_raw_fd(), &UnixAddr::new(socket).unwrap()).unwrap();
    nix::sys::socket::send(fd.as_raw_fd(), bytes, MsgFlags::empty()).unwrap();
    let mut answer = vec![0; 1024];
    let len = nix::sys::socket::recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
    answer.truncate(len);
    answer
}

/// Runs `then` in a thread whose user and group are `id`.
pub(crate) fn as_user(id: u32, then: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: plain system calls on numbers; by number, not through libc, they change
            // this thread alone.
            let changed = unsafe {
                libc::syscall(libc::SYS_setresgid, id, id, id)
                    | libc::syscall(libc::SYS_setresuid, id, id, id)
            };
            assert_eq!(changed, 0);
            then();
        });
        thread.join().unwrap();
    });
}
