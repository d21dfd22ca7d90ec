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

    /// The last line that was logged after `position`.
    pub(super) fn last_line(&self, position: u64) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let end = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(position.max(end.saturating_sub(TAIL_MAX))))
            .ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
