//! check: what is wrong with volumes, and what of it can be mended without a risk.
//!
//! It looks through the running node, as any client: maps page by page, the size of each object
//! that they name, and who holds their locks. It takes no lock, so that what changes meanwhile
//! may be reported and be right a moment later.

use super::blocks::{self, STEP};
use super::cli::Check;
use super::names::any;
use crate::catalogue;
use crate::failure::{Failure, say, say_json};
use crate::mapped;
use crate::settings::Settings;
use client::{Client, Hint, Name};
use mapfile::name::is_hash_name;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
enum Finding {
    /// A map can't be read.
    Unreadable { volume: String, reason: String },
    /// A map names an object that is not there. One that Archipelago made reads as zeros; one
    /// of Pithos can't be read.
    Missing {
        volume: String,
        object: String,
        offset: u64,
        reads_as_zeros: bool,
    },
    /// A map names an object that can't be looked at.
    Broken {
        volume: String,
        object: String,
        reason: String,
    },
    /// The lock of a volume is held by a process that is dead.
    DeadLock {
        volume: String,
        holder: String,
        repaired: bool,
    },
    /// This node lost the volume's lock while it had the volume open.
    LockLost { volume: String },
    /// The entry of a mapped volume whose process is gone.
    DeadDevice { place: PathBuf, repaired: bool },
}

impl Finding {
    fn sentence(&self) -> String {
        let done = |repaired: &bool| if *repaired { " (repaired)" } else { "" };
        match self {
            Finding::Unreadable { volume, reason } => {
                format!("{volume}: its map can't be read: {reason}")
            }
            Finding::Missing {
                volume,
                object,
                offset,
                reads_as_zeros,
            } => {
                let then = match reads_as_zeros {
                    true => "it reads as zeros",
                    false => "reading it fails",
                };
                format!("{volume}: object {object} at {offset} is missing; {then}")
            }
            Finding::Broken {
                volume,
                object,
                reason,
            } => {
                format!("{volume}: object {object}: {reason}")
            }
            Finding::DeadLock {
                volume,
                holder,
                repaired,
            } => {
                format!("{volume}: its lock is held by {holder}{}", done(repaired))
            }
            Finding::LockLost { volume } => {
                format!("{volume}: this node lost its lock; close the volume and open it again")
            }
            Finding::DeadDevice { place, repaired } => {
                let place = place.display();
                format!(
                    "{place}: the process of a mapped volume is gone{}",
                    done(repaired)
                )
            }
        }
    }

    fn is_repaired(&self) -> bool {
        matches!(
            self,
            Finding::DeadLock { repaired: true, .. } | Finding::DeadDevice { repaired: true, .. }
        )
    }
}

/// A check under way.
struct Checker {
    client: Client,
    repair: bool,
    findings: Vec<Finding>,
    /// What is known of objects: snapshots and clones share them. 0: there; else the errno.
    objects: HashMap<Vec<u8>, i32>,
}

pub(super) fn check(settings: &Settings, args: &Check) -> Result<(), Failure> {
    let mut checker = Checker {
        client: settings.client()?,
        repair: args.repair,
        findings: Vec::new(),
        objects: HashMap::new(),
    };
    let volumes = match &args.name {
        Some(name) => vec![any(name)?],
        None => names(&checker.client)?,
    };
    for volume in &volumes {
        checker.volume(*volume);
    }
    if args.name.is_none() {
        checker.devices(settings)?;
    }
    checker.report(volumes.len(), args.output.is_json())
}

/// The names of all volumes whose names are text; those alone are listed unescaped.
fn names(client: &Client) -> Result<Vec<Name>, Failure> {
    let entries = catalogue::pages(client)?;
    Ok(entries
        .iter()
        .filter_map(|e| Name::new(e.name.as_bytes()))
        .collect())
}

fn reason(errno: i32) -> String {
    nix::errno::Errno::from_raw(errno).desc().to_owned()
}

impl Checker {
    fn volume(&mut self, name: Name) {
        let volume = name.to_string();
        let looked = self.status(name).and_then(|size| self.map(name, size));
        if let Err(reason) = looked {
            self.findings.push(Finding::Unreadable { volume, reason });
        }
    }

