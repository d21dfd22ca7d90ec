//! From a command to a daemon: its caller learns the device or one sentence, then it is alone.
//!
//! ```text
//!  caller -- process --fork--> child: own session, maps, serves for years
//!               |                 |
//!               +<--- pipe -------+  "+/dev/loop0" or "-the volume ... does not exist"
//!               +--> one line on stdout, exit 0; or on stderr, exit 255
//! ```

use crate::error::{Error, ErrorKind};
use crate::keeper::{self, Legacy, Revive};
use crate::options::{Options, Part};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The exit status of a failure (spec/cli.md section 1).
pub const FAILURE: u8 = 255;

/// Where log lines go.
enum Log {
    /// In the foreground.
    Standard,
    /// A daemon's, before it knows its file. Lost if it fails: its caller hears the reason.
    Early(Vec<u8>),
    /// A daemon's.
    File(PathBuf, File),
}

static LOG: Mutex<Log> = Mutex::new(Log::Standard);

fn log() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the caller how it went.
#[derive(Debug)]
pub struct Ready(Audience);

#[derive(Debug)]
enum Audience {
    /// Whoever reads our standard output, in the foreground.
    Terminal,
    /// The command that became this daemon.
    Caller(File),
    /// They heard it from a predecessor.
    Nobody,
}

impl Ready {
    /// Logs to `path` from now on, unless in the foreground.
    pub fn log_to(&self, path: &Path) -> Result<(), Error> {
        let mut log = log();
        if !matches!(&*log, Log::Standard) {
            let early = if let Log::Early(early) = &*log {
                early.as_slice()
            } else {
                &[]
            };
            let file = open_log(path).and_then(|mut file| file.write_all(early).map(|()| file));
            let what = format!("can't open the log {}", path.display());
            *log = Log::File(path.to_owned(), file.map_err(Error::system(what))?);
        }
        Ok(())
    }

    /// Prints `device` for the caller, who then goes its way; the terminal is let go.
    pub fn say(self, device: &str) -> Result<(), Error> {
        match self.0 {
            Audience::Nobody => Ok(()),
            Audience::Terminal => {
                let mut out = io::stdout().lock();
                writeln!(out, "{device}")
                    .and_then(|()| out.flush())
                    .map_err(Error::system("can't print the device"))
            }
            Audience::Caller(mut pipe) => let_go()
                .and_then(|()| writeln!(pipe, "+{device}"))
                .map_err(Error::system("can't become a daemon")),
        }
    }
}

/// What an endpoint does: with what a dead predecessor left, if there was one.
pub trait Body: FnOnce(&Options, Option<Legacy>, Ready) -> Result<(), Error> {}

impl<F: FnOnce(&Options, Option<Legacy>, Ready) -> Result<(), Error>> Body for F {}

/// Runs the part of an endpoint that the options say: `body` as a daemon, or right here in the
/// foreground; or the keeper, which calls `revive` with what was kept after a death.
pub fn run(options: Options, revive: Revive, body: impl Body) -> ExitCode {
    let options = options.absolute();
    match options.part {
        Some(Part::Keeper) => {
            take_name();
            keeper::keep(&options, revive)
        }
        Some(Part::Successor) => {
            take_name();
            follow(&options, body)
        }
        None if options.foreground => {
            start_logging();
            match body(&options, None, Ready(Audience::Terminal)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => fail(&why.sentence),
            }
        }
        None => match detach() {
            Ok(Some(ready)) => child(&options, ready, body),
            Ok(None) => ExitCode::SUCCESS,
            Err(why) => fail(&why.sentence),
        },
    }
}

/// Is called in listings as it was started: what was executed is a link to that.
fn take_name() {
    let own = std::env::args_os().next().map(PathBuf::from);
    let name = own.as_deref().and_then(Path::file_name);
    let name = name.and_then(|name| CString::new(name.as_bytes()).ok());
    if let Some(name) = name {
        // Only a listing is the poorer.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

fn follow(options: &Options, body: impl Body) -> ExitCode {
    if !options.foreground {
        *log() = Log::Early(Vec::new());
    }
    start_logging();
    let ready = Ready(Audience::Nobody);
    match keeper::legacy().and_then(|legacy| body(options, Some(legacy), ready)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!("{why}");
            ExitCode::from(FAILURE)
        }
    }
}

fn child(options: &Options, ready: File, body: impl Body) -> ExitCode {
    *log() = Log::Early(Vec::new());
    start_logging();
    let told = ready.try_clone();
    match body(options, None, Ready(Audience::Caller(ready))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!("{why}");
            // Nobody reads any more when the device was there already.
            let _ =
                told.and_then(|mut pipe| writeln!(pipe, "-{}", why.sentence.replace('\n', " ")));
            ExitCode::from(FAILURE)
        }
    }
}

/// The child gets its end of the pipe; the parent gets `None` after the device was printed.
fn detach() -> Result<Option<File>, Error> {
    let (from, to) = pipe().map_err(Error::system("can't make a pipe"))?;
    // SAFETY: no thread has been started yet, so the child finds every lock free.
    match unsafe { fork() }.map_err(Error::system("can't fork"))? {
        ForkResult::Child => {
            drop(from);
            setsid().map_err(Error::system("can't start a session"))?;
            Ok(Some(File::from(to)))
        }
        ForkResult::Parent { .. } => {
            drop(to);
            listen(from).map(|()| None)
        }
    }
}

fn listen(from: OwnedFd) -> Result<(), Error> {
    let mut said = String::new();
    BufReader::new(File::from(from))
        .read_line(&mut said)
        .map_err(Error::system("can't hear from the new process"))?;
    match said.trim_end().split_at_checked(1) {
        Some(("+", device)) => {
            writeln!(io::stdout(), "{device}").map_err(Error::system("can't print the device"))
        }
        Some((_, why)) => Err(Error::new(ErrorKind::System, why)),
        None => Err(Error::new(
            ErrorKind::System,
            "the new process died without a word",
        )),
    }
}

fn fail(sentence: &str) -> ExitCode {
    eprintln!("{sentence}");
    ExitCode::from(FAILURE)
}

/// Lets the terminal and the working directory go. Panics go to the log.
fn let_go() -> io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    match &*log() {
        Log::File(_, file) => dup2_stderr(file)?,
        _ => dup2_stderr(&null)?,
    }
    Ok(())
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// Where further processes of this endpoint say why they end: to the log, if it is a file.
pub(crate) fn stderr() -> io::Result<Stdio> {
    Ok(match &*log() {
        Log::File(_, file) => file.try_clone()?.into(),
        Log::Standard => Stdio::inherit(),
        Log::Early(_) => Stdio::null(),
    })
}

/// Opens the log anew, after it was rotated away.
pub fn reopen_log() {
    if let Log::File(path, file) = &mut *log()
        && let Ok(new) = open_log(path)
    {
        // Panics are the only thing that this is for.
        let _ = dup2_stderr(&new);
        *file = new;
    }
}

struct Writer;

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *log() {
            Log::File(_, file) => file.write(bytes),
            Log::Early(early) => early.write(bytes),
            Log::Standard => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start_logging() {
    tracing_subscriber::fmt()
        .with_writer(|| Writer)
        .with_ansi(false)
        .init();
}
