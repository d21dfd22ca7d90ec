//! Where the objects of a node under test are, so that one test body runs on each storage.
//!
//! | | a node's objects | its locks | behind its back |
//! |---|---|---|---|
//! | memory | in its process | there too | nobody gets there |
//! | files | `blocks` and `maps` of its folder | files in `locks` | the files themselves |
//! | RADOS | two pools of the cluster that tests share | `NAME_lock` in the pool of maps | Python's `rados` |
//!
//! What always holds: a storage is empty at first, and gone or given back with the test, however it
//! ends; what tests see of it and do to it passes by every part of the node.

use crate::golden::node::{Node, Setup};
use crate::golden::tree::{FileFacts, Files, files, place};
use config::{NodeConfig, SampleParams, SampleRados};
use rados_lab::{Outsider, Pools};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The owner's text of a node of the original on another host.
pub const ORIGINAL: &str = "otherhost_1002";

/// A storage, and a folder for whatever a node over it keeps. A clone is the same one.
#[derive(Clone)]
pub struct Storage {
    dir: Arc<TempDir>,
    place: Arc<Place>,
    /// What nodes over it are like, where a test does not say otherwise.
    pub setup: Setup,
}

/// Where objects are.
pub enum Place {
    /// In the node.
    Memory,
    /// In its folder.
    Files,
    /// In pools.
    Pools(Pools),
}

impl Storage {
    fn new(place: Place, setup: Setup) -> Storage {
        let dir = tempfile::tempdir().expect("a folder");
        Storage {
            dir: Arc::new(dir),
            place: Arc::new(place),
            setup,
        }
    }

    /// In memory.
    pub fn in_memory() -> Storage {
        Storage::new(Place::Memory, Setup::default())
    }

    /// Files, through the page cache.
    pub fn over_files() -> Storage {
        Storage::new(Place::Files, Setup::default())
    }

    /// Files, past it (O_DIRECT).
    pub fn over_files_direct() -> Storage {
        let setup = Setup {
            direct: true,
            ..Setup::default()
        };
        Storage::new(Place::Files, setup)
    }

    /// Pools of a real cluster; `None`, with a line that says so, without its packages.
    pub fn over_rados(test: &str) -> Option<Storage> {
        let pools = rados_lab::borrow(test)?;
        Some(Storage::new(Place::Pools(pools), Setup::default()))
    }

    /// The folder of its node.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the objects are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether it is a cluster.
    pub fn is_rados(&self) -> bool {
        self.place.pools().is_some()
    }

    /// The pools; only for what a storage of files has in another shape.
    ///
    /// # Panics
    /// Elsewhere.
    pub fn pools(&self) -> &Pools {
        self.place.pools().expect("a storage of pools")
    }

    /// An embedded node over it.
    pub fn node(&self) -> Node {
        self.node_with(self.setup)
    }

    /// Runs `test` on such a node, and stops it.
    pub fn serve(&self, test: impl FnOnce(&Node)) {
        let node = self.node();
        test(&node);
        node.stop();
    }

    /// Such a node, set up otherwise.
    pub fn node_with(&self, setup: Setup) -> Node {
        Node::on(self.dir(), &self.place, setup)
    }

    /// The configuration of the node over it, which has been made.
    pub fn config(&self) -> NodeConfig {
        NodeConfig::load(&self.dir().join("archipelago.conf")).unwrap()
    }

    /// Every object and lock that is in it.
    pub fn files(&self) -> Files {
        self.place.files(self.dir())
    }

    /// The volumes whose locks somebody has.
    pub fn locked(&self) -> Vec<String> {
        let locks = self.files().into_keys();
        let names = locks.filter_map(|path| {
            let name = path.strip_prefix("locks/")?.strip_suffix("_lock")?;
            Some(name.to_owned())
        });
        names.collect()
    }

    /// Makes `bytes` the content of an object, behind the node's back; `part` is `blocks` or
    /// `maps`.
    pub fn put(&self, part: &str, object: &str, bytes: &[u8]) {
        self.place.put(self.dir(), part, object, bytes);
    }

