//! Pools of a real cluster, filled and looked at through Python's `rados`: no part of the node, nor
//! of its driver, has a say.

use crate::straight::place;
use crate::verifier::{BLOCK, Outcome};
use config::SampleRados;
use rados_lab::Lab;
use std::io;
use std::path::Path;

/// Puts every file of a tree, except locks, into the pools under its own name; they hold nothing
/// else afterwards.
const FILL: &str = r#"
import os, rados, sys
conf, tree = sys.argv[1:3]
with rados.Rados(conffile=conf) as cluster:
    for part, pool in zip(("blocks", "maps"), sys.argv[3:]):
        io = cluster.open_ioctx(pool)
        for key in [o.key for o in io.list_objects()]:
            io.remove_object(key)
        for dir, _, names in os.walk(os.path.join(tree, part)):
            for name in names:
                if name != ".archipelago":
                    with open(os.path.join(dir, name), "rb") as file:
                        io.write_full(name, file.read())
"#;

/// Writes every object into a tree, where its name's hash says. An object that locks leave holds
/// nothing and is printed instead.
const TAKE: &str = r#"
import hashlib, os, rados, sys
conf, tree = sys.argv[1:3]
with rados.Rados(conffile=conf) as cluster:
    for part, pool in zip(("blocks", "maps"), sys.argv[3:]):
        io = cluster.open_ioctx(pool)
        os.makedirs(os.path.join(tree, part), exist_ok=True)
        for key in sorted(o.key for o in io.list_objects()):
            size, _ = io.stat(key)
            if part == "maps" and key.endswith("_lock"):
                if size:
                    sys.exit("%s holds %d bytes" % (key, size))
                print(key)
                continue
            h = hashlib.sha256(key.encode()).hexdigest()
            dir = os.path.join(tree, part, h[0:2], h[2:4], h[4:6])
            os.makedirs(dir, exist_ok=True)
            with open(os.path.join(dir, key), "wb") as file:
                file.write(io.read(key, size, 0) if size else b"")
"#;

/// Each line: object, offset, and the word that fills the block there. Prints what differs.
const COMPARE: &str = r#"
import collections, rados, struct, sys
with rados.Rados(conffile=sys.argv[1]) as cluster:
    io, block = cluster.open_ioctx(sys.argv[2]), int(sys.argv[3])
    def judge(line, completion, seen):
        object, offset, stamp = line.split()
        if completion.get_return_value() < 0:
            print(object, "at", offset, "is not to be read:", completion.get_return_value())
        elif seen != struct.pack("<Q", int(stamp)) * (block // 8):
            print(object, "at", offset, "shows", (seen or b"")[:8].hex(), "instead of", stamp)
    under_way = collections.deque()
    for line in sys.stdin:
        object, offset, _ = line.split()
        kept = []
        keep = lambda completion, seen, kept=kept: kept.append(seen)
        under_way.append((line, kept, io.aio_read(object, block, int(offset), keep)))
        while len(under_way) > 64:
            line, kept, completion = under_way.popleft()
            completion.wait_for_complete_and_cb()
            judge(line, completion, kept[0])
    for line, kept, completion in under_way:
        completion.wait_for_complete_and_cb()
        judge(line, completion, kept[0])
"#;

/// So many blocks are compared well within the minute that a script may take.
const AT_ONCE: usize = 10_000;

/// Fills the pools with the maps and blocks of the tree at `dir`.
pub fn fill(lab: &Lab, pools: &SampleRados, dir: &Path) -> io::Result<()> {
    let tree = dir.to_str().expect("a plain path");
    let arguments = [tree, &pools.blocks, &pools.maps];
    lab.python(FILL, &arguments, b"").map(drop)
}

/// Makes a tree at `dir` of what is in the pools; returns the names of the objects of locks.
pub fn take(lab: &Lab, pools: &SampleRados, dir: &Path) -> io::Result<Vec<String>> {
    let tree = dir.to_str().expect("a plain path");
    let arguments = [tree, &pools.blocks, &pools.maps];
    let locks = lab.python(TAKE, &arguments, b"")?;
    Ok(locks.lines().map(str::to_owned).collect())
}

/// Compares every block that a verifier wrote with the objects of `pool`. Returns how many there
/// were, and what was wrong.
pub fn compare(lab: &Lab, pool: &str, outcome: &Outcome) -> io::Result<(u64, Vec<String>)> {
    let mut lines: Vec<String> = outcome
        .stamps
        .iter()
        .filter_map(|(block, stamp)| {
            let (object, offset) = place(&outcome.load, *block)?;
            Some(format!("{object} {offset} {stamp}\n"))
        })
        .collect();
    lines.sort_unstable();
    let mut wrong = Vec::new();
    for some in lines.chunks(AT_ONCE) {
        let arguments = [pool, &BLOCK.to_string()];
        let said = lab.python(COMPARE, &arguments, some.concat().as_bytes())?;
        wrong.extend(said.lines().map(str::to_owned));
    }
    Ok((lines.len() as u64, wrong))
}
