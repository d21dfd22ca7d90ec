//! Where a peer's log goes: its log file, reopened on USR1, or stderr.
//!
//! USR2 raises the level, HUP resets it (spec/choices.md, "Signals"). The signals are taken by a
//! thread of their own, so that a reactor is never interrupted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
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
    file: Arc<File>,
}

/// The descriptor of the log; it stays the same number when the file is opened anew.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);

/// Where the log is written to, for who can't use it as others do: a signal handler.
pub(crate) fn descriptor() -> RawFd {
    DESCRIPTOR.load(Relaxed)
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
        let Ok(file) = open(&self.path) else { return };
        // SAFETY: both descriptors are open and ours; who writes meanwhile writes to the old file
        // or to the new one.
        unsafe { libc::dup3(file.as_raw_fd(), self.file.as_raw_fd(), libc::O_CLOEXEC) };
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.file).write(bytes)
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

/// What signals do to the log, once somebody follows them.
pub struct Signals {
    signals: signal_hook::iterator::Signals,
    file: Option<LogFile>,
    first: LevelFilter,
    handle: reload::Handle<LevelFilter, tracing_subscriber::Registry>,
}

/// Starts logging to `path` (stderr without one) at `level` 0 to 3. No thread is started; signals
/// that come from here on wait for [`Signals::follow`].
pub fn start(path: Option<&Path>, level: u8) -> io::Result<Signals> {
    let first = LEVELS[usize::from(level).min(LEVELS.len() - 1)].max(LevelFilter::WARN);
    let (filter, handle) = reload::Layer::new(first);
    let registry = tracing_subscriber::registry().with(filter);
    let file = path.map(log_file).transpose()?;
    match &file {
        None => {
            let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
            registry.with(layer).init();
        }
        Some(file) => {
            DESCRIPTOR.store(file.file.as_raw_fd(), Relaxed);
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(file.clone());
            registry.with(layer).init();
        }
    }
    let signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGUSR1,
        signal_hook::consts::SIGUSR2,
        signal_hook::consts::SIGHUP,
    ])?;
    Ok(Signals {
        signals,
        file,
        first,
        handle,
    })
}

fn log_file(path: &Path) -> io::Result<LogFile> {
    let named = |why: io::Error| {
        let text = format!("can't open the log {}: {why}", path.display());
        io::Error::new(why.kind(), text)
    };
    Ok(LogFile {
        path: path.to_owned(),
        file: Arc::new(open(path).map_err(named)?),
    })
}

impl Signals {
    /// Obeys them, on a thread of its own. To be called when the process blocks the signals that
    /// others wait for, and is confined if it is to be.
    pub fn follow(mut self) -> io::Result<()> {
        let obey = move || {
            let mut now = self.first;
            for signal in &mut self.signals {
                match signal {
                    signal_hook::consts::SIGUSR1 => self.file.iter().for_each(LogFile::reopen),
                    signal_hook::consts::SIGUSR2 => now = louder(now),
                    _ => now = self.first,
                }
                // The subscriber lives as long as the process.
                let _ = self.handle.modify(|filter| *filter = now);
            }
        };
        std::thread::Builder::new()
            .name("log".into())
            .spawn(obey)
            .map(drop)
    }
}

fn louder(level: LevelFilter) -> LevelFilter {
    let at = LEVELS.iter().position(|l| *l == level).unwrap_or(0);
    LEVELS[(at + 1).min(LEVELS.len() - 1)]
}
