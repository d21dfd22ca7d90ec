//! Transfers with the page cache that are made on the spot. (Unsafe lives here.)
//!
//! What goes through the page cache is a copy of a few kilobytes in memory: 1 us. io_uring makes
//! it where it is submitted if the filesystem can promise not to block; for writes ext4 can't, and
//! tmpfs can't at all, and then every transfer goes to a thread of the kernel's and back, which
//! costs five to ten times the copy. So these are made here, by the thread that serves. Reads that
//! the filesystem does promise for are made here too: they save the way through the ring, and one
//! that would block says so at once and goes to the ring.
//!
//! Where the promise is missing, that is for a reason: now and then such a call does block, for a
//! journal that commits, or a writer that is held back until the disk has caught up. What holds:
//! - a call that took longer than [`SLOW_NS`] makes the next few *watched*: was the thread asleep
//!   in the call, or was only its core given to somebody else? The first that was asleep so long is
//!   the last one for a while: the others go to the ring, and the pause doubles as long as those
//!   after it block again. So whoever waits for this thread waits for very few blocked calls. A call
//!   that found the ring at work does not count: it may have waited for a file that is being written
//!   there, and would else send everything behind it for ever;
//! - only small transfers are made here, and only on filesystems of this host, where a write ends
//!   in the page cache and not on the network;
//! - the memory and the open file are the caller's for the time of the call.

use crate::fs::write_probe;
use driver::Buf;
use nix::sys::resource::{UsageWho, getrusage};
use reactor::Clock;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The largest transfer, bytes. A larger one is worth a thread of its own.
const LARGEST: usize = 64 << 10;
/// A copy in memory never takes so long.
const SLOW_NS: u64 = 250_000;
/// Calls that are watched after a slow one.
const WATCHED: u32 = 16;
/// The shortest and the longest pause after a call that blocked.
const PAUSE_NS_MIN: u64 = 25_000_000;
const PAUSE_NS_MAX: u64 = 1_000_000_000;

/// Which transfers of a directory are made on the spot, and whether now.
#[derive(Debug, Default)]
pub(crate) struct Spot {
    reads: Option<Reads>,
    writes: bool,
    /// Calls that are still to be watched.
    watch: Cell<u32>,
    /// No call before this time, ns.
    paused_until: Cell<u64>,
    pause_ns: Cell<u64>,
}

/// How a read is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reads {
    /// It never blocks: EAGAIN says that it would.
    Promised,
    /// It may block, as a write may.
    Plain,
}

/// A direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Read,
    Write,
}

impl Spot {
    /// What is made on the spot in `root`, whose transfers are multiples of `block` (1: they go
    /// through the page cache).
    pub(crate) fn probe(root: &OwnedFd, block: u64) -> Spot {
        if block > 1 || !is_of_this_host(root) {
            return Spot::default();
        }
        Spot {
            reads: Some(how_to_read(root)),
            writes: true,
            ..Spot::default()
        }
    }

    /// Whether `len` bytes go this way now.
    pub(crate) fn takes(&self, way: Way, len: usize, clock: &dyn Clock) -> bool {
        let wanted = match way {
            Way::Read => self.reads.is_some(),
            Way::Write => self.writes,
        };
        let never_blocks = way == Way::Read && self.reads == Some(Reads::Promised);
        let now = || never_blocks || clock.now_ns() >= self.paused_until.get();
        wanted && len <= LARGEST && now()
    }

    /// Transfers `buf[done..]` from or to `file` at `offset`, in one call. Returns how many bytes
    /// went, or why none did. `alone`: the ring has nothing to write.
    pub(crate) fn transfer(
        &self,
        way: Way,
        file: &OwnedFd,
        (buf, done): (&Buf, usize),
        offset: u64,
        (clock, alone): (&dyn Clock, bool),
    ) -> io::Result<usize> {
        assert!(done <= buf.len(), "what is left lies in the buffer");
        let (fd, len, offset) = (file.as_raw_fd(), buf.len() - done, offset as libc::off_t);
        if way == Way::Read && self.reads == Some(Reads::Promised) {
            return read_if_it_is_there(file, (buf, done), offset);
        }
        let sleeps = self.is_watched().then(sleeps_of_this_thread);
        let begin = clock.now_ns();
        // SAFETY: `done` is at most the buffer's length (asserted), and the buffer's memory may be
        // read and written as long as `buf` is borrowed (buf.rs, rule 1).
        let result = unsafe {
            let pointer = buf.ptr().add(done);
            match way {
                Way::Read => libc::pread(fd, pointer.cast(), len, offset),
                Way::Write => libc::pwrite(fd, pointer.cast(), len, offset),
            }
        };
        let answer = usize::try_from(result).map_err(|_| io::Error::last_os_error());
        let end = clock.now_ns();
        let slow = end - begin >= SLOW_NS;
        if slow && alone && sleeps.is_some_and(|before| sleeps_of_this_thread() > before) {
            self.blocked(begin, end);
        } else if slow {
            self.watch.set(WATCHED);
        }
        answer
    }

    fn is_watched(&self) -> bool {
        let left = self.watch.get();
        self.watch.set(left.saturating_sub(1));
        left > 0
    }

    /// Learns from a call in which the thread slept, from `begin` to `end`.
    fn blocked(&self, begin: u64, end: u64) {
        let pause = self.pause_ns.get();
        // Slow again in the first moments after a pause: it was too short.
        let again = begin < self.paused_until.get() + pause;
        let pause = if again { pause * 2 } else { 0 };
        let pause = pause.clamp(PAUSE_NS_MIN, PAUSE_NS_MAX);
        self.pause_ns.set(pause);
        self.paused_until.set(end + pause);
        self.watch.set(WATCHED);
    }
}

