//! stop: mapped volumes first, then the peers, then the segment.

use super::{cli, lines, orphans, unfinished};
use crate::failure::Failure;
use crate::mapped::{self, Presented, Verb};
use crate::settings::Settings;
use crate::term::{Colour, column, paint};
use node::supervisor::control::{AskError, Event, Request, ask};
use node::supervisor::{STOP_WITHIN, control_socket};
use std::time::{Duration, Instant};

/// How long each volume may take to freeze at least: a second is how long the endpoint waits itself.
const FREEZE_WITHIN: Duration = Duration::from_secs(2);

const MAPPED: &str = "Cannot stop archipelago. Mapped volumes exist";

pub(super) fn stop(settings: &Settings, args: &cli::Stop) -> Result<(), Failure> {
    if let Some(role) = &args.role {
        return stop_peers(settings, Some(role), args.force);
    }
    let mapped = mapped::all(settings.run_dir())?;
    if !settings.config.archipelago.blktap_enabled && !mapped.is_empty() {
        return refuse(&mapped);
    }
    lines::banner("Stoping archipelago")?;
    let live: Vec<Presented> = mapped.into_iter().filter(|m| !m.is_frozen()).collect();
    if args.unmap {
        unmap(settings, &live)?;
    } else if args.force {
        freeze(&live)?;
    } else if !live.is_empty() {
        return refuse(&live);
    }
    stop_peers(settings, None, args.force)
}

/// What its node does not answer is frozen when the node is gone, so that is not waited for.
fn freeze(mapped: &[Presented]) -> Result<(), Failure> {
    let until = Instant::now() + STOP_WITHIN;
    mapped.iter().try_for_each(|m| {
        let left = until.saturating_duration_since(Instant::now());
        let done = m.freeze(left.max(FREEZE_WITHIN));
        let end = match done {
            Ok(true) => paint("OK", Colour::Green),
            Ok(false) => paint("WAITS", Colour::Yellow),
            Err(_) => paint("FAILED", Colour::Red),
        };
        say_done("Freezing", m, &end)?;
        done.map(drop).map_err(Failure::from)
    })
}

fn refuse(mapped: &[Presented]) -> Result<(), Failure> {
    mapped::show(mapped)?;
    Err(Failure::new(MAPPED))
}

fn unmap(settings: &Settings, mapped: &[Presented]) -> Result<(), Failure> {
    for m in mapped {
        m.order(Verb::Unmap).map_err(|e| {
            Failure::new(format!("Error while umapping volume, during shutdown: {e}"))
        })?;
    }
    match mapped::all(settings.run_dir())?.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(
            "Found more mapped volumes, cannot stop Archipelago",
        )),
    }
}

/// Gives a mapped volume's process an order, and prints a line about it.
pub(super) fn order(mapped: &Presented, verb: Verb, doing: &str) -> Result<(), Failure> {
    let done = mapped.order(verb);
    let end = match done {
        Ok(()) => paint("OK", Colour::Green),
        Err(_) => paint("FAILED", Colour::Red),
    };
    say_done(doing, mapped, &end)?;
    Ok(done?)
}

fn say_done(doing: &str, mapped: &Presented, end: &str) -> Result<(), Failure> {
    let head = column(format_args!("{doing} {} ", mapped.volume));
    crate::failure::say(format_args!("{head}{end}"))
}

fn stop_peers(settings: &Settings, role: Option<&str>, force: bool) -> Result<(), Failure> {
    let request = Request::Stop {
        role: role.map(str::to_owned),
        force,
    };
    let mut stuck = None;
    let done = ask(&control_socket(settings.run_dir()), &request, |event| {
        if let Event::Failed { roles, .. } = &event {
            stuck = roles.first().cloned();
        }
        // Standard output that can't be written to does not keep a node from stopping.
        let _ = lines::tell(&event);
    });
    match (done, stuck) {
        (Err(AskError::NotRunning(_)), _) => orphans::stop(settings, role, force),
        (Err(AskError::Refused(_)), Some(role)) => {
            Err(Failure::new(unfinished::sentence(settings, &role)))
        }
        (done, _) => done.map_err(Failure::new),
    }
}

/// Asks the supervisor, and prints what it does.
pub(super) fn tell_supervisor(settings: &Settings, request: &Request) -> Result<(), AskError> {
    ask(&control_socket(settings.run_dir()), request, |event| {
        // Standard output that can't be written to does not keep a node from stopping.
        let _ = lines::tell(&event);
    })
}
