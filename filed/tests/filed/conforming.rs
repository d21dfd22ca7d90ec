//! The suite of all drivers.

use crate::rig::{Files, SETTINGS, Setting, pump};
use driver::conformance::{self, Rig, World};
use tempfile::TempDir;

struct Directory(Setting, TempDir, Option<TempDir>);

impl World for Directory {
    fn open(&self, owner: &str) -> Rig {
        let mut config = self.0.config(self.1.path(), owner);
        config.fdcache = 16;
        config.lock_dir = self.2.as_ref().map(|dir| dir.path().to_owned());
        let Files { driver, reactor } = Files::open(config);
        Rig {
            driver: Box::new(driver),
            pump: Box::new(move || pump(&reactor)),
        }
    }
}

#[test]
fn on_every_filesystem_direct_and_buffered() {
    for setting in SETTINGS {
        conformance::run(|| Directory(setting, setting.dir(), None));
    }
}

#[test]
fn with_locks_in_a_directory_of_their_own() {
    let setting = SETTINGS[0];
    conformance::run(|| Directory(setting, setting.dir(), Some(setting.dir())));
}