/// How often this thread has gone to sleep of its own accord.
fn sleeps_of_this_thread() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}

/// Filesystems whose page cache is behind nothing but this host's memory and disks.
fn is_of_this_host(root: &OwnedFd) -> bool {
    let known = [
        libc::EXT4_SUPER_MAGIC,
        libc::XFS_SUPER_MAGIC,
        libc::BTRFS_SUPER_MAGIC,
        libc::TMPFS_MAGIC,
        libc::F2FS_SUPER_MAGIC,
    ];
    nix::sys::statfs::fstatfs(root).is_ok_and(|stat| known.contains(&stat.filesystem_type().0))
}

/// Whether a read of what is in the page cache can be asked not to block here.
fn how_to_read(root: &OwnedFd) -> Reads {
    let byte = Buf::new(1);
    let read = write_probe(root).map(|probe| read_if_it_is_there(&probe, (&byte, 0), 0));
    match read {
        Some(Err(why)) if why.raw_os_error() == Some(libc::EOPNOTSUPP) => Reads::Plain,
        _ => Reads::Promised,
    }
}

/// EAGAIN: not all of it is in the page cache.
fn read_if_it_is_there(
    file: &OwnedFd,
    (buf, done): (&Buf, usize),
    offset: libc::off_t,
) -> io::Result<usize> {
    assert!(done <= buf.len(), "what is left lies in the buffer");
    let piece = libc::iovec {
        // SAFETY: `done` is at most the buffer's length (asserted), so this stays inside it.
        iov_base: unsafe { buf.ptr().add(done) }.cast(),
        iov_len: buf.len() - done,
    };
    // SAFETY: the piece lies in the buffer's memory, which may be written as long as `buf` is
    // borrowed (buf.rs, rule 1); the list of pieces lives until after the call.
    let result = unsafe { libc::preadv2(file.as_raw_fd(), &piece, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use reactor::SimClock;

    fn spot() -> Spot {
        Spot {
            reads: Some(Reads::Plain),
            writes: true,
            ..Spot::default()
        }
    }

    #[test]
    fn after_a_call_that_blocked_there_is_a_pause() {
        let (spot, clock) = (spot(), SimClock::default());
        clock.advance(1_000_000_000);
        assert!(spot.takes(Way::Write, 4096, &clock));
        spot.blocked(1_000_000_000, 1_000_000_000 + SLOW_NS);
        assert!(!spot.takes(Way::Write, 4096, &clock));
        clock.advance(SLOW_NS + PAUSE_NS_MIN);
        assert!(spot.takes(Way::Write, 4096, &clock));
    }

    #[test]
    fn the_pause_grows_while_calls_block_again_and_shrinks_when_they_did_not() {
        let spot = spot();
        let mut now = 1_000_000_000;
        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                spot.blocked(now, now + SLOW_NS);
                now = spot.paused_until.get();
                spot.pause_ns.get()
            })
            .collect();
        assert_eq!(pauses[..3], [1, 2, 4].map(|n| n * PAUSE_NS_MIN));
        assert_eq!(pauses[7], PAUSE_NS_MAX);
        now += 2 * PAUSE_NS_MAX;
        spot.blocked(now, now + SLOW_NS);
        assert_eq!(spot.pause_ns.get(), PAUSE_NS_MIN);
    }

    #[test]
    fn only_small_ones_and_only_where_they_are_wanted() {
        let clock = SimClock::default();
        assert!(spot().takes(Way::Read, LARGEST, &clock));
        assert!(!spot().takes(Way::Read, LARGEST + 1, &clock));
        assert!(!Spot::default().takes(Way::Write, 1, &clock));
    }

    #[test]
    fn a_slow_call_is_watched_and_pauses_nothing_unless_it_slept() {
        // Each reading of this clock is later by as much as a slow call takes.
        struct Slow(SimClock);
        impl Clock for Slow {
            fn now_ns(&self) -> u64 {
                self.0.advance(SLOW_NS);
                self.0.now_ns()
            }
        }
        let clock = Slow(SimClock::default());
        let (spot, buf) = (spot(), Buf::new(512));
        let file = memfd_create(c"spot", MFdFlags::MFD_CLOEXEC).unwrap();
        spot.transfer(Way::Write, &file, (&buf, 0), 0, (&clock, true))
            .unwrap();
        assert_eq!(spot.watch.get(), WATCHED, "slow, and nobody knows why");
        spot.transfer(Way::Write, &file, (&buf, 0), 0, (&clock, true))
            .unwrap();
        assert_eq!(spot.pause_ns.get(), 0, "slow, but it did not sleep");
        let before = sleeps_of_this_thread();
        std::thread::sleep(std::time::Duration::from_micros(1));
        assert!(sleeps_of_this_thread() > before, "sleeps are counted");
    }

    #[test]
    fn bytes_go_both_ways() {
        let clock = reactor::RealClock;
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let buf = Buf::new(6);
        buf.copy_in(0, b"abcdef");
        let written = spot().transfer(Way::Write, &file, (&buf, 2), 10, (&clock, true));
        assert_eq!(written.unwrap(), 4);
        let back = Buf::new(8);
        for reads in [Reads::Plain, Reads::Promised] {
            let spot = Spot {
                reads: Some(reads),
                ..spot()
            };
            back.zero(0..8);
            match spot.transfer(Way::Read, &file, (&back, 0), 9, (&clock, true)) {
                // This filesystem promises nothing.
                Err(why) if why.raw_os_error() == Some(libc::EOPNOTSUPP) => continue,
                read => assert_eq!(read.unwrap(), 5),
            }
            assert_eq!(back.to_vec(), b"\0cdef\0\0\0");
        }
    }
}
