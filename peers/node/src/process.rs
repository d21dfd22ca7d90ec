//! A peer process: joins the segment, drains, recovers, serves, stops.
//!
//! The order of a start, and why: privileges first, so that everything made later belongs to the
//! node's user; the pid files, so that a second instance fails before it touches anything; the
//! signals, blocked before any thread exists; the segment; then for each role its seat and its
//! driver, whose drain lock proves that nothing of a dead predecessor can land any more; then, if
//! asked for, the sandbox; then other threads, recovery, and only then requests.
//!
//! The order of an end: no new request; what is under way is finished; locks are given back; the
//! ring ends; the pid files go last, because "gone" is what the tools wait for.

use crate::engine::Engine;
use crate::pidfile::PidFile;
use crate::roles::{self, Purpose};
use crate::sandbox::{Confined, Sandbox};
use config::Role;
use config::paths::Places;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use runtime::Desk;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use xseg::Seat;
use xseg::join::{Connection, Kind};

/// The variable that names the descriptor on which a child says that it serves.
pub const READY_FD: &str = "ARCHIPELAGO_READY_FD";

/// What a process is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the segment's holder listens.
    pub socket: PathBuf,
    /// Where pid files and drain locks are, and what outlives a reboot.
    pub places: Places,
    /// Its roles, in the order of their start.
    pub roles: Vec<Role>,
    /// User and group to become, where they are others.
    pub uid: Option<u32>,
    /// See `uid`.
    pub gid: Option<u32>,
    /// Whether it is confined before it serves.
    pub sandbox: bool,
}

/// Why a process can't start, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct StartError {
    /// What was attempted, on what, and why it failed.
    pub sentence: String,
}

pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    move |why| StartError {
        sentence: format!("{what}: {why}"),
    }
}

/// Runs the process to its end. `confined` is called once, when threads may be started.
pub fn run(plan: &Plan, confined: impl FnOnce() -> std::io::Result<()>) -> Result<(), StartError> {
    become_user(plan.uid, plan.gid)?;
    let run_dir = &plan.places.run_dir;
    std::fs::create_dir_all(run_dir)
        .map_err(failed(format!("can't make {}", run_dir.display())))?;
    let pid_files = plan
        .roles
        .iter()
        .map(|role| PidFile::create(pid_path(plan, role)))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed("can't make the pid file"))?;
    let stop = stop_signals().map_err(failed("can't watch for signals"))?;
    let mut engine = Engine::new(Some(stop)).map_err(failed("can't start the reactor"))?;
    engine.cap_spins(threshold(&plan.roles));
    let sandbox = plan.sandbox.then(|| Sandbox::of(plan));
    confine(sandbox.as_ref(), Sandbox::before_roles)?;
    let connection = join(plan, &mut engine)?;
    confine(sandbox.as_ref(), Sandbox::before_serving)?;
    confined().map_err(failed("can't start a thread"))?;
    engine.keep(connection);
    engine.run(say_ready).map_err(failed("it serves no more"))?;
    drop(engine);
    drop(pid_files);
    Ok(())
}

fn confine(
    sandbox: Option<&Sandbox>,
    moment: impl FnOnce(&Sandbox) -> std::io::Result<Option<Confined>>,
) -> Result<(), StartError> {
    let confined = sandbox.map(moment).transpose();
    if let Some(confined) = confined.map_err(failed("SANDBOX"))?.flatten() {
        confined.tell();
    }
    Ok(())
}

/// The roles of a process wait together: the largest `threshold` counts.
fn threshold(roles: &[Role]) -> u32 {
    roles.iter().map(|role| role.threshold).max().unwrap_or(0)
}

fn pid_path(plan: &Plan, role: &Role) -> PathBuf {
    role.pidfile
        .clone()
        .unwrap_or_else(|| plan.places.run_dir.join(format!("{}.pid", role.name)))
}

/// Takes the seats of all roles, and adds their peers.
fn join(plan: &Plan, engine: &mut Engine) -> Result<Connection, StartError> {
    let mut connection: Option<Connection> = None;
    for role in &plan.roles {
        let kind = Kind::Peer {
            role: &role.name,
            first: role.ports.start().0,
            last: role.ports.end().0,
        };
        let seat = match &mut connection {
            Some(connection) => connection.join_more(kind),
            None => xseg::join::connect(&plan.socket, kind).map(|joined| {
                connection = Some(joined.connection);
                joined.seat
            }),
        }
        .map_err(|e| StartError {
            sentence: format!("{}: {e}", role.name),
        })?;
        seat_role(engine, role, seat, &plan.places, Purpose::Serve)?;
    }
    connection.ok_or_else(|| StartError {
        sentence: "a process needs a role".into(),
    })
}

