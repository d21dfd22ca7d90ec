//! A directory, and drivers over it.

use driver::{Buf, Done, Driver, Errno, Name, Op, OpId, Reply, Tag};
use filed::{Config, Filed};
use reactor::Reactor;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tempfile::TempDir;

/// Where to test, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) memory: bool,
    pub(crate) direct: bool,
}

pub(crate) const SETTINGS: [Setting; 4] = [
    Setting {
        memory: false,
        direct: false,
    },
    Setting {
        memory: false,
        direct: true,
    },
    Setting {
        memory: true,
        direct: false,
    },
    Setting {
        memory: true,
        direct: true,
    },
];

impl Setting {
    pub(crate) fn dir(self) -> TempDir {
        if self.memory && Path::new("/dev/shm").is_dir() {
            return TempDir::new_in("/dev/shm").unwrap();
        }
        TempDir::new().unwrap()
    }

    pub(crate) fn config(self, dir: &Path, owner: &str) -> Config {
        Config {
            direct: self.direct,
            ..Config::new(dir, owner)
        }
    }
}

/// A driver and the reactor that it runs on.
pub(crate) struct Files {
    // Dropped in this order: the driver waits for its operations on the reactor's ring.
    pub(crate) driver: Filed,
    pub(crate) reactor: Rc<Reactor>,
}

impl Files {
    pub(crate) fn open(config: Config) -> Files {
        let reactor = Rc::new(Reactor::new(64).unwrap());
        let driver = Filed::open(config, &reactor).unwrap();
        Files { driver, reactor }
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
                pump(&self.reactor);
            }
        }
        done.sort_by_key(|done| done.id);
        done
    }

    pub(crate) fn ask(&mut self, op: Op) -> Result<Reply, Errno> {
        self.ask_all(vec![op]).remove(0).result
    }

    /// Lets the moves end that were asked for.
    pub(crate) fn settle(&mut self) {
        while self.driver.moving() > 0 {
            pump(&self.reactor);
        }
    }

    pub(crate) fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<Reply, Errno> {
        self.ask(write(name, offset, bytes, Tag::NONE))
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

/// Lets the reactor do something, or wait for something to do.
pub(crate) fn pump(reactor: &Reactor) {
    reactor.turn_or_wait(None).unwrap();
}

pub(crate) fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

pub(crate) fn write(name: &str, offset: u64, bytes: &[u8], tag: Tag) -> Op {
    Op::Write {
        name: self::name(name),
        offset,
        buf: Buf::from_bytes(bytes),
        tag,
        fresh: false,
        durable: false,
    }
}

/// 64 hex digits whose own first six characters are 01/23/45.
pub(crate) fn hash_name() -> String {
    "0123456789abcdef".repeat(4)
}

/// Writes an object as an older release left it.
pub(crate) fn put(dir: &Path, path: &str, content: &[u8]) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// The regular files below `dir`, without the marker, as paths relative to it.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.file_name().unwrap() != ".archipelago" {
                found.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
