//! Where a peer's log goes: its log file, reopened on USR1, or stderr.
//!
//! USR2 raises the level, HUP resets it (spec/choices.md, "Signals"). The signals are taken by a
//! thread of their own, so that a reactor is never interrupted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

/// The levels of the original, 0 to 3.
const LEVELS: [LevelFilter; 4] = [
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
];

/// A log file that can be opened anew.
#[derive(Clone)]
struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o664)
        .open(path)
}

impl LogFile {
    fn reopen(&self) {
        // The old file goes on when the new one can't be had: nothing is lost.
        if let Ok(file) = open(&self.path) {
            *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = LogFile;
    fn make_writer(&'a self) -> LogFile {
        self.clone()
    }
}

/// Starts logging to `path` (stderr without one) at `level` 0 to 3. To be called before the
/// process blocks its signals and starts threads.
pub fn start(path: Option<&Path>, level: u8) -> io::Result<()> {
    let first = LEVELS[usize::from(level).min(LEVELS.len() - 1)].max(LevelFilter::WARN);
    let (filter, handle) = reload::Layer::new(first);
    let registry = tracing_subscriber::registry().with(filter);
    let file = match path {
        None => {
            let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
            registry.with(layer).init();
            None
        }
        Some(path) => {
            let named = |why: io::Error| {
                io::Error::new(
                    why.kind(),
                    format!("can't open the log {}: {why}", path.display()),
                )
            };
            let file = LogFile {
                path: path.to_owned(),
                file: Arc::new(Mutex::new(open(path).map_err(named)?)),
            };
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(file.clone());
            registry.with(layer).init();
            Some(file)
        }
    };
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGUSR1,
        signal_hook::consts::SIGUSR2,
        signal_hook::consts::SIGHUP,
    ])?;
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            let mut now = first;
            for signal in &mut signals {
                match signal {
                    signal_hook::consts::SIGUSR1 => file.iter().for_each(LogFile::reopen),
                    signal_hook::consts::SIGUSR2 => now = louder(now),
                    _ => now = first,
                }
                // The subscriber lives as long as the process.
                let _ = handle.modify(|filter| *filter = now);
            }
        })?;
    Ok(())
}

fn louder(level: LevelFilter) -> LevelFilter {
    let at = LEVELS.iter().position(|l| *l == level).unwrap_or(0);
    LEVELS[(at + 1).min(LEVELS.len() - 1)]
}
