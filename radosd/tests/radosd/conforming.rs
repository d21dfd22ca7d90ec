//! The suite of all drivers.

use crate::rig::{Pool, config, lab, run_dir};
use driver::conformance::{self, Rig, World};
use rados_lab::{Lab, Options};
use std::cell::RefCell;
use tempfile::TempDir;

/// A pool, empty at first; each driver is a node of its own.
struct Nodes<'a>(&'a Lab, RefCell<Vec<TempDir>>);

impl World for Nodes<'_> {
    fn open(&self, owner: &str) -> Rig {
        let dir = run_dir();
        let config = config(self.0, "blocks", owner, dir.path());
        self.1.borrow_mut().push(dir);
        let Pool { driver, reactor } = Pool::open(config).unwrap();
        Rig {
            driver: Box::new(driver),
            pump: Box::new(move || reactor.turn_or_wait(None).unwrap()),
        }
    }
}

#[test]
fn conforms() {
    if rados_lab::skip("conforms") {
        return;
    }
    let lab = lab(Options::default());
    conformance::run(|| {
        lab.purge("blocks").unwrap();
        Nodes(&lab, RefCell::default())
    });
}
