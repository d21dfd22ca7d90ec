//! The loop: what happened, and what follows.

use super::child::Child;
use super::control::{ProcessState, Status};
use super::guests::Guest;
use super::job::{self, Audience, Job, Step, Then};
use super::launch::{Plan, plans};
use super::log::Log;
use super::pids::{self, Presence};
use super::{ADOPT_WITHIN, Options, SupervisorError, prepare, segment_socket};
use config::NodeConfig;
use config::paths::Places;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::{error, info, warn};
use xseg::RegionSpec;
use xseg::join::{Holder, HolderError, HolderSpec, Notice};

/// Which descriptor is readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Holder,
    Signals,
    Listener,
    Guest(u64),
    Death(usize),
    Ready(usize),
}

/// A running supervisor.
pub struct Supervisor {
    places: Places,
    generation: u64,
    holder: Holder,
    pub(super) children: Vec<Child>,
    signals: SignalFd,
    pub(super) listener: UnixListener,
    pub(super) guests: BTreeMap<u64, Guest>,
    pub(super) next_guest: u64,
    pub(super) jobs: VecDeque<Job>,
    pub(super) options: Options,
    /// How it ended, once it has.
    pub(super) end: Option<Result<(), SupervisorError>>,
}

impl Supervisor {
    /// Takes the node's place: directories, the segment, the sockets. Nothing is started yet.
    pub fn new(config: &NodeConfig, options: Options) -> Result<Supervisor, SupervisorError> {
        prepare::directories(config)?;
        prepare::become_user(config)?;
        let signals = block_signals().map_err(SupervisorError::system("receive signals"))?;
        let plans = plans(config);
        let survivors: Vec<Option<i32>> = plans.iter().map(living).collect();
        let generation = now_ns();
        let spec = holder_spec(config, generation, survivors.iter().any(Option::is_some));
        let holder = Holder::new(spec).map_err(|e| match e {
            HolderError::Taken(_) => SupervisorError::Running(e.to_string()),
            e => SupervisorError::Holder(e),
        })?;
        let listener = prepare::listen(config)?;
        let places = config.archipelago.places();
        let pid_file = super::pid_file(&places.run_dir);
        fs::write(&pid_file, std::process::id().to_string())
            .map_err(SupervisorError::file("write", &pid_file))?;
        let mut supervisor = Supervisor {
            places,
            generation: holder.public().generation(),
            holder,
            children: plans.into_iter().map(Child::new).collect(),
            signals,
            listener,
            guests: BTreeMap::new(),
            next_guest: 0,
            jobs: VecDeque::new(),
            options,
            end: None,
        };
        supervisor.take_over(&survivors)?;
        supervisor.plan_first_start()?;
        Ok(supervisor)
    }

    /// Watches over the processes of a crashed predecessor. One that sits in another segment is
    /// of no use any more and is ended; its successor waits for what it still writes.
    fn take_over(&mut self, survivors: &[Option<i32>]) -> Result<(), SupervisorError> {
        let Supervisor {
            children, holder, ..
        } = self;
        for (child, pid) in children.iter_mut().zip(survivors) {
            let Some(pid) = *pid else { continue };
            let seated = child
                .plan
                .roles
                .iter()
                .all(|role| holder.role(role).is_some_and(|(_, alive)| alive));
            let adopted = child.adopt(pid).and_then(|()| match seated {
                true => Ok(()),
                false => child.kill(),
            });
            adopted.map_err(SupervisorError::system("take over a living peer"))?;
            let name = &child.plan.name;
            match seated {
                true => info!("took over {name}, process {pid}"),
                false => warn!("{name} (process {pid}) had lost its segment and was ended"),
            }
        }
        Ok(())
    }

    fn plan_first_start(&mut self) -> Result<(), SupervisorError> {
        let plans: Vec<&Plan> = self.children.iter().map(|c| &c.plan).collect();
        let range = match &self.options.only {
            None => 0..plans.len(),
            Some(role) => {
                let index = job::find(&plans, role)
                    .map_err(|_| SupervisorError::NoSuchRole(role.clone()))?;
                index..index + 1
            }
        };
        let steps = job::start_all(range);
        self.jobs
            .push_back(Job::new(steps, Audience::Starter, Then::Up));
        Ok(())
    }

