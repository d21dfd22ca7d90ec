//! A volume becomes mapped: which program presents it here, and its first word.

use crate::error::{Error, ErrorKind};
use client::Hint;
use config::paths::find_program;
use config::{Endpoint, NodeConfig};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is to be mapped.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The volume.
    pub volume: &'a OsStr,
    /// Refuse writes.
    pub readonly: bool,
    /// What is known of a map without a header.
    pub hint: Hint,
}

/// Maps a volume and returns its device's path, or its URI. The caller holds the tools' lock, and
/// has looked that the volume is not mapped yet.
pub fn map(config: &NodeConfig, wanted: &Wanted<'_>) -> Result<String, Error> {
    let program = program(config.archipelago.endpoint)?;
    let path = find_program(program, None)
        .map_err(|why| Error::new(ErrorKind::Config, why.to_string()))?;
    // The endpoint becomes a daemon; a lock file that it inherited would stay locked, so nothing
    // but its standard streams is passed on (files are close-on-exec).
    let output = command(&path, config, wanted)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(Error::system(format!("can't run {program}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(ErrorKind::Volume, why.trim()))
}

fn command(path: &Path, config: &NodeConfig, wanted: &Wanted<'_>) -> Command {
    let mut command = Command::new(path);
    command.arg("--config").arg(&config.file);
    command.arg("--volume").arg(wanted.volume);
    if wanted.readonly {
        command.arg("--readonly");
    }
    if wanted.hint.assume_v0 {
        command.arg("--assume-v0");
        if let Some(size) = wanted.hint.v0_size {
            command.arg("--v0-size").arg(size.to_string());
        }
    }
    command
}

/// Which endpoint presents volumes here.
fn program(endpoint: Endpoint) -> Result<&'static str, Error> {
    let fuse = "archip-fuse";
    let nbd = "archip-nbd";
    match endpoint {
        Endpoint::Fuse => Ok(fuse),
        Endpoint::Nbd => Ok(nbd),
        Endpoint::Auto if can_loop() => Ok(fuse),
        Endpoint::Auto => Ok(nbd),
        Endpoint::Ublk | Endpoint::NbdKernel | Endpoint::VhostUser => {
            let why = format!(
                "ENDPOINT = {} is not part of this build; use auto, fuse or nbd",
                endpoint.as_str()
            );
            Err(Error::new(ErrorKind::Config, why))
        }
    }
}

/// Whether a FUSE file with a loop device before it is to be had.
fn can_loop() -> bool {
    let devices = ["/dev/fuse", "/dev/loop-control"];
    nix::unistd::geteuid().is_root() && devices.iter().all(|d| Path::new(d).exists())
}
