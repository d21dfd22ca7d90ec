//! Jobs, step by step: what is begun, what it waits for, who is told.

use super::SupervisorError;
use super::control::{self, Event, ProcessState};
use super::job::{self, Audience, Job, Step, Then};
use super::watch::Supervisor;
use tracing::info;

impl Supervisor {
    /// Does as many steps as can be done without waiting.
    pub(super) fn drive(&mut self) {
        while let Some(job) = self.jobs.front_mut() {
            if let Some(step) = job.current {
                if !self.is_done(step) {
                    return;
                }
                self.step_done(step);
            } else if let Some(step) = job.steps.pop_front() {
                job.current = Some(step);
                self.begin(step);
            } else {
                self.conclude();
            }
        }
    }

    fn is_done(&self, step: Step) -> bool {
        match step {
            Step::Start(index) => self.children[index].state == ProcessState::Running,
            Step::Stop(index) => !self.children[index].is_living(),
        }
    }

    fn begin(&mut self, step: Step) {
        let (Step::Start(index) | Step::Stop(index)) = step;
        let child = &mut self.children[index];
        let roles = child.plan.roles.clone();
        match step {
            Step::Start(_) if child.state == ProcessState::Running => {
                for role in roles {
                    let text = format!("{role} runs already");
                    self.tell_audience(&Event::Note { text });
                }
                self.next_step();
            }
            Step::Start(_) => {
                self.tell_audience(&Event::Starting { roles });
                // One that was about to be started again anyway need not be started twice.
                if !self.children[index].is_living() {
                    self.launch(index);
                }
            }
            Step::Stop(_) if !child.is_living() => {
                child.enter(ProcessState::Stopped, None);
                self.tell_audience(&Event::NotRunning { roles });
                self.next_step();
            }
            Step::Stop(_) => {
                let asked = child.ask_to_stop();
                self.tell_audience(&Event::Stopping { roles });
                if let Err(e) = asked {
                    self.step_failed(format!("it can't be stopped: {e}"));
                }
            }
        }
    }

    fn step_done(&mut self, step: Step) {
        let (Step::Start(index) | Step::Stop(index)) = step;
        let roles = self.children[index].plan.roles.clone();
        self.tell_audience(&match step {
            Step::Start(_) => Event::Started { roles },
            Step::Stop(_) if self.children[index].was_killed() => Event::Killed { roles },
            Step::Stop(_) => Event::Stopped { roles },
        });
        self.next_step();
    }

    fn next_step(&mut self) {
        if let Some(job) = self.jobs.front_mut() {
            job.current = None;
        }
    }

    /// The step under way failed: the rest of the job is dropped, except that whoever stops
    /// everything for good stops what can be stopped.
    pub(super) fn step_failed(&mut self, reason: String) {
        let Some(job) = self.jobs.front_mut() else {
            return;
        };
        let Some(Step::Start(index) | Step::Stop(index)) = job.current.take() else {
            return;
        };
        let roles = self.children[index].plan.roles.clone();
        job.failure = Some(format!("{}: {reason}", roles.join(", ")));
        if !matches!(job.then, Then::EndAnyway | Then::GiveUp) {
            job.steps.clear();
        }
        self.tell_audience(&Event::Failed { roles, reason });
    }

    fn conclude(&mut self) {
        let Some(job) = self.jobs.pop_front() else {
            return;
        };
        match (job.then, &job.failure) {
            (Then::Up, None) => {
                self.tell(Audience::Starter, &Event::Done);
                self.options.progress = Box::new(|_| {});
                info!("the node is up");
            }
            (Then::Up, Some(_)) => {
                let steps = job::stop_all(0..self.children.len());
                let mut stop = Job::new(steps, Audience::Starter, Then::GiveUp);
                stop.failure = job.failure;
                self.jobs.push_front(stop);
            }
            (Then::GiveUp, _) => {
                self.tell(job.audience, &job.verdict());
                self.end = Some(Err(SupervisorError::Failed));
            }
            (Then::EndAnyway, _) | (Then::End, None) => {
                self.tell(job.audience, &job.verdict());
                self.end = Some(Ok(()));
            }
            (Then::End, Some(_)) | (Then::GoOn, _) => self.dismiss(job.audience, &job.verdict()),
        }
    }

    /// Tells the audience of the job under way.
    fn tell_audience(&mut self, event: &Event) {
        if let Some(audience) = self.jobs.front().map(|job| job.audience) {
            self.tell(audience, event);
        }
    }

    pub(super) fn tell(&mut self, audience: Audience, event: &Event) {
        match audience {
            Audience::Nobody => {}
            Audience::Starter => (self.options.progress)(event),
            Audience::Guest(id) => {
                let Some(guest) = self.guests.get(&id) else {
                    return;
                };
                // A guest that left or does not listen misses the rest; the job goes on.
                if control::send(&guest.stream, event).is_err() {
                    self.guests.remove(&id);
                }
            }
        }
    }

    pub(super) fn dismiss(&mut self, audience: Audience, event: &Event) {
        self.tell(audience, event);
        if let Audience::Guest(id) = audience {
            self.guests.remove(&id);
        }
    }
}