    /// Runs until the node is stopped. Err: it never came up.
    pub fn run(mut self) -> Result<(), SupervisorError> {
        loop {
            self.drive();
            if let Some(end) = self.end.take() {
                self.leave();
                return end;
            }
            let sources = self
                .wait()
                .map_err(SupervisorError::system("wait for events"))?;
            self.restart_the_dead();
            for source in sources {
                self.handle(source)?;
            }
        }
    }

    // ---- waiting ----

    fn wait(&self) -> io::Result<Vec<Source>> {
        let watched = self.watched();
        let mut fds: Vec<PollFd<'_>> = watched
            .iter()
            .map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, self.patience()) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = watched.iter().zip(&fds);
        Ok(ready
            .filter(|(_, fd)| fd.revents().is_some_and(|events| !events.is_empty()))
            // The holder has deadlines of its own, so it always has its turn.
            .map(|((source, _), _)| *source)
            .filter(|source| *source != Source::Holder)
            .chain([Source::Holder])
            .collect())
    }

    fn watched(&self) -> Vec<(Source, BorrowedFd<'_>)> {
        let mut watched = vec![
            (Source::Holder, self.holder.descriptor()),
            (Source::Signals, self.signals.as_fd()),
            (Source::Listener, self.listener.as_fd()),
        ];
        let guests = self.guests.iter();
        watched.extend(guests.map(|(&id, g)| (Source::Guest(id), g.stream.as_fd())));
        for (index, child) in self.children.iter().enumerate() {
            let Some((death, ready)) = child.descriptors() else {
                continue;
            };
            watched.push((Source::Death(index), death));
            watched.extend(ready.map(|fd| (Source::Ready(index), fd)));
        }
        watched
    }

    fn patience(&self) -> PollTimeout {
        let now = Instant::now();
        let deadlines = self.children.iter().filter_map(Child::deadline);
        let waits = deadlines.map(|until| until.saturating_duration_since(now));
        let Some(wait) = waits.chain(self.holder.patience()).min() else {
            return PollTimeout::NONE;
        };
        // Rounded up, or a short wait would spin.
        PollTimeout::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    }

    fn handle(&mut self, source: Source) -> Result<(), SupervisorError> {
        match source {
            Source::Holder => self.turn_holder(),
            Source::Signals => self.obey_signals(),
            Source::Listener => {
                self.accept();
                Ok(())
            }
            Source::Guest(id) => {
                self.hear(id);
                Ok(())
            }
            Source::Ready(index) => {
                self.children[index].listen();
                Ok(())
            }
            Source::Death(index) => {
                self.mourn(index);
                Ok(())
            }
        }
    }

    fn turn_holder(&mut self) -> Result<(), SupervisorError> {
        let notices = self
            .holder
            .turn()
            .map_err(SupervisorError::system("hand out the segment"))?;
        for notice in notices {
            match notice {
                Notice::Joined { seat, name, pid } => {
                    info!("{name} (process {pid}) took seat {}", seat.0);
                }
                Notice::Died { seat, name, .. } => info!("{name} left seat {}", seat.0),
                Notice::Cleared { seat } => info!("nothing is left at seat {}", seat.0),
                Notice::Refused { text, pid } => warn!("process {pid} was not let in: {text}"),
            }
        }
        Ok(())
    }

    fn obey_signals(&mut self) -> Result<(), SupervisorError> {
        let signal = self
            .signals
            .read_signal()
            .map_err(SupervisorError::system("read a signal"))?;
        let number = signal.and_then(|s| Signal::try_from(s.ssi_signo as i32).ok());
        match number {
            Some(Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) => self.stop_for_good(),
            Some(Signal::SIGUSR1) => {
                if let Some(Err(e)) = self.options.log.as_ref().map(Log::reopen) {
                    error!("can't reopen the log: {e}");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A signal ends everything; jobs that wait for their turn are told so.
    fn stop_for_good(&mut self) {
        info!("stopping the node");
        for mut job in std::mem::take(&mut self.jobs) {
            job.failure = Some("the node is being stopped".into());
            self.tell(job.audience, &job.verdict());
        }
        let steps = job::stop_all(0..self.children.len());
        self.jobs.push_back(Job {
            force: true,
            ..Job::new(steps, Audience::Nobody, Then::EndAnyway)
        });
    }

    // ---- children ----

    fn mourn(&mut self, index: usize) {
        let child = &mut self.children[index];
        // What it said last may still be in the pipe.
        child.listen();
        let Some(death) = child.bury(self.options.log.as_ref()) else {
            return;
        };
        let name = child.plan.name.clone();
        let wanted = self.jobs.front().and_then(|j| j.current) == Some(Step::Start(index));
        if death.state == ProcessState::Stopping {
            info!("{name} has stopped");
            // It was to be started while it had not ended yet.
            if wanted {
                self.launch(index);
            }
            return;
        }
        if wanted {
            error!("{name} did not come up: {}", death.reason);
            self.step_failed(death.reason);
        } else {
            self.children[index].try_again();
            error!("{name} died and is started again: {}", death.reason);
        }
    }

    fn restart_the_dead(&mut self) {
        for index in 0..self.children.len() {
            let child = &mut self.children[index];
            if !child.is_overdue() {
                continue;
            }
            match child.state {
                ProcessState::Waiting => self.launch(index),
                ProcessState::Starting => self.overdue(index, "it does not serve after 30 s"),
                ProcessState::Stopping => self.does_not_end(index),
                ProcessState::Running | ProcessState::Stopped => {}
            }
        }
    }

    pub(super) fn launch(&mut self, index: usize) {
        let child = &mut self.children[index];
        let Err(e) = child.launch(&self.places, &self.options) else {
            return;
        };
        let reason = format!("it can't be started: {e}");
        error!("{}: {reason}", child.plan.name);
        if self.jobs.front().and_then(|j| j.current) == Some(Step::Start(index)) {
            self.children[index].enter(ProcessState::Stopped, None);
            self.step_failed(reason);
        } else {
            self.children[index].try_again();
        }
    }

    /// Whoever stops it by force has it killed, once. Its successor does again what it had under way.
    fn does_not_end(&mut self, index: usize) {
        let forced = self
            .jobs
            .front()
            .is_some_and(|job| job.force && job.current == Some(Step::Stop(index)));
        let child = &mut self.children[index];
        if !forced || child.was_killed() {
            return self.overdue(index, "it does not end");
        }
        warn!("{}: it does not end, and is killed", child.plan.name);
        if let Err(e) = child.kill() {
            self.overdue(index, &format!("it can't be killed: {e}"));
        }
    }

    /// Patience with a process is over; it is watched on, for it may come right.
    fn overdue(&mut self, index: usize, reason: &str) {
        let child = &mut self.children[index];
        child.enter(child.state, None);
        warn!("{}: {reason}", child.plan.name);
        let current = self.jobs.front().and_then(|j| j.current);
        if matches!(current, Some(Step::Start(i) | Step::Stop(i)) if i == index) {
            self.step_failed(reason.to_owned());
        }
    }

    pub(super) fn status(&self) -> Status {
        Status {
            pid: std::process::id(),
            generation: self.generation,
            processes: self.children.iter().map(Child::status).collect(),
        }
    }

    /// The last thing: files that say that we are here.
    fn leave(&self) {
        for file in [
            super::control_socket(&self.places.run_dir),
            super::pid_file(&self.places.run_dir),
        ] {
            if let Err(e) = fs::remove_file(&file) {
                warn!("can't remove {}: {e}", file.display());
            }
        }
        info!("the supervisor ends");
    }
}

/// The living process of a predecessor that plays this plan's roles.
fn living(plan: &Plan) -> Option<i32> {
    let mut found = plan.pid_files.iter().map(|file| pids::look(file));
    found.find_map(Presence::pid)
}

fn holder_spec(config: &NodeConfig, generation: u64, survivors: bool) -> HolderSpec {
    let segment = &config.xseg.segment;
    HolderSpec {
        region: RegionSpec::public(segment.ports, segment.dynports, segment.size_mib),
        socket: segment_socket(config),
        umask: config.archipelago.umask,
        group: Some(config.archipelago.group.gid),
        generation,
        adopt_within: survivors.then_some(ADOPT_WITHIN),
    }
}

fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_nanos() as u64
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}
