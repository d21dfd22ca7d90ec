//! `archipelago`: the node as a whole.
//!
//! - `cli`: the command line
//! - `up`: start, and what remains behind as the supervisor
//! - `down`: stop; `orphans`: stopping peers whose supervisor is gone
//! - `status`: what runs
//! - `lines`: the lines that tell of it
//! - `notify`: telling systemd

mod cli;
mod down;
mod lines;
mod notify;
mod orphans;
mod status;
mod unfinished;
mod up;

use crate::arguments::parse;
use crate::failure::{self, Failure};
use crate::settings::Settings;
use clap::CommandFactory;
use cli::{Cli, Command};
use std::ffi::OsString;
use std::process::ExitCode;

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the tool with these arguments, the first of which is its own name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    failure::exit(run(&parse(args, &[])))
}

fn run(cli: &Cli) -> Result<(), Failure> {
    if let Command::Supervise(args) = &cli.command {
        return up::supervise(&cli.node.config, args);
    }
    let settings = Settings::load(&cli.node.config);
    if let Command::Status(args) = &cli.command {
        let settings = settings.map_err(|e| e.with_status(status::UNKNOWN))?;
        return status::status(&settings, args);
    }
    let settings = settings?;
    match &cli.command {
        Command::Start(args) => up::start(&settings, args),
        Command::Stop(args) => down::stop(&settings, args),
        Command::Restart(args) => restart(&settings, args.role.as_deref()),
        Command::Status(_) | Command::Supervise(_) => Ok(()),
    }
}

fn restart(settings: &Settings, role: Option<&str>) -> Result<(), Failure> {
    if let Some(role) = role {
        return up::restart_role(settings, role);
    }
    down::stop(settings, &cli::Stop::forced())?;
    up::start(settings, &cli::Start::default())
}
