//! The peers' executables: from a command line to a running process.

use crate::log;
use crate::poold;
use crate::process::{self, Plan, StartError};
use config::args::{self, Executable};
use config::paths::Places;
use config::{NodeConfig, Role};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Run one process of a node: all roles whose sections name it.
#[derive(Debug, clap::Parser)]
#[command(name = "archip-node", version)]
pub struct ProcessArguments {
    /// The node's configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Which process
    #[arg(long, value_name = "NAME")]
    pub process: String,
}

/// What a failed start exits with, as the original's peers (spec/cli.md section 4).
const FAILED: u8 = 255;

fn sentence(why: impl std::fmt::Display) -> StartError {
    StartError {
        sentence: why.to_string(),
    }
}

/// Runs one role from its own command line.
pub fn run_role(executable: Executable) -> ExitCode {
    let command = match args::parse(executable, std::env::args_os()) {
        Ok(command) => command,
        Err(usage) => usage.exit(),
    };
    finish(role_plan(command), executable.name())
}

fn role_plan(command: args::PeerCommand) -> Result<(Plan, bool), StartError> {
    let places = Places::by_default();
    let segment = command
        .generic
        .segment
        .ok_or_else(|| sentence("-g: a segment is needed"))?;
    let role = Role {
        process: None,
        ..command.role
    };
    let plan = Plan {
        socket: places.run_dir.join(format!("{}.sock", segment.name)),
        places,
        roles: vec![role],
        uid: command.generic.uid,
        gid: command.generic.gid,
        sandbox: command.generic.sandbox,
    };
    Ok((plan, command.generic.daemonize))
}

/// Runs a process of several roles from a node's configuration file.
pub fn run_process(file: &Path, name: &str) -> ExitCode {
    finish(process_plan(file, name), "archip-node")
}

fn process_plan(file: &Path, name: &str) -> Result<(Plan, bool), StartError> {
    let config = NodeConfig::load(file).map_err(sentence)?;
    let roles: Vec<Role> = config
        .processes()
        .into_iter()
        .find(|process| process.name == name)
        .map(|process| process.roles.into_iter().cloned().collect())
        .ok_or_else(|| sentence(format!("{}: there is no process {name}", file.display())))?;
    let node = &config.archipelago;
    let roles = roles
        .into_iter()
        .map(|role| with_log(role, &node.log_dir))
        .collect();
    let plan = Plan {
        socket: node
            .run_dir
            .join(format!("{}.sock", config.xseg.segment.name)),
        places: node.places(),
        roles,
        uid: Some(node.user.uid),
        gid: Some(node.group.gid),
        sandbox: node.sandbox,
    };
    Ok((plan, false))
}

fn with_log(role: Role, log_dir: &Path) -> Role {
    let logfile: PathBuf = role
        .logfile
        .clone()
        .unwrap_or_else(|| log_dir.join(format!("{}.log", role.name)));
    Role {
        logfile: Some(logfile),
        ..role
    }
}

/// Runs poold from its own command line.
pub fn run_poold() -> ExitCode {
    let executable = Executable::Poold;
    let command = match args::parse(executable, std::env::args_os()) {
        Ok(command) => command,
        Err(usage) => usage.exit(),
    };
    let daemonize = command.generic.daemonize;
    let plan = poold::Plan::new(command).ok_or_else(|| sentence("this is not poold's role"));
    let outcome = plan.and_then(|plan| {
        let signals = prepare(&plan.role, daemonize)?;
        signals.follow().map_err(sentence)?;
        poold::run(&plan)
    });
    told(outcome, executable.name())
}

/// What comes before a role's own work: umask, background, signals, log.
fn prepare(role: &Role, daemonize: bool) -> Result<log::Signals, StartError> {
    // Before any thread or file exists.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(role.umask));
    if daemonize {
        process::daemonize()?;
    }
    // Before the log's thread exists: a signal that a thread does not block would end us.
    process::block_stop_signals().map_err(sentence)?;
    log::start(role.logfile.as_deref(), role.log_level).map_err(sentence)
}

/// Runs what was planned.
fn finish(plan: Result<(Plan, bool), StartError>, name: &str) -> ExitCode {
    let outcome = plan.and_then(|(plan, daemonize)| {
        let first = plan
            .roles
            .first()
            .ok_or_else(|| sentence("a process needs a role"))?;
        let signals = prepare(first, daemonize)?;
        process::run(&plan, || signals.follow())
    });
    told(outcome, name)
}

/// Says on stderr, and in the log, why a process ends.
fn told(outcome: Result<(), StartError>, name: &str) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why}");
            tracing::error!(%why, "the process ends");
            ExitCode::from(FAILED)
        }
    }
}
