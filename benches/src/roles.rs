//! The other half of a ping-pong, in a process of its own: this program started once more with
//! `role ...`. A role says `ready` on a pipe, and dies with its parent.

use crate::case::Trouble;
use crate::raw::bell::Pair;
use crate::raw::line::Line;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use xseg::join::{Holder, HolderSpec, Kind};
use xseg::{Answer, Event, RegionSpec, Seat};

/// The variable that names the descriptor on which a role says that it is at work.
const READY_FD: &str = "ARCHIP_BENCHES_READY_FD";

/// The port that the echo role serves.
pub const ECHO_PORT: u32 = 0;

/// What a started process is to be.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Role {
    /// Answer in a cache line of an inherited page
    Line {
        /// The page.
        #[arg(long)]
        fd: RawFd,
        /// Where to run.
        #[arg(long)]
        cpu: usize,
    },
    /// Answer over two inherited eventfds
    Bell {
        /// Rung by the parent.
        #[arg(long)]
        ask: RawFd,
        /// Rung by us.
        #[arg(long)]
        answer: RawFd,
        /// Where to run.
        #[arg(long)]
        cpu: usize,
    },
    /// Hold a segment
    Holder {
        /// Where to listen.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Answer every request of a segment without doing anything
    Echo {
        /// Where the segment is handed out.
        #[arg(long)]
        socket: PathBuf,
        /// Where to run.
        #[arg(long)]
        cpu: usize,
        /// How long to look for work before sleeping, in microseconds
        #[arg(long)]
        spin_us: u64,
    },
}

/// Plays a role until the process is killed.
pub fn play(role: &Role) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Some(Signal::SIGKILL))?;
    match role {
        Role::Line { fd, cpu } => {
            pin(*cpu)?;
            let line = Line::inherited(inherit(*fd))?;
            ready()?;
            line.answer()
        }
        Role::Bell { ask, answer, cpu } => {
            pin(*cpu)?;
            let pair = Pair {
                ask: inherit(*ask),
                answer: inherit(*answer),
            };
            ready()?;
            pair.answer()
        }
        Role::Holder { socket } => hold(socket),
        Role::Echo {
            socket,
            cpu,
            spin_us,
        } => {
            pin(*cpu)?;
            echo(socket, Duration::from_micros(*spin_us))
        }
    }
}

fn ready() -> io::Result<()> {
    let fd = std::env::var(READY_FD)
        .ok()
        .and_then(|text| text.parse().ok());
    File::from(inherit(fd.ok_or(io::ErrorKind::NotFound)?)).write_all(READY)
}

fn inherit(fd: RawFd) -> OwnedFd {
    // SAFETY: the parent left this descriptor open for this process alone, and each is named
    // once on the command line.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn hold(socket: &Path) -> io::Result<()> {
    let spec = HolderSpec {
        region: RegionSpec::public(64, 32, 64),
        socket: socket.to_owned(),
        umask: 0o077,
        group: None,
        generation: 1,
        adopt_within: None,
    };
    let mut holder = Holder::new(spec).map_err(io::Error::other)?;
    ready()?;
    loop {
        holder.run_once(None)?;
    }
}

fn echo(socket: &Path, spin: Duration) -> io::Result<()> {
    let (role, first, last) = ("echo", ECHO_PORT, ECHO_PORT);
    let joined = xseg::join::connect(socket, Kind::Peer { role, first, last });
    let mut joined = joined.map_err(io::Error::other)?;
    let mut recovery = joined.seat.recover();
    joined.seat.recovered(&mut recovery);
    joined.seat.bind(first, last);
    let sleeper = Sleeper::new(&joined.seat)?;
    ready()?;
    let mut events = Vec::new();
    loop {
        if !spin_for(spin, || joined.seat.poll(&mut events)) {
            sleeper.sleep(&joined.seat)?;
        }
        for event in events.drain(..) {
            match event {
                Event::Request(incoming) => {
                    let size = joined
                        .seat
                        .read(&incoming)
                        .map_or(0, |request| request.size);
                    joined.seat.answer(incoming, Answer::served(size));
                }
                Event::Reply(ticket, _) => joined.seat.release(ticket),
            }
        }
    }
}

/// Looks again and again for `spin`, once at least; the clock is read once in 16 looks.
pub fn spin_for(spin: Duration, mut look: impl FnMut() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..16 {
            if look() {
                return true;
            }
            if spin.is_zero() {
                return false;
            }
            std::hint::spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= spin {
            return false;
        }
    }
}

/// Sleeps until a seat's bell rings: edge-triggered, as the peers' rings are, so that a bell
/// need not be read.
pub struct Sleeper(Epoll);

impl Sleeper {
    /// For the bell of `seat`.
    pub fn new(seat: &Seat) -> io::Result<Sleeper> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = seat
            .bells()
            .descriptor(seat.no())
            .ok_or(io::ErrorKind::Unsupported)?;
        epoll.add(
            bell,
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0),
        )?;
        Ok(Sleeper(epoll))
    }

    /// Returns when something came in, perhaps before.
    pub fn sleep(&self, seat: &Seat) -> io::Result<()> {
        if !seat.doze() {
            return Ok(());
        }
        let waited = self.0.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE);
        seat.wake();
        match waited {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }
}

/// Binds the calling thread to one processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// The calling thread on one processor, until it is dropped.
pub struct Pinned(CpuSet);

impl Pinned {
    /// Binds the calling thread.
    pub fn to(cpu: usize) -> io::Result<Pinned> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        pin(cpu)?;
        Ok(Pinned(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// Two processors for the two halves: the first two that we may use, or one twice.
pub fn two_cpus() -> (usize, usize) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let first = cpus.next().unwrap_or(0);
    (first, cpus.next().unwrap_or(first))
}

/// The word by which a role says that it is at work, on the descriptor that [`READY_FD`] names.
const READY: &[u8] = b"ready\n";

/// This program in a role; killed when dropped.
pub struct Played(Child);

impl Played {
    /// Starts it and waits until it is ready. `inherited` stay open in it under their numbers.
    pub fn start(arguments: &[String], inherited: &[BorrowedFd<'_>]) -> Result<Played, Trouble> {
        let what = format!("role {}", arguments[0]);
        Played::launch(arguments, inherited).map_err(Trouble::failed(&what))
    }

    fn launch(arguments: &[String], inherited: &[BorrowedFd<'_>]) -> io::Result<Played> {
        let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let mut kept = inherited.to_vec();
        kept.push(theirs.as_fd());
        keep_on_exec(&kept, true)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("role")
            .args(arguments)
            .env(READY_FD, number_of(&theirs))
            .stdin(Stdio::null())
            .spawn();
        keep_on_exec(&kept, false)?;
        drop(theirs);
        let played = Played(child?);
        let mut word = Vec::new();
        File::from(ours)
            .take(READY.len() as u64)
            .read_to_end(&mut word)?;
        match word == READY {
            true => Ok(played),
            false => Err(io::Error::other("it ended before it was ready")),
        }
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn keep_on_exec(fds: &[BorrowedFd<'_>], keep: bool) -> io::Result<()> {
    let flags = if keep {
        FdFlag::empty()
    } else {
        FdFlag::FD_CLOEXEC
    };
    for fd in fds {
        fcntl(fd, FcntlArg::F_SETFD(flags))?;
    }
    Ok(())
}

/// Numbers of descriptors, as a role's arguments name them.
pub fn number_of(fd: &impl AsRawFd) -> String {
    fd.as_raw_fd().to_string()
}
