//! Commands that only look: info, status, list, lock --show.

use super::cli::{Listed, Lock, Shown};
use super::names::{any, existing, shown};
use crate::catalogue;
use crate::failure::{Failure, say, say_json};
use crate::mapped;
use crate::settings::Settings;
use serde_json::{Value, json};

pub(super) fn info(settings: &Settings, args: &Shown) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let size = settings
        .client()?
        .info(name, args.old.hint())
        .map_err(Failure::because("vlmc info failed"))?;
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
    match lock.get("alive").and_then(Value::as_bool) {
        Some(false) => text += ", which is dead",
        _ if lock.get("ours") == Some(&Value::Bool(true)) => text += ", this node",
        _ => {}
    }
    text
}

/// What `status` prints, and from which fields of mapperd's answer.
const LINES: [(&str, &str); 11] = [
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
    ("lock lost", "lost"),
];

pub(super) fn status(settings: &Settings, args: &Shown) -> Result<(), Failure> {
    let client = settings.client()?;
    let mapperd = client.ports().mapperd;
    let failed = Failure::because("vlmc status failed");
    let report = client
        .status(mapperd, any(&args.name)?, args.old.hint())
        .map_err(&failed)?;
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
    }
}
