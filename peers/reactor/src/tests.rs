//! The ring against the real kernel.

use super::*;
use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

fn nop() -> squeue::Entry {
    opcode::Nop::new().build()
}

#[test]
fn completions_reach_the_handler_that_pushed() {
    let ring = Ring::new(8).unwrap();
    let (one, two) = (ring.handler(), ring.handler());
    // More than the queue holds, so that pushing has to submit.
    for i in 0..100 {
        // SAFETY: a nop names no memory.
        unsafe { if i % 2 == 0 { &one } else { &two }.push(nop(), i) };
    }
    assert_eq!(ring.outstanding(), 100);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    while ring.outstanding() > 0 {
        ring.submit_and_reap().unwrap();
    }
    one.take(&mut first);
    two.take(&mut second);
    let payloads = |done: &[(u64, i32, u32)]| done.iter().map(|done| done.0).collect::<Vec<_>>();
    assert_eq!(payloads(&first), (0..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(payloads(&second), (1..100).step_by(2).collect::<Vec<_>>());
    assert!(!ring.submit_and_reap().unwrap());
}

#[test]
fn waiting_ends_by_time_and_by_a_bell() {
    let reactor = Reactor::new(8).unwrap();
    reactor.ring.wait(Some(1_000_000)).unwrap();
    let offloaded = reactor.offload.run(|| 6 * 7);
    assert_eq!(reactor.block_on(offloaded).unwrap(), 42);
    let soon = reactor.env.clock.now_ns() + 2_000_000;
    reactor.block_on(reactor.timers.sleep_until(soon)).unwrap();
    assert!(reactor.env.clock.now_ns() >= soon);
}

#[test]
fn many_jobs_on_few_threads() {
    let reactor = Reactor::new(8).unwrap();
    let sum = Rc::new(Cell::new(0));
    for i in 0..200u64 {
        let (job, sum) = (reactor.offload.run(move || i), sum.clone());
        reactor.executor.spawn(async move {
            let value = job.await;
            sum.set(sum.get() + value);
        });
    }
    while sum.get() < 199 * 200 / 2 {
        if !reactor.turn().unwrap() {
            reactor.park(None).unwrap();
        }
    }
}

#[test]
fn a_jobs_panic_goes_on_where_it_is_awaited() {
    let reactor = Reactor::new(8).unwrap();
    let job = reactor.offload.run(|| panic!("a bug in a job"));
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reactor.block_on::<()>(job)));
    assert_eq!(
        *caught.unwrap_err().downcast::<&str>().unwrap(),
        "a bug in a job"
    );
}

/// A dropped future must not free what the kernel will write to.
#[test]
fn memory_is_kept_when_the_future_is_dropped() {
    struct Probe(Box<[u8; 1]>, Rc<Cell<bool>>);
    impl Drop for Probe {
        fn drop(&mut self) {
            self.1.set(true);
        }
    }
    let ring = Ring::new(8).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let freed = Rc::new(Cell::new(false));
    let mut probe = Probe(Box::new([0]), freed.clone());
    let read = opcode::Read::new(types::Fd(reader.as_raw_fd()), probe.0.as_mut_ptr(), 1).build();
    // SAFETY: the memory is the probe's box; the pipe outlives the operation.
    drop(unsafe { ring.op(read, probe) });
    ring.submit_and_reap().unwrap();
    assert!(!freed.get() && ring.outstanding() == 1);
    std::io::Write::write_all(&mut &writer, b"x").unwrap();
    ring.wait(None).unwrap();
    assert!(freed.get() && ring.outstanding() == 0);
}

#[test]
fn a_ring_that_ends_cancels_what_waits() {
    let ring = Ring::new(8).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut byte = Box::new([0u8]);
    let read = opcode::Read::new(types::Fd(reader.as_raw_fd()), byte.as_mut_ptr(), 1).build();
    let handler = ring.handler();
    // SAFETY: `byte` lives until after the ring, which waits for the operation.
    unsafe { handler.push(read, 1) };
    ring.submit_and_reap().unwrap();
    drop((ring, handler));
    drop(byte);
}

#[test]
fn a_held_file_keeps_its_lock_until_the_ring_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drain");
    let lock = |file: &File| file.try_lock();
    let file = File::create(&path).unwrap();
    lock(&file).unwrap();
    let ring = Ring::new(8).unwrap();
    ring.hold_file(OwnedFd::from(file)).unwrap();
    let other = File::open(&path).unwrap();
    assert!(lock(&other).is_err());
    drop(ring);
    // The kernel ends a ring behind our back, so this waits for it.
    other.lock().unwrap();
}
