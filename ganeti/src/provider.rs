//! The scripts that change a volume or do nothing: create, remove, grow, snapshot, open, close,
//! setinfo, verify.

use crate::environment::Environment;
use crate::failure::Failure;
use crate::names::{existing, new, origin};
use crate::node::{Node, disk};
use client::{Error, Hint, Name};
use endpoint::control::Verb;
use mapfile::tool_name::NameRole;

/// Errno of CLOSE: the volume is not open on this node.
const NOT_OPEN: i32 = nix::libc::EINVAL;
/// What Ganeti's `True` and `False` are in the environment.
const TRUE: &str = "True";
const FALSE: &str = "False";

/// What a new volume starts from.
struct Origin<'a> {
    text: &'a str,
    name: Name,
    hint: Hint,
}

impl<'a> Origin<'a> {
    fn of(environment: &'a Environment) -> Result<Option<Origin<'a>>, Failure> {
        let size = environment.number("EXTP_ORIGIN_SIZE", "a size in bytes")?;
        let Some(text) = environment.get("EXTP_ORIGIN")? else {
            return Ok(None);
        };
        // Databases of old write so what lies in Archipelago.
        let text = text.strip_prefix("archip:").unwrap_or(text);
        let hint = Hint {
            assume_v0: true,
            v0_size: size,
        };
        let name = origin(text)?;
        Ok(Some(Origin { text, name, hint }))
    }
}

pub(crate) fn create(environment: &Environment) -> Result<(), Failure> {
    let disk = disk(environment)?;
    let reuse = environment.get("EXTP_REUSE_DATA")? == Some(TRUE);
    let asked = match reuse {
        true => None,
        false => Some((environment.need_mib("VOL_SIZE")?, Origin::of(environment)?)),
    };
    let node = Node::load(environment)?;
    let volume = node.volume(&disk, true)?;
    let Some((size, origin)) = asked else {
        eprintln!("Reusing previous data for {volume}");
        return Ok(());
    };
    let from = origin
        .as_ref()
        .map_or(String::new(), |o| format!(" from '{}'", o.text));
    eprintln!("Creating volume '{volume}' of size '{}'{from}", size >> 20);
    make(&node, new(volume, NameRole::Volume)?, size, origin.as_ref())?;
    node.notes().keep(&disk, volume);
    Ok(())
}

fn make(node: &Node, volume: Name, size: u64, origin: Option<&Origin>) -> Result<(), Failure> {
    let client = node.client()?;
    let failed = Failure::because("vlmc creation failed");
    let Some(Origin { text, name, hint }) = origin else {
        return client.create(volume, size).map_err(failed);
    };
    let made = client.clone_volume(*name, volume, size, *hint);
    made.map_err(|why| match client.info(*name, *hint) {
        Ok(least) if least > size => Failure::archipelago(format_args!(
            "vlmc creation failed: VOL_SIZE ({} MiB) is less than the {least} bytes of {text}",
            size >> 20
        )),
        _ => failed(why),
    })
}

pub(crate) fn snapshot(environment: &Environment) -> Result<(), Failure> {
    let mut disk = disk(environment)?;
    let text = environment.need("VOL_SNAPSHOT_NAME")?;
    let node = Node::load(environment)?;
    // Ganeti passes the disk's name to every script but this one.
    disk.cname = disk.cname.or_else(|| node.notes().read(&disk.id));
    let volume = node.volume(&disk, false)?;
    let (name, snapshot) = (existing(volume)?, new(text, NameRole::Snapshot)?);
    eprintln!("Creating snapshot '{text}' from '{volume}'");
    let taken = node.client()?.snapshot(name, snapshot, Hint::default());
    taken.map_err(Failure::because("vlmc snapshot failed"))
}

pub(crate) fn grow(environment: &Environment) -> Result<(), Failure> {
    let disk = disk(environment)?;
    let size = environment.need_mib("VOL_NEW_SIZE")?;
    let node = Node::load(environment)?;
    let volume = node.volume(&disk, false)?;
    let name = existing(volume)?;
    let client = node.client()?;
    let failed = Failure::because("vlmc resize failed");
    let current = client.info(name, Hint::default()).map_err(&failed)?;
    if size < current {
        return Err(Failure::archipelago(format_args!(
            "vlmc resize failed: VOL_NEW_SIZE ({} MiB) is less than the {current} bytes of {volume}",
            size >> 20
        )));
    }
    eprintln!("Resizing '{volume}'. New size '{}'", size >> 20);
    if size > current {
        client.resize(name, size, false).map_err(&failed)?;
    }
    // Also where only this was left undone.
    match node.mapped(volume)? {
        Some(mapped) => Ok(mapped.order(Verb::Resize)?),
        None => Ok(()),
    }
}

pub(crate) fn remove(environment: &Environment) -> Result<(), Failure> {
    let disk = disk(environment)?;
    let node = Node::load(environment)?;
    let volume = node.volume(&disk, false)?;
    if let Some(mapped) = node.mapped(volume)? {
        let device = &mapped.device;
        return Err(Failure::archipelago(format_args!(
            "Volume {volume} mapped on device {device}"
        )));
    }
    eprintln!("Deleting '{volume}'");
    let removed = node.client()?.remove(existing(volume)?, Hint::default());
    removed.map_err(Failure::because("vlmc removal failed"))?;
    node.notes().forget(&disk.id);
    Ok(())
}

/// Takes the volume's lock for this node, unless another has it. During a live migration both
/// nodes open it shared, which takes none: the target gets it when the source has closed.
pub(crate) fn open(environment: &Environment) -> Result<(), Failure> {
    let disk = disk(environment)?;
    match environment.get("VOL_OPEN_EXCLUSIVE")? {
        Some(FALSE) => return Ok(()),
        // Old releases of Ganeti do not say.
        None | Some(TRUE) => {}
        Some(other) => {
            return Err(Failure::wrong("VOL_OPEN_EXCLUSIVE", other, "True or False"));
        }
    }
    let node = Node::load(environment)?;
    let name = existing(node.volume(&disk, false)?)?;
    let opened = node.client()?.open(name, Hint::default());
    opened.map_err(Failure::because("vlmc open failed"))
}

/// Gives the lock back after a flush; Ganeti closes also what was never open here.
pub(crate) fn close(environment: &Environment) -> Result<(), Failure> {
    let disk = disk(environment)?;
    let node = Node::load(environment)?;
    let name = existing(node.volume(&disk, false)?)?;
    match node.client()?.close(name, Hint::default()) {
        Err(Error {
            errno: NOT_OPEN, ..
        }) => Ok(()),
        other => other.map_err(Failure::because("vlmc close failed")),
    }
}

/// setinfo, for Archipelago keeps no text beside a volume; and verify, which Ganeti never calls.
pub(crate) fn nothing(environment: &Environment) -> Result<(), Failure> {
    disk(environment).map(drop)
}
