//! attach and detach: a volume becomes a disk of this host, and ceases to be one.
//!
//! Ganeti calls `attach` at every turn (before it removes, grows, snapshots or shuts a disk down),
//! so a volume that is mapped costs no question to the node. It is attached on two hosts during a
//! live migration: mapping takes no lock.

use crate::environment::Environment;
use crate::failure::Failure;
use crate::names::existing;
use crate::node::{Node, disk};
use client::Hint;
use endpoint::control::Verb;
use endpoint::steering::{self, ToolLock, Wanted};
use std::io::Write;

pub(crate) fn attach(environment: &Environment) -> Result<(), Failure> {
    let disk = disk(environment)?;
    let node = Node::load(environment)?;
    if !node.config.archipelago.blktap_enabled {
        return Err(Failure::archipelago("Blktap module is disabled."));
    }
    let volume = node.volume(&disk, false)?;
    let device = match node.mapped(volume)? {
        Some(mapped) => mapped.info.device,
        None => map(&node, volume)?,
    };
    node.notes().keep(&disk, volume);
    say(&device)
}

/// Maps a volume that was not mapped a moment ago.
fn map(node: &Node, volume: &str) -> Result<String, Failure> {
    existing(volume)?;
    let _lock = ToolLock::take(&node.config)?;
    if let Some(mapped) = node.mapped(volume)? {
        return Ok(mapped.info.device);
    }
    let wanted = Wanted {
        volume: volume.as_ref(),
        readonly: false,
        hint: Hint::default(),
    };
    let device = steering::map(&node.config, &wanted)
        .map_err(|why| Failure::archipelago(format_args!("{volume}: {why}")))?;
    eprintln!("{device}");
    Ok(device)
}

/// What Ganeti reads: the block device, and the file name that KVM is given where a disk is
/// accessed from user space. Where there is no block device the first line is empty.
fn answer(device: &str) -> String {
    match device.starts_with('/') {
        true => format!("{device}\nkvm:{device}"),
        false => format!("\nkvm:{device}"),
    }
}

/// Without a line feed at the end, which Ganeti would take for one URI more.
fn say(device: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(answer(device).as_bytes())
        .and_then(|()| out.flush())
        .map_err(|why| Failure::archipelago(format_args!("can't print the device: {why}")))
}

pub(crate) fn detach(environment: &Environment) -> Result<(), Failure> {
    let disk = disk(environment)?;
    let node = Node::load(environment)?;
    let mut mapped = false;
    for name in disk.cname.iter().chain([&disk.id]) {
        mapped |= node.mapped(name)?.is_some();
    }
    // Then the node need not even run.
    if !mapped {
        return Ok(());
    }
    let volume = node.volume(&disk, false)?;
    let _lock = ToolLock::take(&node.config)?;
    match node.mapped(volume)? {
        Some(mapped) => Ok(mapped.order(Verb::Unmap)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_a_block_device_or_nothing() {
        assert_eq!(answer("/dev/loop7"), "/dev/loop7\nkvm:/dev/loop7");
        let uri = "nbd+unix:///volume?socket=/run/archipelago/mapped/0/nbd";
        assert_eq!(answer(uri), format!("\nkvm:{uri}"));
    }
}
