//! status: which roles run, and which volumes are mapped.

use super::cli;
use crate::failure::{Failure, say, say_json};
use crate::mapped::{self, Presented};
use crate::settings::Settings;
use crate::term::{Colour, column, complain, paint};
use node::supervisor::control::{self, ProcessStatus};
use node::supervisor::control_socket;
use node::supervisor::pids::{self, Presence};
use serde::Serialize;

/// Exit status when some roles run and some do not.
const SOME: u8 = 1;
/// Exit status when no role runs (LSB: "program is not running").
const NONE: u8 = 3;
/// Exit status when that can't be said.
pub(super) const UNKNOWN: u8 = 4;

#[derive(Serialize)]
struct Report {
    supervisor: Option<u32>,
    roles: Vec<RoleReport>,
    mapped: Vec<Presented>,
}

#[derive(Serialize)]
struct RoleReport {
    name: String,
    state: State,
    pid: Option<i32>,
    process: Option<String>,
    restarts: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Running,
    NotRunning,
    StalePidFile,
}

pub(super) fn status(settings: &Settings, args: &cli::Status) -> Result<(), Failure> {
    let report = look(settings)?;
    match args.output.is_json() {
        true => say_json(&report)?,
        false => print(settings, &report)?,
    }
    let running = report
        .roles
        .iter()
        .filter(|r| r.state == State::Running)
        .count();
    match running {
        0 => Err(Failure::silent(NONE)),
        all if all == report.roles.len() => Ok(()),
        _ => Err(Failure::silent(SOME)),
    }
}

fn look(settings: &Settings) -> Result<Report, Failure> {
    // Without a supervisor, or one that lets this user ask, pid files say enough.
    let supervisor = control::status(&control_socket(settings.run_dir())).ok();
    let processes = supervisor.as_ref().map_or(&[][..], |s| &s.processes);
    let roles = settings.config.roles.iter().map(|role| {
        let presence = role.pidfile.as_deref().map_or(Presence::Absent, pids::look);
        let process = processes.iter().find(|p| p.roles.contains(&role.name));
        report(&role.name, presence, process)
    });
    Ok(Report {
        supervisor: supervisor.as_ref().map(|s| s.pid),
        roles: roles.collect(),
        mapped: mapped::all(settings.run_dir())?,
    })
}

fn report(name: &str, presence: Presence, process: Option<&ProcessStatus>) -> RoleReport {
    RoleReport {
        name: name.to_owned(),
        state: match presence {
            Presence::Absent => State::NotRunning,
            Presence::Running(_) => State::Running,
            Presence::Stale(_) => State::StalePidFile,
        },
        pid: presence.pid(),
        process: process.map(|p| p.name.clone()),
        restarts: process.map(|p| p.restarts),
    }
}

fn print(settings: &Settings, report: &Report) -> Result<(), Failure> {
    let enabled = settings.config.archipelago.blktap_enabled;
    if !enabled && !report.mapped.is_empty() {
        complain("Mapped volumes exist while blktap module is disabled.");
    }
    if enabled || !report.mapped.is_empty() {
        mapped::show(&report.mapped)?;
    }
    report.roles.iter().rev().try_for_each(print_role)
}

fn print_role(role: &RoleReport) -> Result<(), Failure> {
    let (text, colour) = match role.state {
        State::Running => ("running", Colour::Green),
        State::NotRunning => ("not running", Colour::Red),
        State::StalePidFile => (
            "Has valid pidfile but does not seem to be active",
            Colour::Yellow,
        ),
    };
    let restarts = match role.restarts {
        None | Some(0) => String::new(),
        Some(1) => "restarted once".into(),
        Some(count) => format!("restarted {count} times"),
    };
    say(format_args!(
        "{}{}{restarts}",
        column(&role.name),
        paint(text, colour)
    ))
}
