//! The supervisor's log: its own lines and its children's standard error, one after the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How much of the end of the log is searched for the reason of a failure, bytes.
const TAIL_MAX: u64 = 4096;

/// Where the supervisor of a node logs when it runs in the background.
pub fn log_file(log_dir: &Path) -> PathBuf {
    log_dir.join("supervisor.log")
}

/// Opens the log, and makes it the destination of this process's `tracing` events.
pub fn open_log(path: &Path) -> io::Result<Log> {
    let log = Log {
        path: path.to_owned(),
        file: Arc::new(Mutex::new(open(path)?)),
    };
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || writer.clone());
    // A second supervisor in one process (a test) logs where the first does.
    let _ = subscriber.try_init();
    Ok(log)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o660)
        .open(path)
}

/// A log file; clones write to the same.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl Log {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> T) -> T {
        act(&mut self.file.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A descriptor of the file, for a child.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.with(|file| file.try_clone())
    }

    /// Goes on in a new file of the same name, after the old one was moved away.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let new = open(&self.path)?;
        self.with(|file| *file = new);
        Ok(())
    }

    /// Bytes that were logged so far.
    pub(super) fn position(&self) -> u64 {
        self.with(|file| file.metadata()).map_or(0, |m| m.len())
    }

    /// The last line that a child logged after `position`.
    pub(super) fn last_line(&self, position: u64) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let end = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(position.max(end.saturating_sub(TAIL_MAX))))
            .ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let of_a_child = |line: &&str| !line.trim().is_empty() && !is_event(line);
        let line = text.lines().rfind(of_a_child)?;
        Some(line.trim().to_owned())
    }
}

/// Whether a line is one of our own events: time, level, words.
fn is_event(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next().is_some_and(|time| time.ends_with('Z'))
        && matches!(
            words.next(),
            Some("ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE")
        )
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seat of a child that ended is noticed at the same moment as its death, and "left seat 0"
    /// was sometimes given as the reason why it did not start.
    #[test]
    fn the_last_line_is_a_childs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log {
            file: Arc::new(Mutex::new(open(&path).unwrap())),
            path,
        };
        log.handle().unwrap().write_all(b"before\n").unwrap();
        let start = log.position();
        assert_eq!(log.last_line(start), None);
        let said = b"blockerb: the disk is gone\n\n2026-11-27T05:02:09.09Z  INFO left seat 0\n";
        log.handle().unwrap().write_all(said).unwrap();
        let line = log.last_line(start);
        assert_eq!(line.as_deref(), Some("blockerb: the disk is gone"));
    }
}
