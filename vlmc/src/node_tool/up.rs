//! start: stale files away, a supervisor, the peers, and frozen volumes thawed.

use super::{cli, down, lines, notify, orphans};
use crate::failure::Failure;
use crate::mapped::{self, Verb};
use crate::settings::Settings;
use crate::term::complain;
use node::supervisor::control::{self, AskError, Event, ProcessState, Request};
use node::supervisor::launch::{Plan, plans};
use node::supervisor::pids::{self, Presence};
use node::supervisor::{
    Options, Supervisor, SupervisorError, control_socket, log_file, make_directories, open_log,
};
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const RUNNING: &str = "Cannot start. Try stopping first";

pub(super) fn start(settings: &Settings, args: &cli::Start) -> Result<(), Failure> {
    if let Some(role) = &args.role {
        return start_role(settings, role);
    }
    let supervisor = control::status(&control_socket(settings.run_dir()));
    if let Ok(status) = &supervisor
        && status
            .processes
            .iter()
            .any(|p| p.state != ProcessState::Stopped)
    {
        return Err(Failure::new(RUNNING));
    }
    lines::banner("Starting archipelago")?;
    make_directories(&settings.config).map_err(sentence)?;
    if supervisor.is_ok() {
        let all = Request::Start { role: None };
        down::tell_supervisor(settings, &all).map_err(Failure::new)?;
        return thaw(settings);
    }
    for plan in plans(&settings.config) {
        orphans::remove_stale(&plan)?;
    }
    if args.foreground {
        return foreground(settings);
    }
    spawn(settings, None)?;
    thaw(settings)
}

/// The peers are up: devices that a `stop -f` froze go on.
fn thaw(settings: &Settings) -> Result<(), Failure> {
    let mapped = mapped::all(settings.run_dir())?;
    let frozen = mapped.iter().filter(|m| m.is_frozen() || m.is_freezing());
    let mut first = Ok(());
    // One that can't go on (another node holds its volume) does not stop the others.
    for failed in frozen.filter_map(|m| down::order(m, Verb::Thaw, "Thawing").err()) {
        first = first.and(Err(failed));
    }
    first
}

fn start_role(settings: &Settings, role: &str) -> Result<(), Failure> {
    let plans = plans(&settings.config);
    let plan = plans
        .iter()
        .find(|plan| plan.roles.iter().any(|r| r == role));
    let Some(plan) = plan else {
        return Err(Failure::new(format!(
            "there is no role {role} in this configuration"
        )));
    };
    if is_running(plan) {
        return Err(Failure::new(format!(
            "Cannot start peer {role}. Peer already running"
        )));
    }
    orphans::remove_stale(plan)?;
    let request = Request::Start {
        role: Some(role.to_owned()),
    };
    match down::tell_supervisor(settings, &request) {
        Err(AskError::NotRunning(_)) => {
            make_directories(&settings.config).map_err(sentence)?;
            spawn(settings, Some(role))
        }
        other => other.map_err(Failure::new),
    }
}

fn is_running(plan: &Plan) -> bool {
    plan.pid_files
        .iter()
        .any(|file| matches!(pids::look(file), Presence::Running(_)))
}

pub(super) fn restart_role(settings: &Settings, role: &str) -> Result<(), Failure> {
    let request = Request::Restart {
        role: Some(role.to_owned()),
    };
    match down::tell_supervisor(settings, &request) {
        Err(AskError::NotRunning(_)) => start_role(settings, role),
        other => other.map_err(Failure::new),
    }
}

/// An error and what caused it, as one sentence.
fn sentence(error: SupervisorError) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    Failure::new(text)
}

