//! A file, written and read through an io_uring at a given depth.
//!
//! What always holds: a buffer belongs to the kernel from the submission of its operation until
//! that operation's completion; [`RawFile::run`] returns only when nothing is under way, also
//! after a failure.

use crate::case::{Trouble, Turn};
use crate::load::{Pattern, Work};
use io_uring::{IoUring, opcode, types};
use memmap2::MmapMut;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How a raw file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mode {
    /// O_DIRECT.
    pub direct: bool,
    /// O_DSYNC.
    pub durable: bool,
}

/// A file of zeros turned into data, and its ring.
pub struct RawFile {
    ring: IoUring,
    file: File,
    buffers: MmapMut,
}

impl RawFile {
    /// Opens `path` for `work`; it is made, `size` bytes long and fully written, if it is not there.
    pub fn open(path: &Path, size: u64, mode: Mode, work: &Work) -> io::Result<RawFile> {
        if std::fs::metadata(path).map_or(0, |meta| meta.len()) != size {
            fill(path, size)?;
        }
        let flags = if mode.direct { libc::O_DIRECT } else { 0 }
            | if mode.durable { libc::O_DSYNC } else { 0 };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        let mut buffers = MmapMut::map_anon(work.depth * work.block)?;
        buffers.fill(0xa5);
        let ring = IoUring::new(work.depth.next_power_of_two() as u32)?;
        Ok(RawFile {
            ring,
            file,
            buffers,
        })
    }

    /// Does `work` for `budget`.
    pub fn run(
        &mut self,
        work: &Work,
        pattern: &mut Pattern,
        budget: Duration,
    ) -> Result<Turn, Trouble> {
        self.turn(work, pattern, budget)
            .map_err(Trouble::failed("raw file"))
    }

    fn turn(&mut self, work: &Work, pattern: &mut Pattern, budget: Duration) -> io::Result<Turn> {
        let mut turn = Turn::default();
        let mut started = vec![Instant::now(); work.depth];
        let start = started[0];
        for at in 0..work.depth {
            self.push(work, at, pattern.offset());
        }
        let mut under_way = work.depth;
        let mut failed = None;
        while under_way > 0 {
            match self.ring.submit_and_wait(1) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                waited => waited?,
            };
            let done: Vec<(u64, i32)> = self
                .ring
                .completion()
                .map(|c| (c.user_data(), c.result()))
                .collect();
            let now = Instant::now();
            for (at, result) in done {
                let at = at as usize;
                under_way -= 1;
                turn.latencies.record((now - started[at]).as_nanos() as u64);
                if result != work.block as i32 {
                    failed = Some(short(result));
                }
                if now - start < budget && failed.is_none() {
                    started[at] = now;
                    self.push(work, at, pattern.offset());
                    under_way += 1;
                }
            }
            turn.elapsed = now - start;
        }
        turn.ops = turn.latencies.count();
        failed.map_or(Ok(turn), Err)
    }

    fn push(&mut self, work: &Work, at: usize, offset: u64) {
        let fd = types::Fd(self.file.as_raw_fd());
        let buffer = self.buffers[at * work.block..].as_mut_ptr();
        let len = work.block as u32;
        let entry = match work.write {
            true => opcode::Write::new(fd, buffer, len).offset(offset).build(),
            false => opcode::Read::new(fd, buffer, len).offset(offset).build(),
        };
        // SAFETY: the buffer is the `at`th of `depth` and no other operation names it until this
        // one completes; file and buffers outlive the operation, because `turn` waits for all.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(at as u64)) };
        pushed.expect("the ring has as many entries as there are operations");
    }
}

fn short(result: i32) -> io::Error {
    match result {
        n if n < 0 => io::Error::from_raw_os_error(-n),
        n => io::Error::other(format!("only {n} bytes were done")),
    }
}

/// Makes a file whose every block is allocated and written, on the disk.
pub fn fill(path: &Path, size: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let piece = vec![0x3c; 1 << 20];
    let mut left = size;
    while left > 0 {
        let len = left.min(piece.len() as u64);
        io::Write::write_all(&mut file, &piece[..len as usize])?;
        left -= len;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_and_read_at_depth() {
        let dir = tempfile::tempdir().unwrap();
        for write in [true, false] {
            let work = Work {
                write,
                random: true,
                block: 4096,
                depth: 8,
            };
            let mut pattern = Pattern::new(&work, 1 << 20, 1);
            let path = dir.path().join("raw");
            let mut file = RawFile::open(&path, 1 << 20, Mode::default(), &work).unwrap();
            let turn = file
                .run(&work, &mut pattern, Duration::from_millis(5))
                .unwrap();
            assert!(turn.ops >= 8 && turn.ops == turn.latencies.count());
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
        }
    }
}