    /// An object's content.
    pub fn get(&self, part: &str, object: &str) -> Option<Vec<u8>> {
        match &*self.place {
            Place::Memory => panic!("nobody gets there"),
            Place::Files => std::fs::read(place(self.dir(), part, object)).ok(),
            Place::Pools(pools) => pools.outsider().get(pools.of(part), object).unwrap(),
        }
    }

    /// Removes an object, which is there, behind the node's back.
    pub fn remove(&self, part: &str, object: &str) {
        self.place.remove(self.dir(), part, object);
    }

    /// Makes the maps and blocks of a tree all that it holds.
    pub fn fill(&self, tree: &Path) {
        match &*self.place {
            Place::Memory => panic!("nobody gets there"),
            Place::Files => crate::golden::tree::copy(tree, self.dir()),
            Place::Pools(pools) => pools.fill(tree).unwrap(),
        }
    }

    /// What it holds, as a tree of files.
    pub fn tree(&self) -> Tree<'_> {
        match &*self.place {
            Place::Memory => panic!("nobody gets there"),
            Place::Files => Tree::Own(self.dir()),
            Place::Pools(pools) => {
                let copy = tempfile::tempdir().unwrap();
                pools.take(copy.path()).unwrap();
                Tree::Copy(copy)
            }
        }
    }

    /// Somebody else takes the locks of these volumes: a node of the original.
    pub fn locked_by_another(&self, volumes: &[&str]) -> Stranger<'_> {
        self.locked_by(ORIGINAL, volumes)
    }

    /// The same, by a node with this owner's text; nobody knows which process it was.
    pub fn locked_by(&self, owner: &str, volumes: &[&str]) -> Stranger<'_> {
        let who = match &*self.place {
            Place::Memory => panic!("nobody gets there"),
            Place::Files => None,
            Place::Pools(pools) => Some(pools.stranger()),
        };
        let mut stranger = Stranger {
            storage: self,
            who,
            locks: Vec::new(),
        };
        for volume in volumes {
            stranger.lock(volume, owner);
        }
        stranger
    }

    /// Breaks the lock of a volume, as the original does it: nobody is told, nobody is cut off.
    pub fn break_lock(&self, volume: &str) {
        self.place.break_lock(self.dir(), volume);
    }
}

impl Place {
    /// The same storage for a node of real processes.
    pub fn vary(&self, params: &mut SampleParams) {
        if let Place::Pools(pools) = self {
            params.rados = Some(sample(pools));
        }
    }

    /// The pools.
    pub fn pools(&self) -> Option<&Pools> {
        match self {
            Place::Pools(pools) => Some(pools),
            _ => None,
        }
    }

    /// Every object and lock that a node in `dir` has.
    pub fn files(&self, dir: &Path) -> Files {
        match self {
            Place::Memory => panic!("nobody gets there"),
            Place::Files => files(dir),
            Place::Pools(pools) => facts(pools),
        }
    }

