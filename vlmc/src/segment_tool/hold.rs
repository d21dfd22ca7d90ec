//! The small process that holds a segment made by `xseg SPEC create`, until `destroy` ends it.
//!
//! Peers that run on their own need somebody who hands the segment out and notices who is dead.
//! Under `archipelago` that is the supervisor; here it is this, and nothing more.

use super::Place;
use crate::failure::Failure;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use node::supervisor::pids::{self, Pidfd, Presence};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use xseg::RegionSpec;
use xseg::join::{Holder, HolderSpec};

/// The hidden command that makes this program the holder.
pub(super) const WORD: &str = "hold";
const READY: &str = "ready\n";
/// How long a holder may take to end.
const END_WITHIN: PollTimeout = PollTimeout::MAX;

/// Starts a holder and waits until it holds.
pub(super) fn start(place: &Place) -> io::Result<()> {
    fs::create_dir_all(&place.run_dir)?;
    let mut holder = Command::new(std::env::current_exe()?)
        .arg(place.spec.to_string())
        .arg(WORD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = &mut holder.stdout {
        stdout.read_to_string(&mut said)?;
    }
    match said.as_str() {
        READY => Ok(()),
        why => Err(io::Error::other(why.trim().to_owned())),
    }
}

/// Ends the holder; false: there is none that `create` started.
pub(super) fn end(place: &Place) -> io::Result<bool> {
    let file = place.pid_file();
    let Presence::Running(pid) = look(place) else {
        pids::remove_stale(&file, None)?;
        return Ok(false);
    };
    let process = Pidfd::open(pid)?;
    process.signal(Signal::SIGTERM)?;
    poll(
        &mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)],
        END_WITHIN,
    )?;
    Ok(true)
}

/// Our name is `xseg`, which [`pids::look`] does not count among the peers.
fn look(place: &Place) -> Presence {
    let pid = fs::read_to_string(place.pid_file())
        .ok()
        .and_then(|t| t.trim().parse().ok());
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm"));
    match pid {
        Some(pid) if name(pid).is_ok_and(|name| name.trim_end() == "xseg") => {
            Presence::Running(pid)
        }
        pid => Presence::Stale(pid),
    }
}

/// The holder. What goes wrong before it holds is said on standard output, to [`start`].
pub(super) fn hold(place: &Place) -> Result<(), Failure> {
    let held = take(place);
    let said = match &held {
        Ok(_) => READY.to_owned(),
        Err(e) => e.to_string(),
    };
    let told = |e| Failure::unexpected("can't hold the segment", e);
    io::stdout().write_all(said.as_bytes()).map_err(told)?;
    let (holder, signals) = held.map_err(told)?;
    let null = fs::File::options()
        .write(true)
        .open("/dev/null")
        .map_err(told)?;
    nix::unistd::dup2_stdout(null).map_err(|e| told(e.into()))?;
    let ended = serve(holder, &signals);
    // Gone already is as good.
    let _ = fs::remove_file(place.pid_file());
    ended.map_err(told)
}

fn take(place: &Place) -> io::Result<(Holder, SignalFd)> {
    // Already a leader of its own session is as good.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/")?;
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let spec = &place.spec;
    let holder = Holder::new(HolderSpec {
        region: RegionSpec::public(spec.ports, spec.dynports, spec.size_mib),
        socket: place.socket(),
        umask: 0o007,
        group: None,
        generation: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| t.as_nanos() as u64),
        adopt_within: None,
    })
    .map_err(io::Error::other)?;
    fs::write(place.pid_file(), std::process::id().to_string())?;
    Ok((holder, signals))
}

fn serve(mut holder: Holder, signals: &SignalFd) -> io::Result<()> {
    loop {
        let patience = holder.patience().map(|p| p.as_micros().div_ceil(1000));
        let timeout = patience.map_or(PollTimeout::NONE, |ms| {
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(holder.descriptor(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        if signals.read_signal()?.is_some() {
            return Ok(());
        }
        holder.turn()?;
    }
}
