//! Requests over the segment, to a peer that does nothing: two processes, one processor each.
//!
//! ```text
//!   client --slot: record, state word--> inbox of the peer   one line for the inbox head, one for
//!   client <--slot: answer, state word-- inbox of the client  the state word, two for the record
//! ```
//! Awake, depth 1: about 4 to 6 lines move for each round trip where the raw ping-pong moves 2,
//! and each costs 100 to 160 ns from core to core; no system call. Expected 600 to 1100 ns.
//! Asleep, depth 1: 2 system calls on each side (ring, wait), as in the raw ping-pong, plus those
//! lines. Deeper, the lines of one request move while another is worked on, and bells are not
//! rung: the rate tends to what one side needs for one request, about 150 to 300 ns.

use super::Setting;
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::goal::Goal;
use crate::histogram::Histogram;
use crate::raw::bell::Pair;
use crate::raw::line::Line;
use crate::roles::{ECHO_PORT, Pinned, Played, Sleeper, number_of, spin_for, two_cpus};
use client::{Core, Done};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xseg::join::{Connection, Kind};
use xseg::protocol::Operation;
use xseg::{Name, Request};

const AWAKE: &str = "client --2 lines--> inbox + slot; peer --2 lines--> inbox + slot: 4 to 6 lines \
of 100 to 160 ns
0 system calls, 0 copies of data, 0 allocations: 600 to 1,100 ns (raw line: 2 lines, 400 to 650 ns)";
const ASLEEP: &str =
    "as awake, and on each side one write to ring and one wait: 4 system calls, as \
the raw eventfd (4)
two wake-ups of a sleeping core, 5 to 8 us each, decide";
const DEEP: &str = "the other side is awake: no system call; the lines of one request move while \
another is worked on
what one side needs for one request decides: 150 to 400 ns, so 2.5 to 6 million/s";

const XSEG_AWAKE: &str = "xseg, both awake";
const XSEG_SHIPPED: &str = "xseg, spin 20 us, then sleep";
const XSEG_ASLEEP: &str = "xseg, both sleep at once";
const RAW_LINE: &str = "raw cache line";
const RAW_BELL: &str = "raw eventfd";

/// Round trips in us at depth 1, and rates deeper.
pub fn cases(_: &Setting) -> Result<Vec<Case>, Trouble> {
    let xseg = |manner, depth| Xseg {
        manner,
        depth,
        node: None,
    };
    let awake = Case::new(
        "xseg/awake-qd1",
        "round trip, both sides awake",
        AWAKE,
        Metric::MedianMicros,
    )
    .with(xseg(Manner::Awake, 1))
    .with(xseg(Manner::Shipped, 1))
    .with(RawLine(None))
    .wants(Goal::at_most(
        XSEG_AWAKE,
        1.2,
        "the original: 2.7 us, 272k/s",
    ));
    let asleep = Case::new(
        "xseg/asleep-qd1",
        "round trip, both sides sleep",
        ASLEEP,
        Metric::MedianMicros,
    )
    .with(xseg(Manner::Asleep, 1))
    .with(RawBell(None))
    .wants(Goal::at_most_times(XSEG_ASLEEP, 1.5, RAW_BELL))
    .wants(Goal::at_most(
        XSEG_ASLEEP,
        9.9,
        "the original, on another day: 87k/s",
    ));
    let deep = |depth, polls: f64, sleeps: f64| {
        let title = format!("throughput, depth {depth}");
        Case::new(format!("xseg/qd{depth}"), title, DEEP, Metric::Rate)
            .with(xseg(Manner::Awake, depth))
            .with(xseg(Manner::Shipped, depth))
            .with(xseg(Manner::Asleep, depth))
            .wants(Goal::at_least(XSEG_AWAKE, polls, "the original, polling"))
            .wants(Goal::at_least(
                XSEG_SHIPPED,
                sleeps,
                "the original, sleeping",
            ))
    };
    Ok(vec![
        awake,
        asleep,
        deep(16, 482e3, 460e3),
        deep(64, 510e3, 454e3),
    ])
}

/// A segment and a client's seat at it.
struct Node {
    _holder: Played,
    dir: TempDir,
    core: Core,
    _connection: Connection,
}

impl Node {
    fn start() -> Result<Node, Trouble> {
        let dir = tempfile::tempdir().map_err(Trouble::failed("temporary directory"))?;
        let socket = socket(dir.path());
        let holder = Played::start(&["holder".into(), "--socket".into(), socket.clone()], &[])?;
        let joined = xseg::join::connect(Path::new(&socket), Kind::Client { name: "bench" });
        let mut joined = joined.map_err(Trouble::failed("segment"))?;
        joined.seat.bind_dynamic();
        Ok(Node {
            _holder: holder,
            dir,
            core: Core::new(joined.seat),
            _connection: joined.connection,
        })
    }
}

