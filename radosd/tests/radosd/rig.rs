//! A cluster, and drivers over it.

use driver::{Buf, Done, Driver, Errno, Name, Op, OpId, Reply, Tag};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rados_lab::{Lab, Options};
use radosd::{Config, OpenError, Radosd};
use reactor::Reactor;
use std::path::Path;
use std::rc::Rc;
use tempfile::TempDir;

/// A cluster in the system's folder for temporary files.
pub(crate) fn lab(options: Options) -> Lab {
    Lab::start(&std::env::temp_dir(), options).unwrap()
}

/// How a node whose clients know each other from `run_dir` opens `pool`.
pub(crate) fn config(lab: &Lab, pool: &str, owner: &str, run_dir: &Path) -> Config {
    Config {
        pool: pool.into(),
        cephx_id: Some(rados_lab::USER.into()),
        ceph_conf: lab.user_conf(),
        owner: owner.into(),
        role: format!("blocker-{pool}"),
        run_dir: run_dir.into(),
        tag_of,
        expected_id: None,
    }
}

/// A driver, the reactor that it runs on, and the folder of its node.
pub(crate) struct Pool {
    // Dropped in this order: the driver waits for its operations on the reactor's ring.
    pub(crate) driver: Radosd,
    pub(crate) reactor: Rc<Reactor>,
}

impl Pool {
    pub(crate) fn open(config: Config) -> Result<Pool, OpenError> {
        let reactor = Rc::new(Reactor::new(64).unwrap());
        let driver = Radosd::open(config, &reactor)?;
        Ok(Pool { driver, reactor })
    }

    /// Submits all at once; answers in the order of the questions.
    pub(crate) fn ask_all(&mut self, ops: Vec<Op>) -> Vec<Done> {
        let count = ops.len();
        for (id, op) in ops.into_iter().enumerate() {
            self.driver.submit(OpId(id as u64), op);
        }
        let mut done = Vec::new();
        while done.len() < count {
            self.driver.poll(&mut done);
            if done.len() < count {
                self.reactor.turn_or_wait(None).unwrap();
            }
        }
        done.sort_by_key(|done| done.id);
        done
    }

    pub(crate) fn ask(&mut self, op: Op) -> Result<Reply, Errno> {
        self.ask_all(vec![op]).remove(0).result
    }

    pub(crate) fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<Reply, Errno> {
        self.ask(write(name, offset, bytes))
    }

    pub(crate) fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let buf = Buf::new(len);
        let op = Op::Read {
            name: self::name(name),
            offset,
            buf,
        };
        let done = self.ask_all(vec![op]).remove(0);
        done.result.map(|_| done.buf.unwrap().to_vec())
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

pub(crate) fn write(name: &str, offset: u64, bytes: &[u8]) -> Op {
    Op::Write {
        name: self::name(name),
        offset,
        buf: Buf::from_bytes(bytes),
        tag: Tag::NONE,
        fresh: false,
        durable: false,
    }
}

/// A folder in which the clients of a node know each other.
pub(crate) fn run_dir() -> TempDir {
    TempDir::new().unwrap()
}

/// Lets the reactor do something, or wait for something to do.
pub(crate) fn pump(reactor: &Reactor) {
    reactor.turn_or_wait(Some(100_000_000)).unwrap();
}

/// The addresses that the cluster refuses, in order.
pub(crate) fn blocklisted(lab: &Lab) -> Vec<String> {
    let command = r#"{"prefix":"osd blocklist ls"}"#;
    let said = lab.mon_commands(&[command.into()]).unwrap().remove(0);
    let words = said.split_whitespace();
    let mut addresses: Vec<_> = words
        .filter(|word| word.contains('/'))
        .map(str::to_owned)
        .collect();
    addresses.sort();
    addresses
}

/// Stops a process; returns when every thread of it has stopped.
pub(crate) fn stop(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let has_stopped = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    while !tasks().flatten().all(has_stopped) {
        std::thread::yield_now();
    }
}

/// Lets a stopped process go on.
pub(crate) fn go_on(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
}

/// The tag of a volume, for these tests: its length.
pub(crate) fn tag_of(volume: &[u8]) -> u32 {
    volume.len() as u32
}
