//! Maps of older formats, and those under names of 0.3: each is upgraded by UPDATE, which takes its
//! lock for as long as that takes.

use super::sizes::Sizes;
use super::{Left, Report};
use crate::catalogue::{self, Entry};
use crate::failure::Failure;
use client::{Client, Hint, Name};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::HashSet;
use xseg::Request;
use xseg::protocol::Operation;

/// Upgrades all maps that can be; in a dry run, counts them.
pub(super) fn upgrade(client: &Client, sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    let mut entries = catalogue::all(client, 0)?;
    entries.retain(|entry| !entry.deleted);
    let new: HashSet<&str> = entries
        .iter()
        .filter(|entry| entry.object == entry.name)
        .map(|entry| entry.name.as_str())
        .collect();
    let old: Vec<&Entry> = entries.iter().filter(|entry| is_old(entry)).collect();
    let bar = bar(old.len());
    for entry in bar.wrap_iter(old.into_iter()) {
        let outcome = match plan(entry, &new, sizes) {
            Plan::Wait => {
                report.version_0 += 1;
                continue;
            }
            Plan::Upgrade(_) | Plan::Finish if report.dry_run => Ok(()),
            Plan::Upgrade(hint) => update(client, &entry.name, hint),
            Plan::Finish => finish(client, entry),
        };
        match outcome {
            Ok(()) => report.upgraded.push(entry.name.clone()),
            Err(reason) => report.left.push(Left {
                role: "mapperd",
                what: entry.object.clone(),
                reason,
            }),
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn is_old(entry: &Entry) -> bool {
    entry.version < 2 || entry.object != entry.name
}

/// What is to be done with an old map.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Upgrade(Hint),
    /// Another node is moving it to its new name, or somebody died over that.
    Finish,
    /// Until it is read by somebody who knows its size.
    Wait,
}

fn plan(entry: &Entry, new: &HashSet<&str>, sizes: &Sizes) -> Plan {
    if entry.object != entry.name && new.contains(entry.name.as_str()) {
        return Plan::Finish;
    }
    if entry.version > 0 {
        return Plan::Upgrade(Hint::default());
    }
    match sizes.get(&entry.name) {
        Some(size) => Plan::Upgrade(Hint {
            assume_v0: true,
            v0_size: Some(*size),
        }),
        None => Plan::Wait,
    }
}

/// Whoever takes the lock of a volume finishes what was begun with it. What is there under the old
/// name even then is another map.
fn finish(client: &Client, entry: &Entry) -> Result<(), String> {
    update(client, &entry.name, Hint::default())?;
    let object = Name::new(entry.object.as_bytes()).ok_or("its name is too long")?;
    let request = Request::new(Operation::Info, object);
    let call = client.call(client.ports().blockerm, request, &[], 8);
    match client.block_on(call) {
        Err(libc::ENOENT) => Ok(()),
        _ => Err(format!(
            "another map is there under its new name {}, and counts",
            entry.name
        )),
    }
}

/// Err: why not.
pub(crate) fn update(client: &Client, name: &str, hint: Hint) -> Result<(), String> {
    let target = Name::new(name.as_bytes()).ok_or("its name is too long")?;
    client.update(target, hint).map_err(|why| why.to_string())
}

fn bar(maps: usize) -> ProgressBar {
    let bar = ProgressBar::new(maps as u64).with_prefix("maps");
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(object: &str, version: u32) -> Entry {
        Entry {
            name: object.strip_prefix("archip_").unwrap_or(object).into(),
            object: object.into(),
            version,
            read_only: version == 0,
            deleted: false,
            size: None,
        }
    }

    #[test]
    fn what_becomes_of_an_old_map() {
        let new = HashSet::from(["taken"]);
        let sizes = Sizes::from([("cafe".to_owned(), 7)]);
        let plan = |object, version| plan(&entry(object, version), &new, &sizes);
        assert_eq!(plan("volume", 1), Plan::Upgrade(Hint::default()));
        assert_eq!(plan("archip_volume", 2), Plan::Upgrade(Hint::default()));
        assert_eq!(plan("archip_taken", 1), Plan::Finish);
        assert_eq!(plan("beef", 0), Plan::Wait);
        let hint = Hint {
            assume_v0: true,
            v0_size: Some(7),
        };
        assert_eq!(plan("cafe", 0), Plan::Upgrade(hint));
        assert!(is_old(&entry("archip_volume", 2)) && !is_old(&entry("volume", 2)));
    }
}