fn socket(dir: &Path) -> String {
    dir.join("node.sock").display().to_string()
}

/// How both sides wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Awake,
    Shipped,
    Asleep,
}

impl Manner {
    /// How long a side looks again before it sleeps.
    fn spin(self) -> Duration {
        match self {
            Manner::Awake => Duration::from_secs(1),
            Manner::Shipped => Duration::from_micros(20),
            Manner::Asleep => Duration::ZERO,
        }
    }
}

struct Xseg {
    manner: Manner,
    depth: usize,
    node: Option<Node>,
}

impl Contender for Xseg {
    fn name(&self) -> String {
        match self.manner {
            Manner::Awake => XSEG_AWAKE,
            Manner::Shipped => XSEG_SHIPPED,
            Manner::Asleep => XSEG_ASLEEP,
        }
        .into()
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.node = Some(Node::start()?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let node = self
            .node
            .as_mut()
            .ok_or(Trouble::Failed("no node".into()))?;
        let (mine, theirs) = two_cpus();
        let (socket, cpu) = (socket(node.dir.path()), theirs.to_string());
        let spin_us = self.manner.spin().as_micros().to_string();
        let arguments = [
            "echo",
            "--socket",
            &socket,
            "--cpu",
            &cpu,
            "--spin-us",
            &spin_us,
        ];
        let _echo = Played::start(&arguments.map(str::to_owned), &[])?;
        let _pinned = Pinned::to(mine).map_err(Trouble::failed("pinning"))?;
        trips(&mut node.core, self.depth, self.manner.spin(), budget)
    }

    fn teardown(&mut self) {
        self.node = None;
    }
}

/// Keeps `depth` requests under way for `budget`.
fn trips(core: &mut Core, depth: usize, spin: Duration, budget: Duration) -> Result<Turn, Trouble> {
    let sleeper = Sleeper::new(core.seat()).map_err(Trouble::failed("bell"))?;
    let request = Request::new(Operation::Ping, Name::EMPTY);
    let send = |core: &mut Core, token: usize| {
        let sent = core.submit(ECHO_PORT, &request, None, token as u64);
        sent.map_err(|(errno, _)| Trouble::failed("ping")(std::io::Error::from_raw_os_error(errno)))
    };
    let mut latencies = Histogram::default();
    let start = Instant::now();
    let mut started = vec![start; depth];
    let mut done: Vec<Done> = Vec::with_capacity(depth);
    for token in 0..depth {
        send(core, token)?;
    }
    let mut now = start;
    while core.under_way() > 0 {
        if !spin_for(spin, || core.poll(&mut done)) {
            sleeper
                .sleep(core.seat())
                .map_err(Trouble::failed("bell"))?;
            continue;
        }
        now = Instant::now();
        for one in done.drain(..) {
            let token = one.token as usize;
            latencies.record((now - started[token]).as_nanos() as u64);
            if now - start < budget {
                started[token] = now;
                send(core, token)?;
            }
        }
    }
    Ok(Turn::timed(now - start, latencies))
}

struct RawLine(Option<Line>);

impl Contender for RawLine {
    fn name(&self) -> String {
        RAW_LINE.into()
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.0 = Some(Line::create().map_err(Trouble::failed("shared page"))?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let line = self.0.as_ref().ok_or(Trouble::Failed("no page".into()))?;
        let (mine, theirs) = two_cpus();
        let arguments = [
            "line",
            "--fd",
            &number_of(line.file()),
            "--cpu",
            &theirs.to_string(),
        ];
        let _other = Played::start(&arguments.map(str::to_owned), &[line.file().as_fd()])?;
        let _pinned = Pinned::to(mine).map_err(Trouble::failed("pinning"))?;
        line.ask(budget)
    }
}

struct RawBell(Option<Pair>);

impl Contender for RawBell {
    fn name(&self) -> String {
        RAW_BELL.into()
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.0 = Some(Pair::create().map_err(Trouble::failed("eventfd"))?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let pair = self
            .0
            .as_ref()
            .ok_or(Trouble::Failed("no eventfd".into()))?;
        let (mine, theirs) = two_cpus();
        let (ask, answer) = (number_of(&pair.ask), number_of(&pair.answer));
        let arguments = [
            "bell",
            "--ask",
            &ask,
            "--answer",
            &answer,
            "--cpu",
            &theirs.to_string(),
        ];
        let fds = [pair.ask.as_fd(), pair.answer.as_fd()];
        let _other = Played::start(&arguments.map(str::to_owned), &fds)?;
        let _pinned = Pinned::to(mine).map_err(Trouble::failed("pinning"))?;
        pair.ask(budget)
    }
}
