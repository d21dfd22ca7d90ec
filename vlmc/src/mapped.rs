//! Mapped volumes: the registry that their processes keep, and how one is steered.
//!
//! Each endpoint process keeps `RUN_DIR/mapped/ID/` with `info.json` and the socket `control`:
//! one line of JSON asks, one answers. A directory whose process is gone is a leftover; it is
//! passed over here, and used again by the next process that takes its place.

use crate::failure::{Failure, print, say};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use node::supervisor::pids;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a killed process may take to be followed by another, and how often we look.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// What a mapped volume's process says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapped {
    /// The device's minor, or a running number.
    pub(crate) id: u64,
    /// The volume.
    pub(crate) volume: String,
    /// The device's path, or a URI.
    pub(crate) device: String,
    /// `fuse` or `nbd`.
    pub(crate) kind: String,
    /// The process.
    pub(crate) pid: i32,
    /// When it began: clock ticks since the machine did.
    pub(crate) start_time: u64,
    /// Whether it can't be written.
    pub(crate) readonly: bool,
    /// `running`, `frozen`, or `failed` (another node holds the volume).
    pub(crate) state: String,
    #[serde(skip)]
    dir: PathBuf,
}

/// What is asked of a mapped volume's process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// Close the volume and leave the segment; requests wait.
    Freeze,
    /// Join, open the volume and go on.
    Thaw,
    /// Take the device away.
    Unmap,
    /// Follow the volume's new size.
    Resize,
}

/// All mapped volumes whose processes live, by id.
pub(crate) fn all(run_dir: &Path) -> Result<Vec<Mapped>, Failure> {
    let mut found = Vec::new();
    for dir in places(run_dir)? {
        found.extend(read(dir).filter(Mapped::is_alive));
    }
    found.sort_by_key(|m| m.id);
    Ok(found)
}

/// The directories of processes that are gone.
pub(crate) fn leftovers(run_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let places = places(run_dir)?.into_iter();
    Ok(places
        .filter(|dir| read(dir.clone()).is_some_and(|m| !m.is_alive()))
        .collect())
}

fn places(run_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let dir = run_dir.join("mapped");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            return Err(Failure::unexpected(
                format!("can't read {}", dir.display()),
                e,
            ));
        }
    };
    // An entry that vanishes meanwhile is one that was unmapped.
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn read(dir: PathBuf) -> Option<Mapped> {
    let text = fs::read(dir.join("info.json")).ok()?;
    let mapped: Mapped = serde_json::from_slice(&text).ok()?;
    Some(Mapped { dir, ..mapped })
}

/// Where `volume` is mapped.
pub(crate) fn of_volume(run_dir: &Path, volume: &str) -> Result<Option<Mapped>, Failure> {
    Ok(all(run_dir)?.into_iter().find(|m| m.volume == volume))
}

impl Mapped {
    /// Whether its process lives, or a keeper that is about to start another.
    fn is_alive(&self) -> bool {
        pids::start_time(self.pid) == Some(self.start_time) || self.is_kept()
    }

    /// Whether somebody holds the place: its process or its keeper.
    fn is_kept(&self) -> bool {
        let Ok(file) = fs::File::open(self.dir.join("lock")) else {
            return false;
        };
        let lock = Flock::lock(file, FlockArg::LockSharedNonblock);
        matches!(lock, Err((_, nix::errno::Errno::EWOULDBLOCK)))
    }

    /// Whether its requests wait for `archipelago start`.
    pub(crate) fn is_frozen(&self) -> bool {
        self.state == "frozen"
    }

    /// Gives an order and waits until it is carried out.
    pub(crate) fn order(&self, order: Order) -> Result<(), Failure> {
        let reply = self.patient_exchange(order).map_err(|e| {
            Failure::new(format!("{}: its process does not answer: {e}", self.device))
        })?;
        let Some(error) = reply.get("error").and_then(Value::as_str) else {
            return Ok(());
        };
        let pids = reply.get("pids").and_then(Value::as_array);
        let pids: Vec<String> = pids.into_iter().flatten().map(Value::to_string).collect();
        Err(Failure::new(match pids.is_empty() {
            true => format!("{}: {error}", self.device),
            false => format!("{}: Device is busy (PID: {})", self.device, pids.join(" ")),
        }))
    }

    /// A process that is killed is followed by another in a moment, which may be asked as well.
    fn patient_exchange(&self, order: Order) -> io::Result<Value> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let now = read(self.dir.clone()).unwrap_or_else(|| self.clone());
            match now.exchange(order) {
                Err(_) if self.is_kept() && Instant::now() < patience => {
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    fn exchange(&self, order: Order) -> io::Result<Value> {
        let process = pids::Pidfd::open(self.pid)?;
        let stream = UnixStream::connect(self.dir.join("control"))?;
        let mut line = serde_json::to_vec(&serde_json::json!({ "do": order }))?;
        line.push(b'\n');
        (&stream).write_all(&line)?;
        let mut reply = String::new();
        BufReader::new(&stream).read_line(&mut reply)?;
        let reply: Value = serde_json::from_str(&reply)?;
        if order == Order::Unmap && reply.get("error").is_none() {
            // The device is free for others once its process is gone.
            let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(10_000u16))?;
        }
        Ok(reply)
    }
}

/// The table of `showmapped`, whose second column scripts cut out.
pub(crate) fn show(mapped: &[Mapped]) -> Result<(), Failure> {
    if mapped.is_empty() {
        return show_none();
    }
    say("id\timage\t\tdevice")?;
    for m in mapped {
        print(format_args!(
            "{}\t{}\t{}\n",
            m.id,
            m.volume.escape_default(),
            m.device
        ))?;
    }
    Ok(())
}

/// On a terminal only, so that a loop over the second column runs zero times.
fn show_none() -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return say("No volumes mapped\n");
    }
    eprintln!("No volumes mapped\n");
    Ok(())
}