    /// Looks at the lock, and returns the volume's size.
    fn status(&mut self, name: Name) -> Result<u64, String> {
        let mapperd = self.client.ports().mapperd;
        let bytes = self.client.status(mapperd, name, Hint::default());
        let status: Value = serde_json::from_slice(&bytes.map_err(|e| e.to_string())?)
            .map_err(|e| format!("the node's answer makes no sense: {e}"))?;
        let volume = name.to_string();
        if status["lost"] == true {
            self.findings.push(Finding::LockLost {
                volume: volume.clone(),
            });
        }
        if status["lock"]["alive"] == false {
            let holder = super::show::holder(&status["lock"]);
            // Whoever is dead on this very host writes no more once its drain lock is free; the
            // blocker looks at that before it lets go of the lock.
            let repaired = self.repair && self.client.unlock(name, true).is_ok();
            self.findings.push(Finding::DeadLock {
                volume,
                holder,
                repaired,
            });
        }
        status["size"]
            .as_u64()
            .ok_or_else(|| "it has no size".into())
    }

    fn map(&mut self, name: Name, size: u64) -> Result<(), String> {
        let mut at = 0;
        while at < size {
            let step = STEP.min(size - at);
            let whole = (name, Hint::default());
            let segments = blocks::segments(&self.client, whole, at, step).map_err(reason)?;
            if segments.is_empty() {
                return Err("it ends too early".into());
            }
            for segment in segments {
                if !blocks::is_zero(&segment) {
                    self.object(name, segment.name, at);
                }
                at += segment.size.max(1);
            }
        }
        Ok(())
    }

    fn object(&mut self, volume: Name, object: Name, offset: u64) {
        let errno = match self.objects.get(object.as_bytes()) {
            Some(errno) => *errno,
            None => {
                let errno = blocks::look_at(&self.client, object).err().unwrap_or(0);
                self.objects.insert(object.to_vec(), errno);
                errno
            }
        };
        let (volume, name) = (volume.to_string(), object.to_string());
        match errno {
            0 => {}
            libc::ENOENT => self.findings.push(Finding::Missing {
                volume,
                object: name,
                offset,
                reads_as_zeros: !is_hash_name(&object),
            }),
            errno => {
                let reason = reason(errno);
                self.findings.push(Finding::Broken {
                    volume,
                    object: name,
                    reason,
                });
            }
        }
    }

    fn devices(&mut self, settings: &Settings) -> Result<(), Failure> {
        for place in mapped::leftovers(settings.run_dir())? {
            let repaired = self.repair && std::fs::remove_dir_all(&place).is_ok();
            self.findings.push(Finding::DeadDevice { place, repaired });
        }
        Ok(())
    }

    fn report(self, volumes: usize, json: bool) -> Result<(), Failure> {
        if json {
            say_json(&self.findings)?;
        } else {
            for finding in &self.findings {
                say(finding.sentence())?;
            }
            say(format_args!(
                "{volumes} volumes and {} objects checked, {} findings",
                self.objects.len(),
                self.findings.len()
            ))?;
        }
        match self.findings.iter().filter(|f| !f.is_repaired()).count() {
            0 => Ok(()),
            left => Err(Failure::new(format!("{left} findings are not repaired"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_say_what_it_means() {
        let missing = |reads_as_zeros| Finding::Missing {
            volume: "volume".into(),
            object: "volume_1_0".into(),
            offset: 4096,
            reads_as_zeros,
        };
        let start = "volume: object volume_1_0 at 4096 is missing; ";
        assert_eq!(
            missing(true).sentence(),
            format!("{start}it reads as zeros")
        );
        assert_eq!(
            missing(false).sentence(),
            format!("{start}reading it fails")
        );
        let dead = |repaired| Finding::DeadDevice {
            place: "/run/0".into(),
            repaired,
        };
        assert!(dead(true).is_repaired() && !dead(false).is_repaired());
        assert!(dead(true).sentence().ends_with("is gone (repaired)"));
    }
}