/// Starts a supervisor that stays behind, and prints what it does until the node is up.
fn spawn(settings: &Settings, only: Option<&str>) -> Result<(), Failure> {
    let unexpected = |e| Failure::unexpected("can't start the supervisor", e);
    let log_path = log_file(&settings.config.archipelago.log_dir);
    let log = settings
        .shared_file(&log_path)
        .map_err(unwritable(&log_path))?;
    let mut command = Command::new(std::env::current_exe().map_err(unexpected)?);
    command
        .arg("--config")
        .arg(&settings.config.file)
        .arg("supervise");
    if let Some(role) = only {
        command.arg("--only").arg(role);
    }
    let mut supervisor = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(unexpected)?;
    let events = supervisor.stdout.take().into_iter().map(BufReader::new);
    for line in events.flat_map(BufRead::lines) {
        match control::parse(&line.map_err(unexpected)?).map_err(Failure::new)? {
            Event::Done => return Ok(()),
            Event::Error { text } => {
                // Until it is gone, so that the next start finds nothing of it.
                supervisor.wait().map_err(unexpected)?;
                return Err(Failure::new(text));
            }
            event => lines::tell(&event)?,
        }
    }
    Err(Failure::new(format!(
        "the supervisor ended early; see {}",
        log_path.display()
    )))
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |e| Failure::unexpected(format!("can't write {}", path.display()), e)
}

/// The supervisor itself, behind [`spawn`]: standard output takes its events until the node is
/// up, standard error is its log.
pub(super) fn supervise(config: &Path, args: &cli::Supervise) -> Result<(), Failure> {
    let told = |event: &Event| {
        // The starter may be gone; the node starts all the same.
        let _ = control::send(std::io::stdout(), event);
    };
    let run = || -> Result<(), Failure> {
        // Already a leader of its own session is as good.
        let _ = nix::unistd::setsid();
        std::env::set_current_dir("/").map_err(|e| Failure::unexpected("can't go to /", e))?;
        let settings = Settings::load(config)?;
        let log = log_file(&settings.config.archipelago.log_dir);
        let log = open_log(&log).map_err(unwritable(&log))?;
        let options = Options {
            only: args.only.clone(),
            progress: Box::new(move |event| {
                told(event);
                if *event == Event::Done {
                    let_go_of_stdout();
                }
            }),
            log: Some(log),
            programs: None,
        };
        let supervisor = Supervisor::new(&settings.config, options).map_err(sentence)?;
        match supervisor.run() {
            // The progress has told it.
            Err(SupervisorError::Failed) => Ok(()),
            other => other.map_err(sentence),
        }
    };
    let ended = run();
    if let Err(failure) = &ended {
        told(&Event::Error {
            text: failure.to_string(),
        });
    }
    ended
}

/// Standard output was the starter's; whoever waits for its end must not wait for ours.
fn let_go_of_stdout() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        // Only a pipe that stays open longer than it need.
        let _ = nix::unistd::dup2_stdout(null);
    }
}

/// The supervisor as this very process, for systemd and containers.
fn foreground(settings: &Settings) -> Result<(), Failure> {
    let log = log_file(&settings.config.archipelago.log_dir);
    settings.shared_file(&log).map_err(unwritable(&log))?;
    let log = open_log(&log).map_err(unwritable(&log))?;
    let file = settings.config.file.clone();
    let options = Options {
        only: None,
        progress: Box::new(move |event| {
            // Standard output that can't be written to does not keep a node from starting.
            let _ = lines::tell(event);
            if *event == Event::Done {
                is_up(&file);
            }
        }),
        log: Some(log),
        programs: None,
    };
    let supervisor = Supervisor::new(&settings.config, options).map_err(sentence)?;
    supervisor.run().map_err(sentence)
}

/// Tells systemd, and thaws frozen devices: on a thread, for they join through this process.
fn is_up(config: &Path) {
    if let Err(e) = notify::ready() {
        complain(format_args!("can't tell systemd that the node is up: {e}"));
    }
    let config = config.to_owned();
    std::thread::spawn(move || {
        let thawed = Settings::load(&config).and_then(|settings| thaw(&settings));
        if let Err(failure) = thawed {
            complain(failure);
        }
    });
}
