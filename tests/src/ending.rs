//! Whether a dead process's ring had ended before its successor began: seen from outside, in what
//! the kernel and the segment say, not in what either process says.
//!
//! A driver's process has its drain lock in its ring, so the lock is listed in `/proc/locks` under
//! the pid of the dead as long as one of its operations may still land. What the dead was serving
//! stays as it is in the segment until its successor touches it. So the order of the two is seen,
//! and a successor that has begun while the lock of the dead is still listed is a violation.
//!
//! In a container with a pid namespace of its own the kernel does not list locks of the dead;
//! then only the verifier's own checks are left ([`crate::verifier`]).

use crate::windows;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use xseg::SeatNo;
use xseg::join::Observed;

/// How often one looks.
const LOOK: Duration = Duration::from_micros(200);
/// When one gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The drain locks of a node.
pub struct DrainLocks(Vec<PathBuf>);

impl DrainLocks {
    /// Those of `roles`, in the node's run directory.
    pub fn new(run_dir: &Path, roles: &[&str]) -> DrainLocks {
        let file = |role: &&str| run_dir.join(format!("{role}.drain"));
        DrainLocks(roles.iter().map(file).collect())
    }

    /// Whether the process, or its ring, holds one of them.
    pub fn held_by(&self, pid: i32) -> io::Result<bool> {
        let names = self
            .0
            .iter()
            .map(|path| lock_name(path))
            .collect::<io::Result<Vec<_>>>()?;
        let table = std::fs::read_to_string("/proc/locks")?;
        let pid = pid.to_string();
        Ok(table.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Waiters have an arrow before the kind.
            matches!(words[..], [_, "FLOCK", _, _, holder, file, ..]
                if holder == pid && names.iter().any(|name| file.ends_with(name)))
        }))
    }
}

/// How the name of a file in `/proc/locks` ends. It begins with the device, which some filesystems
/// show otherwise in `stat`.
fn lock_name(path: &Path) -> io::Result<String> {
    Ok(format!(":{}", std::fs::metadata(path)?.ino()))
}

/// A process that is stopped and about to be killed.
pub struct Victim<'a> {
    observed: &'a Observed,
    locks: &'a DrainLocks,
    pid: i32,
    seats: Vec<SeatNo>,
    served: BTreeSet<(usize, usize, u64)>,
}

/// What was seen of a death.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Its ring was still there when the process was gone already.
    pub outlived: bool,
    /// From the kill to the end of the ring.
    pub ended: Duration,
    /// From the kill to the first request that the successor took up.
    pub began: Duration,
    /// The successor had begun while the ring was still there.
    pub late: bool,
}

impl<'a> Victim<'a> {
    /// Notes what the stopped process is serving.
    pub fn new(
        observed: &'a Observed,
        locks: &'a DrainLocks,
        pid: i32,
        seats: Vec<SeatNo>,
    ) -> Victim<'a> {
        let served = windows::serving(observed, &seats);
        Victim {
            observed,
            locks,
            pid,
            seats,
            served,
        }
    }

    /// Whether the kernel lists its drain lock, without which there is nothing to watch.
    pub fn holds_its_lock(&self) -> bool {
        self.locks.held_by(self.pid).unwrap_or(false)
    }

    /// Watches, from its kill on, until its ring has ended and its successor has begun. `meanwhile`
    /// is told at each look how long ago the kill was.
    pub fn watch(
        self,
        mut meanwhile: impl FnMut(Duration) -> io::Result<()>,
    ) -> io::Result<Ending> {
        let killed = Instant::now();
        let (mut outlived, mut late) = (false, false);
        let (mut ended, mut began) = (None, None);
        loop {
            // In this order: what is held after the look at the slots was held at it too.
            let has_begun = windows::serving(self.observed, &self.seats) != self.served;
            let gone = matches!(crate::real::state_of(self.pid), None | Some('Z' | 'X'));
            let held = self.locks.held_by(self.pid)?;
            late |= has_begun && held;
            outlived |= gone && held;
            if has_begun && began.is_none() {
                began = Some(killed.elapsed());
            }
            if !held && ended.is_none() {
                ended = Some(killed.elapsed());
            }
            if let (Some(ended), Some(began)) = (ended, began) {
                return Ok(Ending {
                    outlived,
                    ended,
                    began,
                    late,
                });
            }
            if killed.elapsed() > PATIENCE {
                let what = format!("ring ended {ended:?}, successor began {began:?}");
                return Err(io::Error::other(what));
            }
            meanwhile(killed.elapsed())?;
            std::thread::sleep(LOOK);
        }
    }
}
