//! `finalize_upgrade_0.4`: the end of an upgrade from Archipelago 0.3 (`spec/cli.md` section 6).
//!
//! Every map in storage is looked at, removed ones too. One of version 1 is upgraded: `upgraded.log`
//! names it, or `failed.log` says that it was not. One of version 2 whose header lies under a name
//! that no volume may have is named in `invalid.log`. Others are nobody's business here.
//!
//! It can be stopped and run again at any time: what was upgraded is of version 2 then. So
//! `upgraded.log` grows from run to run, and the two others say what is wrong now.

use crate::arguments::NodeFile;
use crate::catalogue::{self, EVERY_OBJECT, Entry};
use crate::failure::{self, Failure, say};
use crate::own_node::OwnNode;
use crate::settings::Settings;
use clap::{CommandFactory, FromArgMatches, Parser};
use client::{Client, Hint, Name};
use indicatif::{ProgressBar, ProgressStyle};
use mapfile::tool_name::is_valid_name;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status of everything that is no success.
const STATUS_FAILED: u8 = 1;

/// Upgrade the maps that Archipelago 0.3 left, and look for headers under invalid names
///
/// To be run on one node, once every node is upgraded. It can be stopped and run again.
#[derive(Debug, Parser)]
#[command(name = "finalize_upgrade_0.4", version, infer_long_args = true)]
struct Cli {
    #[command(flatten)]
    node: NodeFile,
    /// Where upgraded.log, invalid.log and failed.log go; the current directory if not given
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    logs: PathBuf,
    /// Only count: no map is changed and no log written
    #[arg(long)]
    dry_run: bool,
}

/// The command line, for the man page.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the tool with these arguments, the first of which is its own name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::command()
        .try_get_matches_from(args)
        .and_then(|matches| Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(usage) => {
            // Standard error may be closed: then nobody wants to know.
            let _ = usage.print();
            return ExitCode::from(if usage.use_stderr() { STATUS_FAILED } else { 0 });
        }
    };
    let done = run(&cli).map_err(|why| why.with_status(STATUS_FAILED));
    let word = if done.is_ok() { "OK" } else { "Failed" };
    match say(word) {
        Ok(()) => failure::exit(done),
        Err(why) => failure::exit(Err(why)),
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let settings = Settings::load(&cli.node.config)?;
    if cli.dry_run {
        return count(&settings);
    }
    let client = settings.client()?;
    let entries = catalogue::all(&client, EVERY_OBJECT)?;
    let mut logs = Logs::open(&cli.logs)?;
    let bar = bar(entries.len());
    let mut wrong = 0;
    for entry in bar.wrap_iter(entries.iter()) {
        wrong += u64::from(!finalize(&client, entry, &mut logs)?);
    }
    bar.finish_and_clear();
    match wrong {
        0 => Ok(()),
        // What is wrong is in the logs.
        _ => Err(Failure::silent(STATUS_FAILED)),
    }
}

/// False: something is wrong with it.
fn finalize(client: &Client, entry: &Entry, logs: &mut Logs) -> Result<bool, Failure> {
    let Entry { name, object, .. } = entry;
    match verdict(entry) {
        Verdict::Fine => Ok(true),
        Verdict::Invalid => {
            logs.invalid
                .line(&format!("{name} has invalid header object {object}"))?;
            Ok(false)
        }
        Verdict::Upgrade => match upgrade(client, name) {
            Ok(()) => logs.upgraded.line(name).map(|()| true),
            Err(why) => {
                eprintln!("{name}: {why}");
                logs.failed.line(&format!("Failed to upgrade {name}"))?;
                Ok(false)
            }
        },
    }
}

/// Takes the map's lock, which upgrades it, and gives it back.
fn upgrade(client: &Client, name: &str) -> Result<(), String> {
    let target = Name::new(name.as_bytes()).ok_or("its name is too long")?;
    client
        .update(target, Hint::default())
        .map_err(|why| why.to_string())
}

/// What is to be done with a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Fine,
    Upgrade,
    Invalid,
}

fn verdict(entry: &Entry) -> Verdict {
    match entry.version {
        1 => Verdict::Upgrade,
        2 if !is_valid_name(entry.object.as_bytes()) => Verdict::Invalid,
        _ => Verdict::Fine,
    }
}

/// The dry run. Over files it looks by itself, because a node that migrates moves what it is asked
/// about; a pool has no paths to move from.
fn count(settings: &Settings) -> Result<(), Failure> {
    let is_files = |role: &config::Role| matches!(role.kind, config::RoleKind::FileBlocker(_));
    let entries = if settings.config.roles.iter().any(is_files) {
        let own = OwnNode::to_look(settings)?;
        let entries = catalogue::all(&own.client, EVERY_OBJECT);
        own.stop()?;
        entries?
    } else {
        catalogue::all(&settings.client()?, EVERY_OBJECT)?
    };
    let count = |verdict_of| entries.iter().filter(|e| verdict(e) == verdict_of).count();
    let (upgrade, invalid) = (count(Verdict::Upgrade), count(Verdict::Invalid));
    say(format_args!("{} maps", entries.len()))?;
    say(format_args!("{upgrade} to upgrade"))?;
    say(format_args!("{invalid} with an invalid header object"))
}

/// The three logs.
struct Logs {
    upgraded: Log,
    invalid: Log,
    failed: Log,
}

impl Logs {
    fn open(dir: &Path) -> Result<Logs, Failure> {
        let mut anew = OpenOptions::new();
        anew.write(true).create(true).truncate(true);
        let mut more = OpenOptions::new();
        more.append(true).create(true);
        Ok(Logs {
            upgraded: Log::open(dir.join("upgraded.log"), &more)?,
            invalid: Log::open(dir.join("invalid.log"), &anew)?,
            failed: Log::open(dir.join("failed.log"), &anew)?,
        })
    }
}

/// One of them.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn open(path: PathBuf, options: &OpenOptions) -> Result<Log, Failure> {
        match options.open(&path) {
            Ok(file) => Ok(Log { path, file }),
            Err(why) => Err(Failure::unexpected(path.display(), why)),
        }
    }

    /// At once, so that it is there after a kill.
    fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.file, "{text}").map_err(|why| Failure::unexpected(self.path.display(), why))
    }
}

fn bar(maps: usize) -> ProgressBar {
    let bar = ProgressBar::new(maps as u64).with_prefix("maps");
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_with_a_map() {
        let verdict = |object: &str, version| {
            verdict(&Entry {
                name: object.into(),
                object: object.into(),
                version,
                read_only: false,
                deleted: false,
                size: None,
            })
        };
        assert_eq!(verdict("volume", 2), Verdict::Fine);
        for object in ["volume", "archip_volume"] {
            assert_eq!(verdict(object, 1), Verdict::Upgrade);
        }
        for object in ["archip_volume", "volume_lock", "vol_0123456789abcdef_x"] {
            assert_eq!(verdict(object, 2), Verdict::Invalid);
        }
        assert_eq!(verdict(&"a".repeat(64), 0), Verdict::Fine);
    }
}
