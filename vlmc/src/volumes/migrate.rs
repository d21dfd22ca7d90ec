//! migrate --all: everything that older releases left goes where new objects are made, now and not
//! when it is next used.
//!
//! In this order: the maps' files, so that a listing of them is complete; the maps themselves, their
//! names and formats; the blocks' files. Each step finds what is left of it, so an interrupted run
//! is simply run again, and several at once do no harm.
//!
//! It works through the node, as any client; while the node does not run, through one inside this
//! process. A dry run looks at files by itself, because a node that migrates moves what it is asked
//! about.

mod files;
mod maps;
mod sizes;

use super::cli::Migrate;
use crate::failure::{Failure, say, say_json};
use crate::own_node::OwnNode;
use crate::settings::Settings;
use client::Client;
use config::{NodeConfig, RoleKind};
use files::Moved;
use serde::Serialize;
use xseg::join::JoinError;

/// What became of everything.
#[derive(Debug, Default, Serialize)]
struct Report {
    dry_run: bool,
    blockers: Vec<Moved>,
    /// Maps that became version 2, or lost `archip_` from their name.
    upgraded: Vec<String>,
    /// Maps of version 0: they become version 2 when they are read by somebody who says their size.
    version_0: u64,
    left: Vec<Left>,
}

/// What stays as it is.
#[derive(Debug, Serialize)]
struct Left {
    /// The role whose storage it is in.
    role: &'static str,
    /// A path below the role's directory, or the name of a map.
    what: String,
    reason: String,
}

/// Through what the storage is reached.
enum Way {
    Node(Client),
    Own(OwnNode),
}

impl Way {
    fn client(&self) -> &Client {
        match self {
            Way::Node(client) => client,
            Way::Own(own) => &own.client,
        }
    }
}

pub(super) fn migrate(settings: &Settings, args: &Migrate) -> Result<(), Failure> {
    let sizes = args.v0_sizes.as_deref().map(sizes::read).transpose()?;
    if !args.dry_run {
        refuse_unless_told(&settings.config)?;
    }
    let way = way(settings, args.dry_run)?;
    let report = run(way.client(), args.dry_run, &sizes.unwrap_or_default());
    if let Way::Own(own) = way {
        own.stop()?;
    }
    tell(&report?, args.output.is_json())
}

/// Old nodes look at old paths only.
fn refuse_unless_told(config: &NodeConfig) -> Result<(), Failure> {
    let stays = |role: &&config::Role| matches!(&role.kind, RoleKind::FileBlocker(files) if !files.pithos_migrate);
    let names: Vec<String> = config
        .roles
        .iter()
        .filter(stays)
        .map(|role| format!("[{}]", role.name))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "pithos_migrate is not True in {} of {}: set it there, and restart the node, when no node \
         of an older release serves this storage any more, for those would not find what was moved",
        names.join(" and "),
        config.file.display()
    )))
}

fn way(settings: &Settings, dry_run: bool) -> Result<Way, Failure> {
    let is_files = |role: &config::Role| matches!(role.kind, RoleKind::FileBlocker(_));
    if dry_run && settings.config.roles.iter().any(is_files) {
        return OwnNode::to_look(settings).map(Way::Own);
    }
    match settings.connect()? {
        Ok(client) => Ok(Way::Node(client)),
        Err(JoinError::NotRunning(_)) => {
            eprintln!("Archipelago is not running: this goes without it; start it afterwards");
            OwnNode::to_serve(settings).map(Way::Own)
        }
        Err(e) => Err(Failure::new(e)),
    }
}

fn run(client: &Client, dry_run: bool, sizes: &sizes::Sizes) -> Result<Report, Failure> {
    let mut report = Report {
        dry_run,
        ..Report::default()
    };
    let ports = client.ports();
    let (maps, blocks) = (("blockerm", ports.blockerm), ("blockerb", ports.blockerb));
    let mut moved = files::migrate(client, maps, dry_run, &mut report.left)?;
    maps::upgrade(client, sizes, &mut report)?;
    if !dry_run && !report.upgraded.is_empty() {
        // Headers under old names have gone meanwhile: so do their directories now.
        report.left.retain(|left| left.role != maps.0);
        moved += files::migrate(client, maps, dry_run, &mut report.left)?;
    }
    report.blockers.push(moved);
    let moved = files::migrate(client, blocks, dry_run, &mut report.left)?;
    report.blockers.push(moved);
    Ok(report)
}

fn tell(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        say_json(report)?;
    } else {
        for line in lines(report) {
            say(line)?;
        }
    }
    match report.left.len() {
        0 => Ok(()),
        left if report.dry_run => Err(Failure::new(format!("{left} would be left"))),
        left => Err(Failure::new(format!("{left} are left"))),
    }
}

fn lines(report: &Report) -> Vec<String> {
    let (moved, upgraded) = match report.dry_run {
        false => ("moved", "upgraded"),
        true => ("to move", "to upgrade"),
    };
    let mut lines: Vec<String> = report
        .blockers
        .iter()
        .map(|one| {
            let directories = match report.dry_run {
                false => format!(", {} empty directories removed", one.directories),
                true => String::new(),
            };
            format!("{}: {} objects {moved}{directories}", one.role, one.moved)
        })
        .collect();
    lines.push(format!(
        "mapperd: {} maps {upgraded}",
        report.upgraded.len()
    ));
    if report.version_0 > 0 {
        lines.push(format!(
            "mapperd: {} maps of version 0 stay, and are upgraded when they are read",
            report.version_0
        ));
    }
    lines.extend(
        report
            .left
            .iter()
            .map(|left| format!("{}: left: {}: {}", left.role, left.what, left.reason)),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_line_by_line() {
        let mut report = Report {
            blockers: vec![Moved {
                role: "blockerm",
                moved: 2,
                directories: 5,
            }],
            upgraded: vec!["volume".into()],
            version_0: 3,
            left: vec![Left {
                role: "blockerb",
                what: "aa/bb/cc/x".into(),
                reason: "it is no regular file".into(),
            }],
            dry_run: false,
        };
        assert_eq!(
            lines(&report),
            [
                "blockerm: 2 objects moved, 5 empty directories removed",
                "mapperd: 1 maps upgraded",
                "mapperd: 3 maps of version 0 stay, and are upgraded when they are read",
                "blockerb: left: aa/bb/cc/x: it is no regular file",
            ]
        );
        report.dry_run = true;
        assert_eq!(lines(&report)[0], "blockerm: 2 objects to move");
    }
}
