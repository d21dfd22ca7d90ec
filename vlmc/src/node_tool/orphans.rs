//! Stopping peers whose supervisor is gone: by their pid files.

use super::{lines, unfinished};
use crate::failure::Failure;
use crate::settings::Settings;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use node::supervisor::control::Event;
use node::supervisor::launch::{Plan, plans};
use node::supervisor::pids::{self, Pidfd, Presence};
use node::supervisor::{STOP_WITHIN, control_socket, pid_file, segment_socket};
use std::io;
use std::os::fd::AsFd;
use xseg::join::JoinError;

/// Stops the processes of all roles, or of one, the last started first.
pub(super) fn stop(settings: &Settings, role: Option<&str>, force: bool) -> Result<(), Failure> {
    let plans = plans(&settings.config);
    let wanted = |plan: &&Plan| role.is_none_or(|role| plan.roles.iter().any(|r| r == role));
    let mut wanted = plans.iter().rev().filter(wanted).peekable();
    if wanted.peek().is_none() {
        let role = role.unwrap_or_default();
        return Err(Failure::new(format!(
            "there is no role {role} in this configuration"
        )));
    }
    wanted.try_for_each(|plan| stop_process(settings, plan, force))?;
    if role.is_none() {
        clean(settings)?;
    }
    Ok(())
}

fn stop_process(settings: &Settings, plan: &Plan, force: bool) -> Result<(), Failure> {
    let roles = plan.roles.clone();
    let found = plan.pid_files.iter().map(|file| pids::look(file));
    let Some(pid) = found.filter_map(Presence::pid).next() else {
        lines::tell(&Event::NotRunning { roles })?;
        return remove_stale(plan);
    };
    lines::tell(&Event::Stopping {
        roles: roles.clone(),
    })?;
    let first = roles.first().cloned().unwrap_or_default();
    match end(pid, force) {
        Ok(End::Itself) => lines::tell(&Event::Stopped { roles })?,
        Ok(End::Killed) => lines::tell(&Event::Killed { roles })?,
        Ok(End::Never) => {
            let reason = "it does not end".into();
            lines::tell(&Event::Failed { roles, reason })?;
            return Err(Failure::new(unfinished::sentence(settings, &first)));
        }
        Err(e) => return Err(Failure::unexpected(format!("can't stop {first}"), e)),
    }
    remove_stale(plan)
}

/// How a process ended.
enum End {
    Itself,
    Killed,
    /// It lives on after [`STOP_WITHIN`].
    Never,
}

fn end(pid: i32, force: bool) -> io::Result<End> {
    let process = match Pidfd::open(pid) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(End::Itself),
        other => other?,
    };
    if is_ended_by(&process, Signal::SIGTERM)? {
        return Ok(End::Itself);
    }
    match force && is_ended_by(&process, Signal::SIGKILL)? {
        true => Ok(End::Killed),
        false => Ok(End::Never),
    }
}

fn is_ended_by(process: &Pidfd, signal: Signal) -> io::Result<bool> {
    process.signal(signal)?;
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(STOP_WITHIN).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut fds, timeout)? > 0)
}

/// Removes what dead peers left, with a line for each.
pub(super) fn remove_stale(plan: &Plan) -> Result<(), Failure> {
    for file in &plan.pid_files {
        let path = file.display();
        let removed = pids::remove_stale(file, None)
            .map_err(|e| Failure::unexpected(format!("can't remove {path}"), e))?;
        if removed {
            let text = format!("Removed the stale pid file {path}");
            lines::tell(&Event::Note { text })?;
        }
    }
    Ok(())
}

/// Removes what a dead supervisor left; the segment's socket only if nobody holds it.
fn clean(settings: &Settings) -> Result<(), Failure> {
    let run_dir = settings.run_dir();
    let segment = segment_socket(&settings.config);
    let mut files = vec![control_socket(run_dir), pid_file(run_dir)];
    if matches!(xseg::join::observe(&segment), Err(JoinError::NotRunning(_))) {
        files.push(segment);
    }
    for file in files {
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::unexpected(
                    format!("can't remove {}", file.display()),
                    e,
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
