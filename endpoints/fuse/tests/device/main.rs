//! `archip-fuse` before a real node: as a disk, through the deaths of the node, and when memory
//! is short. What needs root, `/dev/fuse` or loop devices is skipped without them.

#[path = "../../../common/tests/lab/lab.rs"]
mod lab;
mod mapped;

use lab::Lab;
use mapped::Mapped;

#[test]
fn node_process() {
    lab::node_process();
}

#[test]
fn bytes_come_back() {
    let Some(lab) = mapped::lab("bytes_come_back") else {
        return;
    };
    let mapped = Mapped::new(&lab, "volume", 64 << 20, &[]);
    let pattern: Vec<u8> = (0..3 << 20).map(|i: u32| (i * 7 >> 3) as u8).collect();
    mapped.write(1 << 20, &pattern);
    mapped.write(40 << 20, &pattern[..4096]);
    mapped.drop_cache();
    assert!(mapped.read(1 << 20, pattern.len()) == pattern);
    assert!(mapped.read(40 << 20, 4096) == pattern[..4096]);
    assert!(mapped.read(20 << 20, 1 << 20).iter().all(|&b| b == 0));
    mapped.unmap();
}
