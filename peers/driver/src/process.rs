//! Who a process is, and whether it lives: so that a lock of the dead is told from one of the living.

use crate::ProcessMark;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The longest text of a mark, bytes.
pub const MARK_LEN_MAX: usize = 1024;

/// One driver of one process: a process may hold several (the tests do, embedded nodes do).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The process.
    pub process: ProcessMark,
    /// Which driver of it.
    pub instance: u64,
    /// `RUN_DIR` of its node.
    pub run_dir: Option<PathBuf>,
}

/// The drivers of this process that live.
static INSTANCES: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Nothing that holds it can panic.
fn instances() -> MutexGuard<'static, BTreeSet<u64>> {
    INSTANCES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a driver of this process while it lives.
pub struct Registration(
    /// Who it is.
    pub Mark,
);

impl Registration {
    /// A driver that lives from now on, of the node whose `RUN_DIR` that is.
    pub fn new(run_dir: Option<PathBuf>) -> io::Result<Registration> {
        let instance = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let process = ProcessMark {
            pid,
            start: start_of(pid)?.unwrap_or(0),
            boot: boot()?,
        };
        instances().insert(instance);
        Ok(Registration(Mark {
            process,
            instance,
            run_dir,
        }))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        instances().remove(&self.0.instance);
    }
}

impl Mark {
    /// As it stands beside a lock: pid, start, boot, instance, and the rest of it is `RUN_DIR`, if
    /// that fits.
    pub fn to_text(&self) -> String {
        let ProcessMark { pid, start, boot } = &self.process;
        let mut text = format!("{pid} {start} {boot} {}", self.instance);
        let run_dir = self.run_dir.as_deref().and_then(Path::to_str);
        if let Some(dir) = run_dir.filter(|dir| text.len() + dir.len() < MARK_LEN_MAX) {
            text = format!("{text} {dir}");
        }
        text
    }

    /// Reads what [`Self::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Mark> {
        let mut words = text.splitn(5, ' ');
        let process = ProcessMark {
            pid: words.next()?.parse().ok()?,
            start: words.next()?.parse().ok()?,
            boot: words.next()?.to_owned(),
        };
        let instance = words.next()?.parse().ok()?;
        Some(Mark {
            process,
            instance,
            run_dir: words.next().map(PathBuf::from),
        })
    }

    /// Whether its driver lives, as `self` sees it; `None` when it is of another host, another
    /// boot or another container.
    pub fn sees_alive(&self, other: &Mark) -> Option<bool> {
        if self.process == other.process {
            return Some(instances().contains(&other.instance));
        }
        if self.process.boot != other.process.boot {
            return None;
        }
        let start = start_of(other.process.pid).ok()?;
        Some(start == Some(other.process.start))
    }
}

/// When a process started, in ticks since boot; `None` when there is none, or it is a zombie: a
/// zombie does nothing any more, and may stay for long.
fn start_of(pid: u32) -> io::Result<Option<u64>> {
    let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // The process went away while it was read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        read => read?,
    };
    Ok(parse_start(&stat))
}

/// Fields 3 (state), 20 (threads) and 22 (start) of `/proc/PID/stat`; the name, field 2, may hold
/// anything. A process whose first thread has ended looks like a zombie while others of it work.
pub(crate) fn parse_start(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let has_ended = matches!(fields.next()?, "Z" | "X");
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    if has_ended && threads <= 1 {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

/// The boot of this host, and the namespace in which pids mean something.
fn boot() -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = std::fs::metadata("/proc/self/ns/pid")?.ino();
    Ok(format!("{}:{namespace}", boot.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_lives_as_long_as_it_is_registered() {
        let (one, other) = (
            Registration::new(None).unwrap(),
            Registration::new(None).unwrap(),
        );
        let mark = other.0.clone();
        assert_eq!(Mark::from_text(&mark.to_text()), Some(mark.clone()));
        assert_eq!(one.0.sees_alive(&mark), Some(true));
        drop(other);
        assert_eq!(one.0.sees_alive(&mark), Some(false));
    }

    #[test]
    fn a_mark_names_the_run_dir_if_that_fits() {
        let of = |dir: &str| Registration::new(Some(dir.into())).unwrap().0.clone();
        let mark = of("/run/archipelago of mine");
        assert_eq!(Mark::from_text(&mark.to_text()), Some(mark));
        let long = of(&"/x".repeat(MARK_LEN_MAX / 2));
        let read = Mark::from_text(&long.to_text()).unwrap();
        assert_eq!((&read.process, read.run_dir), (&long.process, None));
    }

    #[test]
    fn other_processes() {
        let us = Registration::new(None).unwrap().0.clone();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let mut mark = us.clone();
        mark.process.pid = child.id();
        mark.process.start = start_of(child.id()).unwrap().unwrap();
        assert_eq!(us.sees_alive(&mark), Some(true));
        mark.process.start += 1;
        assert_eq!(us.sees_alive(&mark), Some(false), "a pid used again");
        mark.process.start -= 1;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(us.sees_alive(&mark), Some(false));
        mark.process.boot.push('x');
        assert_eq!(us.sees_alive(&mark), None, "another host's");
    }

    #[test]
    fn names_with_brackets_and_zombies() {
        let fields = "0 ".repeat(16);
        let stat = |state, threads| format!("7 (a) R (b) {state} {fields}{threads} 0 99 0");
        assert_eq!(parse_start(&stat("S", 1)), Some(99));
        assert_eq!(parse_start(&stat("Z", 1)), None);
    }

    /// A killed process whose first thread had ended was taken for dead while another thread of it was
    /// still removing a file; its locks were taken over meanwhile.
    #[test]
    fn a_process_lives_as_long_as_one_of_its_threads_does() {
        const PROGRAM: &str = "import ctypes, threading
threading.Thread(target=input).start()
ctypes.CDLL(None).syscall(EXIT, 0)";
        let program = PROGRAM.replace("EXIT", &libc::SYS_exit.to_string());
        let mut child = std::process::Command::new("python3")
            .args(["-c", &program])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        while !stat().contains(") Z ") {
            std::thread::yield_now();
        }
        assert!(start_of(child.id()).unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(start_of(child.id()).unwrap(), None);
    }
}
