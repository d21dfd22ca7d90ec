//! What a process of tests shares: one cluster, and pools that each test borrows.
//!
//! What always holds: a borrowed pool is empty, and nobody else has it until the [`Pools`] are
//! dropped; pools are made when all are lent. The cluster goes when the process does ([`Lab`]).

use crate::{Lab, Options, Outsider, USER, skip};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};

/// Pairs of pools that may be made; who finds all of them lent waits.
const PAIRS: usize = 16;

/// Two pools of the shared cluster: data, and maps and locks.
pub struct Pools {
    lab: &'static Lab,
    /// What holds the data.
    pub blocks: String,
    /// What holds maps and locks.
    pub maps: String,
    // It looks as `client.admin`.
    outsider: Mutex<Option<Outsider>>,
}

/// The shared cluster, and what is not lent of its pools.
struct Library {
    lab: Lab,
    shelf: Mutex<Shelf>,
    returned: Condvar,
}

#[derive(Default)]
struct Shelf {
    made: usize,
    free: Vec<(usize, Outsider)>,
    /// Their outsiders may have been in the middle of something.
    left: Vec<usize>,
}

fn name(pair: usize, part: &str) -> String {
    format!("lent-{pair}-{part}")
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let lent = (0..PAIRS).flat_map(|pair| [name(pair, "blocks"), name(pair, "maps")]);
        let options = Options {
            later: lent.collect(),
            ..Options::default()
        };
        let lab = Lab::start(&std::env::temp_dir(), options);
        Library {
            lab: lab.expect("a cluster"),
            shelf: Mutex::default(),
            returned: Condvar::new(),
        }
    })
}

/// The cluster that the tests of this process share; they leave its daemons alone. `None`, with a
/// line that says so, without its packages.
///
/// # Panics
/// When there are packages and no cluster comes of them.
pub fn shared(test: &str) -> Option<&'static Lab> {
    (!skip(test)).then(|| &library().lab)
}

/// Two empty pools of the shared cluster; `None`, with a line that says so, without its packages.
///
/// # Panics
/// When the cluster does not do as it is told.
pub fn borrow(test: &str) -> Option<Pools> {
    shared(test)?;
    Some(library().lend().expect("two pools"))
}

impl Library {
    fn lend(&'static self) -> io::Result<Pools> {
        let (pair, outsider) = self.take()?;
        let pools = Pools {
            lab: &self.lab,
            blocks: name(pair, "blocks"),
            maps: name(pair, "maps"),
            outsider: Mutex::new(Some(outsider)),
        };
        pools.empty()?;
        Ok(pools)
    }

    fn take(&'static self) -> io::Result<(usize, Outsider)> {
        let mut shelf = self.shelf.lock().expect("nobody panics here");
        loop {
            if let Some(free) = shelf.free.pop() {
                return Ok(free);
            }
            if let Some(pair) = shelf.left.pop() {
                return Ok((pair, Outsider::start(&self.lab, "admin")?));
            }
            if shelf.made < PAIRS {
                shelf.made += 1;
                break;
            }
            shelf = self.returned.wait(shelf).expect("nobody panics here");
        }
        let pair = shelf.made - 1;
        drop(shelf);
        self.lab.create_pool(&name(pair, "blocks"))?;
        self.lab.create_pool(&name(pair, "maps"))?;
        Ok((pair, Outsider::start(&self.lab, "admin")?))
    }

    fn put_back(&self, pools: &Pools, outsider: Option<Outsider>) {
        let number = pools.blocks.split('-').nth(1).expect("it was lent");
        let pair = number.parse().expect("it was lent");
        let mut shelf = self.shelf.lock().expect("nobody panics here");
        match outsider {
            Some(outsider) => shelf.free.push((pair, outsider)),
            None => shelf.left.push(pair),
        }
        drop(shelf);
        self.returned.notify_one();
    }
}

impl Pools {
    /// Their cluster.
    pub fn lab(&self) -> &'static Lab {
        self.lab
    }

    /// Which pool holds `part` of a tree: `blocks`, or `maps`.
    pub fn of(&self, part: &str) -> &str {
        match part {
            "blocks" => &self.blocks,
            "maps" => &self.maps,
            part => panic!("{part} is no pool"),
        }
    }

    /// Who looks at them and changes them behind a node's back.
    pub fn outsider(&self) -> Looking<'_> {
        Looking(self.outsider.lock().expect("a test that did not fail"))
    }

    /// Somebody else with the rights of a node.
    ///
    /// # Panics
    /// When it cannot be had.
    pub fn stranger(&self) -> Outsider {
        Outsider::start(self.lab, USER).expect("a client")
    }

    /// Removes every object of both.
    pub fn empty(&self) -> io::Result<()> {
        let mut outsider = self.outsider();
        outsider.empty(&self.blocks)?;
        outsider.empty(&self.maps)
    }

    /// Makes the maps and blocks of the tree at `tree` all that they hold.
    pub fn fill(&self, tree: &Path) -> io::Result<()> {
        let mut outsider = self.outsider();
        outsider.fill(&self.blocks, tree, "blocks")?;
        outsider.fill(&self.maps, tree, "maps")
    }

    /// Makes a tree at `tree` of what they hold, but for locks.
    pub fn take(&self, tree: &Path) -> io::Result<()> {
        let mut outsider = self.outsider();
        outsider.take(&self.blocks, tree, "blocks")?;
        outsider.take(&self.maps, tree, "maps")
    }

    /// Every object of both, as `blocks/NAME` and `maps/NAME`.
    pub fn facts(&self) -> io::Result<BTreeMap<String, crate::Fact>> {
        let mut all = BTreeMap::new();
        for part in ["blocks", "maps"] {
            let found = self.outsider().facts(self.of(part))?;
            all.extend(
                found
                    .into_iter()
                    .map(|(key, fact)| (format!("{part}/{key}"), fact)),
            );
        }
        Ok(all)
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        // After a panic somebody may have stopped between a question and its answer.
        let kept = self.outsider.get_mut().ok().and_then(Option::take);
        let kept = kept.filter(|_| !std::thread::panicking());
        library().put_back(self, kept);
    }
}

/// An outsider in use.
pub struct Looking<'a>(MutexGuard<'a, Option<Outsider>>);

impl std::ops::Deref for Looking<'_> {
    type Target = Outsider;

    fn deref(&self) -> &Outsider {
        self.0.as_ref().expect("there while it is lent")
    }
}

impl std::ops::DerefMut for Looking<'_> {
    fn deref_mut(&mut self) -> &mut Outsider {
        self.0.as_mut().expect("there while it is lent")
    }
}
