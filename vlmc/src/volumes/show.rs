//! Commands that only look: info, status, list, lock --show.

use super::cli::{Listed, Lock, Shown};
use super::names::{any, existing, shown};
use super::why;
use crate::catalogue;
use crate::failure::{Failure, say, say_json};
use crate::mapped;
use crate::settings::Settings;
use serde_json::{Value, json};

pub(super) fn info(settings: &Settings, args: &Shown) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let (client, hint) = (settings.client()?, args.old.hint());
    let size =
        client
            .info(name, hint)
            .map_err(why::because(&client, (name, hint), "vlmc info failed"))?;
    let name = shown(&args.name);
    match args.output.is_json() {
        true => say_json(&json!({ "name": name, "size": size })),
        false => say(format_args!("Volume {name}: size: {size}")),
    }
}

pub(super) fn list(settings: &Settings, args: &Listed) -> Result<(), Failure> {
    let entries = catalogue::volumes(settings)?;
    if args.output.is_json() {
        return say_json(&entries);
    }
    entries.iter().try_for_each(|entry| say(&entry.name))
}

pub(super) fn lock(settings: &Settings, args: &Lock) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let failed = Failure::because("vlmc lock failed");
    let report = settings.client()?.lock_info(name).map_err(failed)?;
    let lock = parse(&report)?;
    if args.output.is_json() {
        return say_json(&lock);
    }
    let name = shown(&args.name);
    say(format_args!("Volume {name}: lock: {}", holder(&lock)))
}

fn parse(json: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(json)
        .map_err(|e| Failure::unexpected("the node's answer makes no sense", e))
}

/// Who holds a lock, in words.
pub(super) fn holder(lock: &Value) -> String {
    let Some(owner) = lock.get("owner").and_then(Value::as_str) else {
        return "nobody".into();
    };
    let mut text = owner.to_owned();
    if let Some(pid) = lock.get("pid").and_then(Value::as_u64) {
        text += &format!(", process {pid}");
    }
    if let Some(host) = lock.get("host").and_then(Value::as_str) {
        text += &format!(" on {host}");
    }
    if let Some(since) = lock.get("since").and_then(Value::as_i64) {
        text += &format!(" since {}", utc(since));
    }
    let addresses = lock.get("addresses").and_then(Value::as_array);
    let addresses: Vec<_> = addresses
        .into_iter()
        .flatten()
        .flat_map(Value::as_str)
        .collect();
    if !addresses.is_empty() {
        text += &format!(", writing from {}", addresses.join(" "));
    }
    if let Some(more) = lock.get("more_addresses").and_then(Value::as_u64) {
        text += &format!(" and {more} more");
    }
    match lock.get("alive").and_then(Value::as_bool) {
        Some(false) => text += ", which is dead",
        _ if lock.get("ours") == Some(&Value::Bool(true)) => text += ", this node",
        _ => {}
    }
    text
}

/// Seconds since 1970 as a date, `2026-11-27 05:23:13 UTC`. Days are counted in eras of 400 years
/// that begin on the first of March, so that a leap day is the last of its year.
fn utc(seconds: i64) -> String {
    let (days, second) = (
        seconds.div_euclid(86_400) + 719_468,
        seconds.rem_euclid(86_400),
    );
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month < 10 {
        true => (era * 400 + year, month + 3),
        false => (era * 400 + year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// What `status` prints, and from which fields of mapperd's answer.
const LINES: [(&str, &str); 10] = [
    ("size", "size"),
    ("block size", "block_size"),
    ("blocks", "blocks"),
    ("own blocks", "own_blocks"),
    ("shared blocks", "shared_blocks"),
    ("zero blocks", "zero_blocks"),
    ("map version", "version"),
    ("epoch", "epoch"),
    ("read-only", "read_only"),
    ("open on this node", "open_here"),
];

/// What `status` says of a volume whose lock was broken.
const LOST: &str = "yes: whoever uses it here gets errors until it is closed and opened again";

pub(super) fn status(settings: &Settings, args: &Shown) -> Result<(), Failure> {
    let client = settings.client()?;
    let mapperd = client.ports().mapperd;
    let (name, hint) = (any(&args.name)?, args.old.hint());
    let failed = why::because(&client, (name, hint), "vlmc status failed");
    let report = client.status(mapperd, name, hint).map_err(&failed)?;
    let mut status = parse(&report)?;
    let peer = client
        .status(mapperd, client::Name::EMPTY, Default::default())
        .map_err(&failed)?;
    // Counted by the node, not by the volume.
    status["missing_objects_of_node"] = parse(&peer)?["missing_objects"].clone();
    status["mapped"] = json!(mapped::of_volume(
        settings.run_dir(),
        &args.name.to_string_lossy()
    )?);
    if args.output.is_json() {
        return say_json(&status);
    }
    print_status(&shown(&args.name), &status)
}

fn print_status(name: &str, status: &Value) -> Result<(), Failure> {
    say(format_args!("Volume {name}"))?;
    for (label, field) in LINES {
        if let Some(value) = status.get(field) {
            say(format_args!("  {label:<18} {}", plain(value)))?;
        }
    }
    let lost = if status["lost"] == true { LOST } else { "no" };
    say(format_args!("  {:<18} {lost}", "lock lost"))?;
    let own = status["own_blocks"].as_u64().unwrap_or(0);
    let block = status["block_size"].as_u64().unwrap_or(0);
    say(format_args!(
        "  {:<18} {}",
        "allocated at most",
        own * block
    ))?;
    say(format_args!("  {:<18} {}", "lock", holder(&status["lock"])))?;
    let device = status["mapped"]["device"].as_str().unwrap_or("no");
    say(format_args!("  {:<18} {device}", "mapped"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_in_words() {
        assert_eq!(holder(&json!({ "ours": false })), "nobody");
        let dead = json!({ "owner": "host_2", "pid": 7, "alive": false, "ours": false });
        assert_eq!(holder(&dead), "host_2, process 7, which is dead");
        let ours = json!({ "owner": "host_2", "ours": true });
        assert_eq!(holder(&ours), "host_2, this node");
        let rados = json!({ "owner": "host_2", "pid": 7, "host": "host", "since": 1_795_756_993,
            "addresses": ["10.0.0.1:0/5", "10.0.0.1:0/6"], "ours": false });
        assert_eq!(
            holder(&rados),
            "host_2, process 7 on host since 2026-11-27 05:23:13 UTC, writing from 10.0.0.1:0/5 \
             10.0.0.1:0/6"
        );
    }

    #[test]
    fn dates_are_the_calendars() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
