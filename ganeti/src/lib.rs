//! Archipelago for Ganeti (`spec/ganeti.md`): the ExtStorage provider and two hooks, in one
//! program that does what the name says by which it was called.
//!
//! ```text
//!  Ganeti -- /usr/share/ganeti/extstorage/archipelago/attach --> archip-ganeti
//!                                 registry of mapped volumes <------+  |
//!                                 the node, over its segment <---------+ when that is not enough
//! ```
//! - [`mod@call`]: which scripts and hooks there are, and their help
//! - `environment`: what Ganeti says, all of it in variables
//! - `names`: which volume a disk is; `notes`: what of that is remembered
//! - `node`: the node of this host
//! - `devices`: attach and detach; `provider`: the other scripts
//! - `hooks`: the hooks; `fqdn`: whether this host is meant; `log`: what they did
//! - `failure`: what went wrong, in the words that Ganeti shows
//!
//! What always holds:
//! - Standard output belongs to what Ganeti reads: a device and URIs of `attach`, nothing of the
//!   other scripts. Everything else goes to standard error.
//! - `attach` of a mapped volume asks nobody: it reads the configuration and the registry.
//! - Nothing is believed of the environment but the variables of the contract: there is no PATH,
//!   no HOME and no language. The working directory does not matter either.

pub mod call;
mod devices;
mod environment;
mod failure;
mod fqdn;
mod hooks;
mod log;
mod names;
mod node;
mod notes;
mod provider;

pub use call::command;
pub use failure::Failure;

use call::Call;
use environment::Environment;
use failure::exit;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Exit status of a command line that was not understood (spec/cli.md section 1).
const USAGE: u8 = 2;

/// Does what the first argument, the name of the script, says.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let own = args.next().unwrap_or_default();
    let name = Path::new(&own).file_name().unwrap_or(&own).to_owned();
    match args.next() {
        Some(word) => help(&name, &word),
        None => exit(run(&name, &Environment::of_process())),
    }
}

fn help(name: &OsStr, word: &OsStr) -> ExitCode {
    let name = name.to_string_lossy();
    if Call::named(&name).is_none() && (word == "-V" || word == "--version") {
        print!("{}", command().render_version());
        return ExitCode::SUCCESS;
    }
    let usage = call::usage(&name);
    if word == "-h" || word == "--help" {
        print!("{usage}");
        return ExitCode::SUCCESS;
    }
    eprint!("{usage}");
    ExitCode::from(USAGE)
}

fn run(name: &OsStr, environment: &Environment) -> Result<(), Failure> {
    let name = name.to_string_lossy();
    let call = Call::named(&name).ok_or_else(|| Failure::Unsupported(name.into_owned()))?;
    match call {
        Call::Create => provider::create(environment),
        Call::Attach => devices::attach(environment),
        Call::Detach => devices::detach(environment),
        Call::Remove => provider::remove(environment),
        Call::Grow => provider::grow(environment),
        Call::Setinfo | Call::Verify => provider::nothing(environment),
        Call::Snapshot => provider::snapshot(environment),
        Call::Open => provider::open(environment),
        Call::Close => provider::close(environment),
        Call::OpenVolumes => hooks::run(hooks::OPEN, environment),
        Call::LockVolumes => hooks::run(hooks::LOCK, environment),
    }
}
