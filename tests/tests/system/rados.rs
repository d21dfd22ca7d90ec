//! The same node on a real Ceph cluster: what only a cluster has. (Everything else runs on both
//! storages: see `on_each`.)
//!
//! - [`job`]: the main job, and what it leaves in the pools, by independent eyes;
//! - [`breaking`]: two nodes, and a lock that one breaks while the other writes;
//! - [`fencing`]: two nodes, of which one hangs, loses its lock, and goes on;
//! - [`handover`]: a volume that goes from node to node, and how soon;
//! - [`contending`]: two nodes that break a third one's lock at once;
//! - [`migration`]: two nodes, and a volume that moves between them under load;
//! - [`clients`]: NBD clients, and a filesystem;
//! - [`deaths`]: daemons of the cluster killed under load, and too few of them left;
//! - [`full`]: a cluster without room;
//! - [`outside`]: what is done to a pool behind a node's back;
//! - [`stopping`]: a node that is stopped while its pool does not answer;
//! - [`timeouts`]: too few of them left, with a limit to how long that is waited for;
//! - [`thrash`]: the same at random, with fio verifying four volumes.
//!
//! Tests that leave the daemons alone share one cluster; each has pools of its own, or volumes of
//! its own in `blocks` and `maps`.

mod breaking;
mod clients;
mod contending;
mod deaths;
mod fencing;
mod full;
mod handover;
mod job;
mod migration;
mod outside;
mod stopping;
mod thrash;
mod timeouts;

use client::Name;
use config::SampleParams;
pub(crate) use rados_lab::shared;
use rados_lab::{Lab, Options};
use std::path::PathBuf;
use system_tests::real::{self, RealNode};

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