    /// Makes `bytes` the content of an object of the node in `dir`.
    pub fn put(&self, dir: &Path, part: &str, object: &str, bytes: &[u8]) {
        match self {
            Place::Memory => panic!("nobody gets there"),
            Place::Files => {
                let path = place(dir, part, object);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            Place::Pools(pools) => {
                let pool = pools.of(part);
                pools.outsider().put(pool, object, bytes).unwrap();
            }
        }
    }

    /// Breaks the lock that the node in `dir` has.
    pub fn break_lock(&self, dir: &Path, volume: &str) {
        match self {
            Place::Memory => panic!("nobody gets there"),
            Place::Files => std::fs::remove_file(lock_file(dir, volume)).unwrap(),
            Place::Pools(pools) => {
                let maps = pools.of("maps");
                pools.outsider().break_lock(maps, volume).unwrap();
            }
        }
    }

    /// Removes an object of the node in `dir`.
    pub fn remove(&self, dir: &Path, part: &str, object: &str) {
        match self {
            Place::Memory => panic!("nobody gets there"),
            Place::Files => std::fs::remove_file(place(dir, part, object)).unwrap(),
            Place::Pools(pools) => {
                let pool = pools.of(part);
                pools.outsider().remove(pool, object).unwrap();
            }
        }
    }
}

fn lock_file(dir: &Path, volume: &str) -> PathBuf {
    dir.join("locks").join(format!("{volume}_lock"))
}

/// Where a node over pools has its objects.
pub fn sample(pools: &Pools) -> SampleRados {
    crate::real::on_pools(pools.lab(), &pools.blocks, &pools.maps)
}

/// A lock stands there while somebody has it, and its content is who.
fn facts(pools: &Pools) -> Files {
    let mut found = Files::new();
    for (path, fact) in pools.facts().unwrap() {
        let (path, content) = match (path.strip_prefix("maps/"), fact.is_lock) {
            (Some(name), true) => match fact.locker {
                Some(locker) => (format!("locks/{name}"), locker),
                None => continue,
            },
            _ => (path, fact.sha256),
        };
        let (len, mode) = (fact.len, 0);
        found.insert(path, FileFacts { content, len, mode });
    }
    found
}

/// What a storage holds, as files.
pub enum Tree<'a> {
    /// They are the storage.
    Own(&'a Path),
    /// They are of the moment when they were asked for.
    Copy(TempDir),
}

impl std::ops::Deref for Tree<'_> {
    type Target = Path;

    fn deref(&self) -> &Path {
        match self {
            Tree::Own(dir) => dir,
            Tree::Copy(dir) => dir.path(),
        }
    }
}

/// Somebody who holds locks, until they are gone or it is. On RADOS a client of the cluster with the
/// rights of a node.
pub struct Stranger<'a> {
    storage: &'a Storage,
    who: Option<Outsider>,
    locks: Vec<String>,
}

impl Stranger<'_> {
    /// Takes one more.
    pub fn lock(&mut self, volume: &str, owner: &str) {
        self.locks.push(volume.to_owned());
        match &mut self.who {
            Some(who) => {
                let maps = self.storage.pools().of("maps");
                who.lock(maps, volume, &description(owner)).unwrap();
            }
            None => {
                let file = lock_file(self.storage.dir(), volume);
                std::fs::write(file, padded(self, owner)).unwrap();
            }
        }
    }

    /// Gives one back.
    pub fn unlock(&mut self, volume: &str) {
        match &mut self.who {
            Some(who) => who.unlock(self.storage.pools().of("maps"), volume).unwrap(),
            None => std::fs::remove_file(lock_file(self.storage.dir(), volume)).unwrap(),
        }
    }

    /// Sees that it may write no more: only a cluster can do that to somebody.
    ///
    /// # Panics
    /// When it may.
    pub fn is_cut_off(&mut self) {
        let (who, pools) = (self.who.as_mut().expect("a client"), self.storage.pools());
        let late = who.put(pools.of("blocks"), "late-write", b"late");
        let why = late.expect_err("a late write lands").to_string();
        assert!(why.contains("errno 108"), "not ESHUTDOWN, but {why}");
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        for volume in &self.locks {
            // Somebody may have taken it, or taken it over.
            let _ = match &mut self.who {
                Some(who) => who.unlock(self.storage.pools().of("maps"), volume),
                None => std::fs::remove_file(lock_file(self.storage.dir(), volume)),
            };
        }
    }
}

/// The original's locks on RADOS say nothing; ours are one line of JSON.
fn description(owner: &str) -> String {
    match owner {
        ORIGINAL => String::new(),
        owner => serde_json::json!({
            "owner": owner, "host": "otherhost", "since": 1, "process": "", "clients": []
        })
        .to_string(),
    }
}

/// O_DIRECT pads the original's lock files, like all its files.
fn padded(stranger: &Stranger, owner: &str) -> Vec<u8> {
    let mut content = owner.as_bytes().to_vec();
    if stranger.storage.setup.direct {
        content.resize(512, 0);
    }
    content
}
