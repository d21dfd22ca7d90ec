//! libxseg as C programs see it: the header against the library, and a client like QEMU's driver
//! against a real node.

#[path = "../../../../endpoints/common/tests/lab/lab.rs"]
mod lab;

mod client;
mod compiler;
mod header;

#[test]
fn node_process() {
    lab::node_process();
}
