//! The server over real sockets: a hand-written client that misbehaves, and the clients of the
//! world (libnbd's tools and Python binding, qemu, fio). A test whose tool is missing says so in
//! one line and passes. In `volume`, the program `archip-nbd` before a real node.

mod lab;
#[path = "../../../common/tests/lab/lab.rs"]
mod node_lab;
mod raw;
mod tools;
mod volume;

#[test]
fn node_process() {
    node_lab::node_process();
}
