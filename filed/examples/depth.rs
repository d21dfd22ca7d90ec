//! 4 KiB random reads and writes through the driver alone, beside the same on the bare kernel.
//!
//! `cargo run --release -p filed --example depth [DIR...]` (by default /dev/shm and the temporary
//! directory). One object of 64 MiB, operations per second at depths 1, 16 and 64; `raw` is a bare
//! io_uring on the same file with the same flags, `pread` one system call after the other.
//!
//! The sketch: a hot operation costs one lookup (40 ns), a slot and a range (20 ns), a submission
//! and a completion through the reactor (60 ns); so on tmpfs, where the kernel takes 0.7 us for
//! each, the driver should reach 85 % of raw, and on a disk all of it.

use driver::{Buf, Driver, Name, Op, OpId, Tag};
use filed::{Config, Filed};
use io_uring::{IoUring, opcode, types};
use reactor::Reactor;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SIZE: u64 = 64 << 20;
const BLOCK: usize = 4096;
const OBJECT: &str = "measured-object";
const LONG: Duration = Duration::from_millis(100);

/// Both sides take turns, because the machine has other work; medians are printed.
const ROUNDS: usize = 9;

fn main() {
    let mut dirs: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if dirs.is_empty() {
        dirs = vec!["/dev/shm".into(), std::env::temp_dir()];
    }
    println!("operations per second, in thousands");
    for dir in dirs {
        for direct in [false, true] {
            measure(&dir, direct);
        }
    }
}

fn measure(dir: &Path, direct: bool) {
    let tree = tempfile::TempDir::new_in(dir).unwrap();
    let config = Config {
        direct,
        ..Config::new(tree.path(), "bench_1")
    };
    let reactor = Reactor::new(128).unwrap();
    let mut filed = Filed::open(config, &reactor).unwrap();
    fill(&mut filed, &reactor);
    let aligned = filed.capabilities().alignment > 1;
    println!(
        "{} {}",
        dir.display(),
        if aligned { "O_DIRECT" } else { "buffered" }
    );
    let path = find(tree.path());
    for writes in [false, true] {
        let what = if writes { "write" } else { "read" };
        println!(
            "  {what:5}  pread/pwrite {:7.1}",
            calls(&path, aligned, writes)
        );
        for depth in [1, 16, 64] {
            let (mut raw, mut ours) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                raw.push(bare(&path, aligned, writes, depth));
                ours.push(through(&mut filed, &reactor, writes, depth));
            }
            let (raw, ours) = (median(raw), median(ours));
            println!(
                "  {what:5}  depth {depth:2}  raw {raw:7.1}  filed {ours:7.1}  {:3.0} %",
                ours / raw * 100.0
            );
        }
    }
}

/// Where the next operation goes.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % (SIZE / BLOCK as u64) * BLOCK as u64
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64() / 1000.0
}

fn fill(filed: &mut Filed, reactor: &Reactor) {
    let buf = Buf::from_bytes(&vec![0x5a; SIZE as usize]);
    filed.submit(OpId(0), operation(true, 0, buf));
    let mut done = Vec::new();
    filed.poll(&mut done);
    while done.is_empty() {
        pump(reactor);
        filed.poll(&mut done);
    }
}

fn pump(reactor: &Reactor) {
    reactor.turn_or_wait(None).unwrap();
}

fn operation(write: bool, offset: u64, buf: Buf) -> Op {
    let name = Name::try_from(OBJECT).unwrap();
    if write {
        return Op::Write {
            name,
            offset,
            buf,
            tag: Tag(1),
            fresh: false,
            durable: false,
        };
    }
    Op::Read { name, offset, buf }
}

fn through(filed: &mut Filed, reactor: &Reactor, write: bool, depth: u64) -> f64 {
    let (mut random, mut done, mut count) = (Random(1), Vec::new(), 0);
    for id in 0..depth {
        filed.submit(OpId(id), operation(write, random.next(), Buf::new(BLOCK)));
    }
    let start = Instant::now();
    while start.elapsed() < LONG {
        filed.poll(&mut done);
        if done.is_empty() {
            pump(reactor);
        }
        for done in done.drain(..) {
            done.result.unwrap();
            count += 1;
            filed.submit(done.id, operation(write, random.next(), done.buf.unwrap()));
        }
    }
    let rate = rate(count, start);
    while filed.in_flight() > 0 {
        pump(reactor);
        filed.poll(&mut done);
    }
    rate
}

fn open(path: &Path, direct: bool) -> File {
    let flags = if direct { libc::O_DIRECT } else { 0 };
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
        .unwrap()
}

fn bare(path: &Path, direct: bool, write: bool, depth: u64) -> f64 {
    let file = open(path, direct);
    let bufs: Vec<Buf> = (0..depth).map(|_| Buf::new(BLOCK)).collect();
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(128)
        .unwrap();
    let mut random = Random(1);
    let mut entry = |id: u64| {
        let (fd, at) = (types::Fd(file.as_raw_fd()), bufs[id as usize].ptr());
        let offset = random.next();
        let entry = match write {
            true => opcode::Write::new(fd, at, BLOCK as u32)
                .offset(offset)
                .build(),
            false => opcode::Read::new(fd, at, BLOCK as u32)
                .offset(offset)
                .build(),
        };
        entry.user_data(id)
    };
    for id in 0..depth {
        // SAFETY: the buffers outlive the ring's last completion, awaited below.
        unsafe { ring.submission().push(&entry(id)).unwrap() };
    }
    let (start, mut count, mut ended) = (Instant::now(), 0, 0);
    while ended < depth {
        ring.submit_and_wait(1).unwrap();
        let ids: Vec<u64> = ring
            .completion()
            .map(|entry| {
                assert_eq!(entry.result(), BLOCK as i32);
                entry.user_data()
            })
            .collect();
        for id in ids {
            count += 1;
            if start.elapsed() >= LONG {
                ended += 1;
                continue;
            }
            // SAFETY: as above.
            unsafe { ring.submission().push(&entry(id)).unwrap() };
        }
    }
    rate(count, start)
}

fn calls(path: &Path, direct: bool, write: bool) -> f64 {
    let (file, mut random, mut count) = (open(path, direct), Random(1), 0);
    let mut memory = vec![0u8; 2 * BLOCK];
    let at = memory.as_ptr().align_offset(BLOCK);
    let block = &mut memory[at..at + BLOCK];
    let start = Instant::now();
    while start.elapsed() < LONG {
        match write {
            true => file.write_all_at(block, random.next()).unwrap(),
            false => file.read_exact_at(block, random.next()).unwrap(),
        }
        count += 1;
    }
    rate(count, start)
}

fn find(tree: &Path) -> PathBuf {
    let mut todo = vec![tree.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.ends_with(OBJECT) {
                return path;
            }
        }
    }
    panic!("the object was written")
}
