//! `vlmc`: volumes.
//!
//! - `cli`: the command line, from which help, man page and completions are made
//! - `names`: the name rules of the tool
//! - `manage`: create, snapshot, clone, remove, rename, resize, open, close, lock, hash
//! - `show`: info, status, list, who holds a lock
//! - `devices`: map, unmap, showmapped
//! - `import`, `export`: whole volumes from and to files; `transfer`: what both need
//! - `check`: what is wrong, and what of it can be mended
//! - `blocks`, `why`: the objects that a map names; what is at fault when something fails
//! - `migrate`: everything leaves the places and formats of older releases

mod blocks;
mod check;
mod cli;
mod devices;
mod export;
mod import;
mod manage;
mod migrate;
mod names;
mod show;
mod transfer;
mod unlock;
mod why;

use crate::arguments::parse;
use crate::failure::{self, Failure};
use crate::settings::Settings;
use clap::CommandFactory;
use cli::{Cli, Command};
use std::ffi::OsString;
use std::process::ExitCode;

/// The original's options with one dash and more than one letter.
const SINGLE_DASH: &[(&str, &str)] = &[("-v0", "--assume_v0"), ("-ro", "--readonly")];

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the tool with these arguments, the first of which is its own name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    failure::exit(run(parse(args, SINGLE_DASH)))
}

fn run(cli: Cli) -> Result<(), Failure> {
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut command(), "vlmc", &mut std::io::stdout());
        return Ok(());
    }
    let settings = Settings::load(&cli.node.config)?;
    match cli.command {
        Command::Create(args) => manage::create(&settings, &args),
        Command::Snapshot(args) => manage::snapshot(&settings, &args),
        Command::Clone(args) => manage::clone(&settings, &args),
        Command::Remove(args) | Command::Rm(args) => manage::remove(&settings, &args),
        Command::Rename(args) => manage::rename(&settings, &args),
        Command::Resize(args) => manage::resize(&settings, &args),
        Command::Open(args) => manage::open(&settings, &args),
        Command::Close(args) => manage::close(&settings, &args),
        Command::Hash(args) => manage::hash(&settings, &args),
        Command::Lock(args) if args.show => show::lock(&settings, &args),
        Command::Lock(args) => manage::lock(&settings, &args),
        Command::Unlock(args) => unlock::unlock(&settings, &args),
        Command::Info(args) => show::info(&settings, &args),
        Command::Status(args) => show::status(&settings, &args),
        Command::List(args) | Command::Ls(args) => show::list(&settings, &args),
        Command::Map(args) => devices::map(&settings, &args),
        Command::Unmap(args) => devices::unmap(&settings, &args),
        Command::Showmapped(args) => devices::showmapped(&settings, &args),
        Command::Import(args) => import::import(&settings, &args),
        Command::Export(args) => export::export(&settings, &args),
        Command::Check(args) => check::check(&settings, &args),
        Command::Migrate(args) => migrate::migrate(&settings, &args),
        Command::Completions { .. } => Ok(()),
    }
}
