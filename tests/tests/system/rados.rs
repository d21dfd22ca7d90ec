//! The same node on a real Ceph cluster.
//!
//! - [`job`]: the main job, and what it leaves in the pools, by independent eyes;
//! - [`golden`]: what the original wrote, put into pools, reads back;
//! - [`breaking`]: two nodes, and a lock that one breaks while the other writes;
//! - [`migration`]: two nodes, and a volume that moves between them under load;
//! - [`clients`]: NBD clients, and a filesystem;
//! - [`deaths`]: daemons of the cluster killed under load, and too few of them left;
//! - [`thrash`]: the same at random, with fio verifying four volumes.
//!
//! Tests that leave the daemons alone share one cluster. It is gone when the process is.

mod breaking;
mod clients;
mod deaths;
mod golden;
mod job;
mod migration;
mod thrash;

use client::Name;
use config::SampleParams;
use rados_lab::{Lab, Options};
use std::path::PathBuf;
use std::sync::OnceLock;
use system_tests::real::{self, RealNode};

/// Besides `blocks` and `maps`, pools of those tests that look at everything in them.
const POOLS: [&str; 10] = [
    "blocks",
    "maps",
    "job-blocks",
    "job-maps",
    "v2-blocks",
    "v2-maps",
    "legacy-blocks",
    "legacy-maps",
    "replay-blocks",
    "replay-maps",
];

/// The cluster that tests share; `None`, with a line that says so, without its packages.
pub(crate) fn shared(test: &str) -> Option<&'static Lab> {
    static LAB: OnceLock<Lab> = OnceLock::new();
    if rados_lab::skip(test) {
        return None;
    }
    Some(LAB.get_or_init(|| {
        let options = Options {
            pools: POOLS.map(str::to_owned).to_vec(),
            ..Options::default()
        };
        start(options)
    }))
}

fn start(options: Options) -> Lab {
    Lab::start(&std::env::temp_dir(), options).unwrap()
}

/// A node over `blocks` and `maps` of a cluster.
fn node_on(lab: &Lab, vary: impl FnOnce(&mut SampleParams)) -> RealNode {
    let start = RealNode::start(&below_target(), |params| {
        params.rados = Some(real::on(lab));
        vary(params);
    });
    start.unwrap()
}

fn below_target() -> PathBuf {
    real::program("archipelago").parent().unwrap().to_owned()
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

/// Runs `vlmc`, which must succeed; what it printed.
fn vlmc(node: &RealNode, arguments: &[&str]) -> String {
    let output = node.run("vlmc", arguments).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    let logs = || std::fs::read_to_string(node.dir().join("supervisor.out")).unwrap_or_default();
    assert!(
        output.status.success(),
        "vlmc {arguments:?}: {complained}{}",
        logs()
    );
    String::from_utf8(output.stdout).unwrap()
}
