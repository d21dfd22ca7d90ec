//! The hot path allocates nothing: counted by the allocator, on the thread of the driver.

use crate::rig::{Files, SETTINGS, name, pump, write};
use driver::{Buf, Done, Driver, Op, OpId, Tag};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it came; the count is a thread-local
// number without a destructor, so counting never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller promises what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; the memory came from the system's allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEPTH: u64 = 16;

#[test]
fn hot_reads_and_writes_allocate_nothing() {
    for setting in SETTINGS {
        let dir = setting.dir();
        let mut files = Files::open(setting.config(dir.path(), "node_1"));
        files
            .ask(write("hot-object", 0, &[1; 4096 * DEPTH as usize], Tag(1)))
            .unwrap();
        let mut bufs: Vec<Buf> = (0..DEPTH).map(|_| Buf::new(4096)).collect();
        let mut done = Vec::with_capacity(DEPTH as usize);
        // The first rounds grow the tables to what this depth needs.
        for _ in 0..4 {
            round(&mut files, &mut bufs, &mut done);
        }
        let before = COUNT.get();
        for _ in 0..50 {
            round(&mut files, &mut bufs, &mut done);
        }
        assert_eq!(
            COUNT.get() - before,
            0,
            "allocations in 1600 operations, {setting:?}"
        );
    }
}

/// All at once: writes, then reads.
fn round(files: &mut Files, bufs: &mut Vec<Buf>, done: &mut Vec<Done>) {
    for writes in [true, false] {
        for id in 0..DEPTH {
            let (name, offset) = (name("hot-object"), id * 4096);
            let (buf, tag) = (bufs.pop().unwrap(), Tag(1));
            let op = match writes {
                true => Op::Write {
                    name,
                    offset,
                    buf,
                    tag,
                    fresh: false,
                    durable: false,
                },
                false => Op::Read { name, offset, buf },
            };
            files.driver.submit(OpId(id), op);
        }
        while bufs.len() < DEPTH as usize {
            files.driver.poll(done);
            if done.is_empty() {
                pump(&files.reactor);
            }
            for done in done.drain(..) {
                done.result.unwrap();
                bufs.push(done.buf.unwrap());
            }
        }
    }
}
