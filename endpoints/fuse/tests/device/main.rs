//! `archip-fuse` before a real node: as a disk, through the deaths of the node, and when memory
//! is short. What needs root, `/dev/fuse` or loop devices is skipped without them.

mod filesystem;
#[path = "../../../common/tests/lab/lab.rs"]
mod lab;
mod life;
mod mapped;
mod memory;
mod outage;

#[test]
fn node_process() {
    lab::node_process();
}
