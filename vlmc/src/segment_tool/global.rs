//! Commands on the segment. What they say goes to standard error, as the original's did; JSON
//! goes to standard output.

use super::words::Global;
use super::{Place, hold};
use crate::failure::{Failure, say_json};
use xseg::Bells;
use xseg::join::{self, JoinError, Kind, Observed};
use xseg::report::{Report, verify};

pub(super) fn run(place: &Place, command: &Global) -> Result<(), Failure> {
    match command {
        Global::Create => create(place),
        Global::Destroy => destroy(place),
        Global::Join => joined(place),
        Global::Report { json } => report(place, *json),
        Global::Signal(port) => signal(place, *port),
        Global::RecoverPort { port, force } => {
            told(join::recover_port(&place.socket(), *port, *force))
        }
        // A lock that a dead process holds does not exist here; what it can leave is looked after.
        Global::RecoverLocks => told(join::repair(&place.socket())),
        Global::Verify { fix } => check(place, *fix),
    }
}

fn create(place: &Place) -> Result<(), Failure> {
    hold::start(place).map_err(|e| Failure::new(format!("cannot create segment! {e}")))?;
    eprintln!("Segment initialized.");
    Ok(())
}

fn destroy(place: &Place) -> Result<(), Failure> {
    let failed = |why: String| Failure::new(format!("cannot destroy segment! {why}"));
    match hold::end(place) {
        Ok(true) => {
            eprintln!("Segment destroyed.");
            Ok(())
        }
        Ok(false) => Err(failed(match join::observe(&place.socket()) {
            Err(e) => e.to_string(),
            Ok(_) => "a node holds it; `archipelago stop` ends it".into(),
        })),
        Err(e) => Err(failed(e.to_string())),
    }
}

fn cannot_join(e: JoinError) -> Failure {
    Failure::new(format!("cannot join segment! {e}"))
}

fn joined(place: &Place) -> Result<(), Failure> {
    join::connect(&place.socket(), Kind::Client { name: "xseg" }).map_err(cannot_join)?;
    eprintln!("Segment joined.");
    Ok(())
}

fn observe(place: &Place) -> Result<Observed, Failure> {
    join::observe(&place.socket()).map_err(cannot_join)
}

fn report(place: &Place, json: bool) -> Result<(), Failure> {
    let seen = observe(place)?;
    let alive = |seat| seen.alive.contains(seat);
    let report = Report::new(&seen.public, seen.private.as_ref(), &alive);
    if json {
        return say_json(&report);
    }
    eprint!("{report}");
    Ok(())
}

fn signal(place: &Place, port: u32) -> Result<(), Failure> {
    let seen = observe(place)?;
    let seat = seen.public.seat_of_port(port);
    let seat = seat.ok_or_else(|| Failure::new(format!("nobody serves port {port}")))?;
    seen.bells.ring(seat);
    Ok(())
}

fn told(done: Result<String, JoinError>) -> Result<(), Failure> {
    let text = done.map_err(cannot_join)?;
    eprintln!("{text}");
    Ok(())
}

fn check(place: &Place, fix: bool) -> Result<(), Failure> {
    let seen = observe(place)?;
    let alive = |seat| seen.alive.contains(seat);
    let findings = verify(&seen.public, seen.private.as_ref(), &alive);
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => {
            eprintln!("Nothing is wrong.");
            Ok(())
        }
        _ if fix => told(join::repair(&place.socket())),
        count => Err(Failure::new(format!(
            "{count} findings; verify-fix mends them"
        ))),
    }
}
