//! What is to be started and stopped, in which order, and who is told.

use super::control::{Event, Request};
use super::launch::Plan;
use std::collections::VecDeque;
use std::ops::Range;

/// One step of a job: a process by its index in the plans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Start it and wait until it serves.
    Start(usize),
    /// Stop it and wait until it is over.
    Stop(usize),
}

/// Who is told what happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audience {
    /// Whoever started the supervisor.
    Starter,
    /// The connection of this number.
    Guest(u64),
    /// Nobody: a signal asked for it.
    Nobody,
}

/// What follows the last step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// The supervisor goes on.
    GoOn,
    /// The node is up for the first time; if it is not, everything is stopped.
    Up,
    /// The supervisor ends, if everything has.
    End,
    /// The supervisor ends in any case.
    EndAnyway,
    /// The supervisor ends because the node did not come up.
    GiveUp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Job {
    pub(super) steps: VecDeque<Step>,
    /// The step under way.
    pub(super) current: Option<Step>,
    pub(super) audience: Audience,
    pub(super) then: Then,
    /// What does not end when it is stopped is killed.
    pub(super) force: bool,
    /// Why it can't be done, once a step failed.
    pub(super) failure: Option<String>,
}

impl Job {
    pub(super) fn new(steps: Vec<Step>, audience: Audience, then: Then) -> Job {
        Job {
            steps: steps.into(),
            current: None,
            audience,
            then,
            force: false,
            failure: None,
        }
    }

    /// The job that a request asks for; Err: there is no such role.
    pub(super) fn of(request: &Request, plans: &[&Plan], guest: u64) -> Result<Job, String> {
        let (Request::Stop { role, .. } | Request::Restart { role } | Request::Start { role }) =
            request
        else {
            return Ok(Job::new(Vec::new(), Audience::Guest(guest), Then::GoOn));
        };
        let range = match role {
            None => 0..plans.len(),
            Some(role) => {
                let index = find(plans, role)?;
                index..index + 1
            }
        };
        let steps = match request {
            Request::Stop { .. } => stop_all(range),
            Request::Restart { .. } => restart_all(range),
            Request::Start { .. } | Request::Status => start_all(range),
        };
        let then = match request {
            Request::Stop { role: None, .. } => Then::End,
            _ => Then::GoOn,
        };
        Ok(Job {
            force: matches!(request, Request::Stop { force: true, .. }),
            ..Job::new(steps, Audience::Guest(guest), then)
        })
    }

    /// The last word to the audience.
    pub(super) fn verdict(&self) -> Event {
        match &self.failure {
            None => Event::Done,
            Some(text) => Event::Error { text: text.clone() },
        }
    }
}

/// The process in which a role lives.
pub(super) fn find(plans: &[&Plan], role: &str) -> Result<usize, String> {
    plans
        .iter()
        .position(|plan| plan.roles.iter().any(|r| r == role))
        .ok_or_else(|| format!("there is no role {role} in this configuration"))
}

pub(super) fn start_all(range: Range<usize>) -> Vec<Step> {
    range.map(Step::Start).collect()
}

/// The last started first.
pub(super) fn stop_all(range: Range<usize>) -> Vec<Step> {
    range.rev().map(Step::Stop).collect()
}

fn restart_all(range: Range<usize>) -> Vec<Step> {
    let mut steps = stop_all(range.clone());
    steps.extend(start_all(range));
    steps
}
