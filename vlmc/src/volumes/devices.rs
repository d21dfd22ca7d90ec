//! map, unmap, showmapped: volumes as devices.

use super::cli::{Listed, Map, Unmap};
use super::names::{any, shown};
use crate::failure::{Failure, say, say_json};
use crate::lock::ToolLock;
use crate::mapped::{self, Mapped, Order};
use crate::settings::Settings;
use config::Endpoint;
use node::supervisor::launch::find_program;
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) fn map(settings: &Settings, args: &Map) -> Result<(), Failure> {
    settings.needs_devices()?;
    any(&args.name)?;
    let _lock = ToolLock::take(settings)?;
    let name = shown(&args.name);
    if let Some(Mapped { device, .. }) =
        mapped::of_volume(settings.run_dir(), &args.name.to_string_lossy())?
    {
        return Err(Failure::new(format!(
            "Volume {name} already mapped on device {device}"
        )));
    }
    let program = program(settings.config.archipelago.endpoint)?;
    let path = find_program(program, None).map_err(Failure::new)?;
    let mut command = Command::new(path);
    command.arg("--config").arg(&settings.config.file);
    command.arg("--volume").arg(&args.name);
    if args.readonly {
        command.arg("--readonly");
    }
    if args.old.assumed() {
        command.arg("--assume-v0");
        if let Some(size) = args.old.size() {
            command.arg("--v0-size").arg(size.to_string());
        }
    }
    // The endpoint becomes a daemon; a lock file that it inherited would stay locked, so nothing
    // but its standard streams is passed on (files are close-on-exec).
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| Failure::unexpected(format!("can't run {program}"), e))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("{name}: {}", why.trim())));
    }
    say(String::from_utf8_lossy(&output.stdout).trim())
}

/// Which endpoint presents volumes here.
fn program(endpoint: Endpoint) -> Result<&'static str, Failure> {
    let fuse = "archip-fuse";
    let nbd = "archip-nbd";
    match endpoint {
        Endpoint::Fuse => Ok(fuse),
        Endpoint::Nbd => Ok(nbd),
        Endpoint::Auto if can_loop() => Ok(fuse),
        Endpoint::Auto => Ok(nbd),
        Endpoint::Ublk | Endpoint::NbdKernel | Endpoint::VhostUser => Err(Failure::new(format!(
            "ENDPOINT = {} is not part of this build; use auto, fuse or nbd",
            endpoint.as_str()
        ))),
    }
}

/// Whether a FUSE file with a loop device before it is to be had.
fn can_loop() -> bool {
    let devices = ["/dev/fuse", "/dev/loop-control"];
    nix::unistd::geteuid().is_root() && devices.iter().all(|d| Path::new(d).exists())
}

pub(super) fn unmap(settings: &Settings, args: &Unmap) -> Result<(), Failure> {
    settings.needs_devices()?;
    let _lock = ToolLock::take(settings)?;
    let target = &args.device;
    let all = mapped::all(settings.run_dir())?;
    let found = all
        .iter()
        .find(|m| m.device == *target)
        .or_else(|| all.iter().find(|m| m.volume == *target));
    match found {
        Some(mapped) => mapped.order(Order::Unmap),
        None => Err(Failure::new(format!("{target}: Device doesn't exist"))),
    }
}

pub(super) fn showmapped(settings: &Settings, args: &Listed) -> Result<(), Failure> {
    settings.needs_devices()?;
    let _lock = ToolLock::take(settings)?;
    let all = mapped::all(settings.run_dir())?;
    match args.output.is_json() {
        true => say_json(&all),
        false => mapped::show(&all),
    }
}
