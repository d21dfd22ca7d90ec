//! The nodes, their deaths, and one round after the other.

use super::broken::Broken;
use super::judge;
use super::load::{self, Reader, Signals, Wrong};
use super::moments::Moments;
use super::old::Tree;
use client::Client;
use nix::sys::signal::Signal;
use node::supervisor::pids::Pidfd;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use system_tests::golden::node::moving;
use system_tests::real::{RealNode, program};

const READERS_OF_EACH: u64 = 2;
/// Answers before, between and after deaths: fewer than this each.
const ANSWERS: u64 = 120;
const DEATHS_MAX: u32 = 3;
/// Moments that are let pass before a death at one of them: fewer than this.
const MOMENTS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// Two nodes over one tree.
pub(super) struct Nodes {
    one: RealNode,
    other: RealNode,
    broken: Broken,
}

/// What happened in rounds.
#[derive(Default)]
pub(super) struct Seen {
    answers: u64,
    deaths: u64,
    /// Runs of `vlmc migrate --all` that ended well, and those that found maps in use.
    runs: u64,
    busy: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Seen) {
        self.answers += other.answers;
        self.deaths += other.deaths;
        self.runs += other.runs;
        self.busy += other.busy;
    }

    /// That the rounds were what they promise.
    pub(super) fn judge(&self, rounds: u64) {
        assert!(self.deaths >= rounds, "{self}");
        assert!(self.runs + self.busy >= rounds / 3, "{self}");
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen {
            answers,
            deaths,
            runs,
            busy,
        } = self;
        write!(
            f,
            "{answers} answers, {deaths} deaths, {runs} runs of migrate --all and {busy} that found \
             maps in use: nothing lost, twice, wrong or left over"
        )
    }
}

fn migrating(text: String) -> String {
    text.replace("archip_dir = ", "pithos_migrate = True\narchip_dir = ")
}

impl Nodes {
    pub(super) fn start(shape: Option<&str>) -> Nodes {
        let beside = program("archipelago");
        let parent = beside.parent().expect("it lies in a directory");
        let vary = |params: &mut config::SampleParams| {
            params.process = shape.map(str::to_owned);
            params.segment_size_mib = 64;
        };
        let one = RealNode::start_varied(parent, vary, migrating).unwrap();
        let dir = one.dir().display().to_string();
        let shared = |text: String| {
            let text = migrating(text);
            let text = text.replace("archip_dir = ", &format!("archip_dir = {dir}/"));
            text.replace("lock_dir = ", &format!("lock_dir = {dir}/"))
        };
        let other = RealNode::start_varied(parent, vary, shared).unwrap();
        let broken = Broken::watch(&one.dir().join("locks"));
        Nodes { one, other, broken }
    }

    fn both(&self) -> [&RealNode; 2] {
        [&self.one, &self.other]
    }

