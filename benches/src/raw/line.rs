//! A number that two processes pass to and fro in one cache line of shared memory.
//!
//! The only shared word is an atomic; each side writes it only when the other has written last,
//! so a turn is one cache line there and one back.

use crate::case::{Trouble, Turn};
use crate::histogram::Histogram;
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A page that is shared.
pub struct Line {
    file: File,
    page: MmapRaw,
}

const PAGE: usize = 4096;

impl Line {
    /// A new one, in memory that a child can inherit.
    pub fn create() -> std::io::Result<Line> {
        let file = File::from(memfd_create("line", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(PAGE as u64)?;
        Line::over(file)
    }

    /// The one that was inherited.
    pub fn inherited(fd: OwnedFd) -> std::io::Result<Line> {
        Line::over(File::from(fd))
    }

    fn over(file: File) -> std::io::Result<Line> {
        let page = MmapOptions::new().len(PAGE).map_raw(&file)?;
        Ok(Line { file, page })
    }

    /// What a child inherits.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped as long as self lives, a page is aligned for any word, and
        // both processes touch it through atomics only.
        unsafe { AtomicU64::from_ptr(self.page.as_mut_ptr().cast()) }
    }

    /// Answers until the process is killed: every odd number becomes the next even one.
    pub fn answer(&self) -> ! {
        loop {
            let n = self.word().load(Ordering::Acquire);
            if n % 2 == 1 {
                self.word().store(n + 1, Ordering::Release);
            }
            std::hint::spin_loop();
        }
    }

    /// Asks for `budget`; the other side must be at work.
    pub fn ask(&self, budget: Duration) -> Result<Turn, Trouble> {
        let mut latencies = Histogram::default();
        let start = Instant::now();
        let mut before = start;
        let mut n = self.word().load(Ordering::Acquire) & !1;
        while before - start < budget {
            self.word().store(n + 1, Ordering::Release);
            n += 2;
            while self.word().load(Ordering::Acquire) != n {
                std::hint::spin_loop();
            }
            let now = Instant::now();
            latencies.record((now - before).as_nanos() as u64);
            before = now;
        }
        Ok(Turn::timed(before - start, latencies))
    }
}
