//! stop: mapped volumes first, then the peers, then the segment.

use super::{cli, lines, orphans};
use crate::failure::Failure;
use crate::mapped::{self, Presented, Verb};
use crate::settings::Settings;
use crate::term::{Colour, column, paint};
use node::supervisor::control::{AskError, Request, ask};
use node::supervisor::control_socket;

const MAPPED: &str = "Cannot stop archipelago. Mapped volumes exist";

pub(super) fn stop(settings: &Settings, args: &cli::Stop) -> Result<(), Failure> {
    if let Some(role) = &args.role {
        return stop_peers(settings, Some(role));
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
        live.iter()
            .try_for_each(|m| order(m, Verb::Freeze, "Freezing"))?;
    } else if !live.is_empty() {
        return refuse(&live);
    }
    stop_peers(settings, None)
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
    crate::failure::say(format_args!(
        "{}{end}",
        column(format_args!("{doing} {} ", mapped.volume))
    ))?;
    Ok(done?)
}

fn stop_peers(settings: &Settings, role: Option<&str>) -> Result<(), Failure> {
    let request = Request::Stop {
        role: role.map(str::to_owned),
    };
    match tell_supervisor(settings, &request) {
        Err(AskError::NotRunning(_)) => orphans::stop(settings, role),
        other => other.map_err(Failure::new),
    }
}

/// Asks the supervisor, and prints what it does.
pub(super) fn tell_supervisor(settings: &Settings, request: &Request) -> Result<(), AskError> {
    ask(&control_socket(settings.run_dir()), request, |event| {
        // Standard output that can't be written to does not keep a node from stopping.
        let _ = lines::tell(&event);
    })
}
