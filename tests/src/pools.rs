//! What a verifier wrote, compared with the objects of a real cluster through Python's `rados`: no
//! part of the node, nor of its driver, has a say.

use crate::straight::place;
use crate::verifier::{BLOCK, Outcome};
use rados_lab::Lab;
use std::io;

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