/// Makes the peer of `role` and binds its ports: from here on requests queue up for it.
pub(crate) fn seat_role(
    engine: &mut Engine,
    role: &Role,
    seat: Seat,
    places: &Places,
    purpose: Purpose,
) -> Result<(), StartError> {
    let desk = Desk::new(seat);
    let peer = roles::make(role, desk.clone(), engine.reactor(), places, purpose);
    let peer = peer.map_err(|e| StartError {
        sentence: e.to_string(),
    })?;
    let (first, last) = (role.ports.start().0, role.ports.end().0);
    engine.add(desk.clone(), peer);
    if !desk.with_seat(|seat| seat.bind(first, last)) {
        let sentence = format!("{}: the segment has no ports {first} to {last}", role.name);
        return Err(StartError { sentence });
    }
    Ok(())
}

pub(crate) fn become_user(uid: Option<u32>, gid: Option<u32>) -> Result<(), StartError> {
    use nix::unistd::{Gid, Uid, User, getgid, getuid, initgroups, setgid, setuid};
    let uid = uid.map(Uid::from_raw).filter(|&uid| uid != getuid());
    let user = uid.and_then(|uid| User::from_uid(uid).ok().flatten());
    let gid = gid
        .map(Gid::from_raw)
        .or(user.as_ref().map(|u| u.gid))
        .filter(|&g| g != getgid());
    let change = || -> nix::Result<()> {
        if let Some(gid) = gid {
            setgid(gid)?;
        }
        if let Some(user) = &user {
            let name =
                std::ffi::CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
            initgroups(&name, gid.unwrap_or(user.gid))?;
        }
        uid.map_or(Ok(()), setuid)
    };
    change().map_err(|e| failed("can't become the node's user")(e.into()))
}

/// Goes to the background: the caller's process ends with success once this one serves, or with
/// failure when it can't start.
pub fn daemonize() -> Result<(), StartError> {
    use nix::unistd::{ForkResult, fork, pipe, setsid};
    let (reader, writer) = pipe().map_err(|e| failed("can't make a pipe")(e.into()))?;
    // SAFETY: no thread exists yet, so the child may go on as the parent would.
    match unsafe { fork() }.map_err(|e| failed("can't fork")(e.into()))? {
        ForkResult::Parent { .. } => {
            drop(writer);
            let mut said = String::new();
            let heard = std::io::Read::read_to_string(&mut std::fs::File::from(reader), &mut said);
            std::process::exit(if heard.is_ok() && said == "ready\n" {
                0
            } else {
                255
            });
        }
        ForkResult::Child => {
            drop(reader);
            // It can only fail for a group's leader, which a new child is not.
            let _ = setsid();
            READY_PIPE.set(writer).map_err(|_| StartError {
                sentence: "daemonized twice".into(),
            })
        }
    }
}

/// Where a daemon tells the process that started it.
static READY_PIPE: std::sync::OnceLock<OwnedFd> = std::sync::OnceLock::new();

/// Blocks TERM, INT and QUIT in this thread and those that it will start.
pub fn block_stop_signals() -> std::io::Result<()> {
    Ok(stop_set().thread_block()?)
}

fn stop_set() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        set.add(signal);
    }
    set
}

/// TERM, INT and QUIT as a descriptor.
pub(crate) fn stop_signals() -> std::io::Result<OwnedFd> {
    block_stop_signals()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&stop_set(), flags)?.into())
}

/// Tells whoever started us.
pub(crate) fn say_ready() {
    if let Some(pipe) = READY_PIPE.get() {
        // The parent is gone: nobody wants to know.
        let _ = nix::unistd::write(pipe, b"ready\n");
        detach_output(pipe);
    }
    let fd = std::env::var(READY_FD)
        .ok()
        .and_then(|text| text.parse::<i32>().ok());
    let Some(fd) = fd.filter(|&fd| fd > 2) else {
        return;
    };
    // SAFETY: the starter passed this descriptor for us alone, and it is used once.
    let mut file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    if let Err(why) = file.write_all(b"ready\n") {
        tracing::warn!(%why, "nobody hears that we serve");
    }
}

/// A daemon's output has been said; what comes later goes to its log. The pipe's end is the sign
/// that its parent waits for, so standard input takes its place.
fn detach_output(pipe: &OwnedFd) {
    let Ok(null) = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
    else {
        return;
    };
    for fd in [0, 1, 2, std::os::fd::AsRawFd::as_raw_fd(pipe)] {
        // SAFETY: dup2 onto descriptors that this process owns; the pipe's number stays valid.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{NodeConfig, SampleParams};

    /// The key was read, and nothing came of it.
    #[test]
    fn the_largest_threshold_of_a_process_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = SampleParams::new(dir.path()).write().unwrap();
        let mut roles = NodeConfig::load(&file).unwrap().roles;
        assert_eq!(threshold(&roles), 1000, "the default");
        roles.iter_mut().for_each(|role| role.threshold = 0);
        assert_eq!(threshold(&roles), 0);
        roles[2].threshold = 7;
        assert_eq!(threshold(&roles), 7);
    }
}