    fn reader<'a>(&'a self, client: &'a Client, tree: &'a Tree) -> Reader<'a> {
        let broken = &self.broken;
        Reader {
            client,
            tree,
            broken,
        }
    }

    /// Where the tree is.
    fn dir(&self) -> &Path {
        self.one.dir()
    }

    pub(super) fn stop(self) {
        for node in [self.other, self.one] {
            assert!(node.stop().unwrap().success());
        }
    }

    /// # Panics
    /// If anything is wrong; says the round, its seed, and what.
    pub(super) fn round(&self, round: u64, seed: u64, dice: &mut ChaCha8Rng) -> Seen {
        let tree = Tree::new(round, dice);
        tree.lay(self.dir());
        let (mut seen, mut wrong) = self.serve_and_die(&tree, dice);
        if wrong.is_empty() {
            wrong = self.ask_everything(&tree);
        }
        if wrong.is_empty() {
            wrong = judge::judge(self.dir(), &tree);
        }
        assert!(
            wrong.is_empty(),
            "round {round} (seed {seed}): {}",
            wrong.join("\n")
        );
        judge::clear(self.dir());
        seen.answers += 1;
        seen
    }

    /// Readers on both nodes, and deaths among them.
    fn serve_and_die(&self, tree: &Tree, dice: &mut ChaCha8Rng) -> (Seen, Vec<Wrong>) {
        let signals = Signals::default();
        let moments = Moments::of(self.dir(), tree);
        let mut seen = Seen::default();
        let wrong = std::thread::scope(|scope| {
            let mut readers = Vec::new();
            for (node, n) in self.both().into_iter().zip(0..) {
                for reader in 0..READERS_OF_EACH {
                    let (signals, seed) = (&signals, dice.random::<u64>());
                    let (socket, ports) = (node.socket(), node.ports());
                    readers.push(scope.spawn(move || {
                        let client = &Client::connect(&socket, ports, "reader").unwrap();
                        load::read(&self.reader(client, tree), seed, signals)
                            .map_err(|wrong| format!("node {n}, reader {reader}: {wrong}"))
                    }));
                }
            }
            let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.die(tree, (&signals, &moments), dice, &mut seen)
            }));
            signals.stop.store(true, Relaxed);
            let answers = readers.into_iter().map(|reader| reader.join().unwrap());
            let mut wrong: Vec<Wrong> = answers.filter_map(Result::err).collect();
            match died {
                Ok(more) => wrong.extend(more),
                Err(panic) if wrong.is_empty() => std::panic::resume_unwind(panic),
                // A reader that has stopped is why nothing went on.
                Err(_) => {}
            }
            wrong
        });
        seen.answers = signals.served.load(Relaxed);
        (seen, wrong)
    }

    /// Runs the tool, kills, and waits for answers in between.
    fn die(
        &self,
        tree: &Tree,
        (signals, moments): (&Signals, &Moments),
        dice: &mut ChaCha8Rng,
        seen: &mut Seen,
    ) -> Vec<Wrong> {
        let mut tools: Vec<Child> = match dice.random_range(0..3) {
            0 => Vec::new(),
            1 => vec![migrate_all(self.both()[dice.random_range(0..2)])],
            _ => self.both().map(migrate_all).into(),
        };
        let victim = self.both()[dice.random_range(0..2)];
        for _ in 0..dice.random_range(1..=DEATHS_MAX) {
            let more = dice.random_range(0..ANSWERS);
            match dice.random() {
                true => await_answers(signals, more),
                false => await_moment(signals, moments, dice.random_range(0..MOMENTS)),
            }
            let role = ["blockerb", "blockerm", "mapperd"][dice.random_range(0..3)];
            seen.deaths += u64::from(kill(victim, role));
        }
        await_answers(signals, dice.random_range(0..ANSWERS));
        let mut wrong = Vec::new();
        for tool in tools.drain(..) {
            match self.ended(tool, tree) {
                Ok(true) => seen.runs += 1,
                Ok(false) => seen.busy += 1,
                Err(why) => wrong.push(why),
            }
        }
        wrong
    }

    /// True: it moved everything; false: maps were locked by somebody. Err: what else it says.
    fn ended(&self, tool: Child, tree: &Tree) -> Result<bool, Wrong> {
        let output = tool.wait_with_output().map_err(|why| why.to_string())?;
        if output.status.success() {
            return Ok(true);
        }
        let said = || {
            let (out, err) = (&output.stdout, &output.stderr);
            let text = [&out[..], &err[..]].map(String::from_utf8_lossy).concat();
            format!("migrate --all: {}: {text}", output.status)
        };
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|_| said())?;
        let left = report["left"].as_array().ok_or_else(said)?;
        let has_other_holder = |left: &serde_json::Value| {
            let reason = left["reason"].as_str().unwrap_or_default();
            let is = |errno| reason.ends_with(&reason_of(errno));
            let broken = || is(libc::ESTALE) && self.broken.has(&tree.volume);
            left["role"] == "mapperd" && (is(libc::EBUSY) || broken())
        };
        match left.iter().all(has_other_holder) {
            true => Ok(false),
            false => Err(said()),
        }
    }

    /// Each node once, and then there is nothing under way any more.
    fn ask_everything(&self, tree: &Tree) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        for (node, n) in self.both().into_iter().zip(0..) {
            let client = node.client();
            let asked = self.reader(&client, tree).ask_everything();
            wrong.extend(
                asked
                    .map_err(|why| format!("node {n}, at the end: {why}"))
                    .err(),
            );
            for port in [node.ports().blockerb, node.ports().blockerm] {
                while moving(&client, port) > 0 {
                    std::thread::yield_now();
                }
            }
        }
        wrong
    }
}

fn migrate_all(node: &RealNode) -> Child {
    let mut command = Command::new(program("vlmc"));
    command.arg("-c").arg(&node.file).args(["migrate", "--all"]);
    command.args(["--format", "json"]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// How the tools say it, behind what they were doing.
fn reason_of(errno: i32) -> String {
    let what = String::new();
    client::Error { errno, what }.to_string()
}

/// Kills the process of a role; false: it is dead already, or not alive again.
fn kill(node: &RealNode, role: &str) -> bool {
    let Some(pid) = node.pid_of(role) else {
        return false;
    };
    // The file may be a dead one's, and its number somebody else's by now.
    let Ok(process) = Pidfd::open(pid) else {
        return false;
    };
    parent_of(pid) == Some(node.supervisor_pid()) && process.signal(Signal::SIGKILL).is_ok()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, words) = stat.rsplit_once(')')?;
    words.split_whitespace().nth(1)?.parse().ok()
}

/// Waits for one of the moments; when everything has moved there may be none.
fn await_moment(signals: &Signals, moments: &Moments, count: usize) {
    let goal = signals.served.load(Relaxed) + ANSWERS;
    let begin = Instant::now();
    moments.pass(count, || {
        assert!(begin.elapsed() < PATIENCE, "the readers are stuck");
        signals.served.load(Relaxed) >= goal
    });
}

fn await_answers(signals: &Signals, more: u64) {
    let goal = signals.served.load(Relaxed) + more;
    let begin = Instant::now();
    while signals.served.load(Relaxed) < goal {
        assert!(begin.elapsed() < PATIENCE, "the readers are stuck");
        std::thread::sleep(Duration::from_micros(200));
    }
}
