//! Commands that change a volume as a whole.

use super::cli::{Clone, Create, Lock, Named, Rename, Resize, Snapshot};
use super::names::{any, bytes_of, existing, new, shown};
use super::why;
use crate::failure::{Failure, say};
use crate::mapped::{self, Presented, Verb};
use crate::settings::Settings;
use client::{Hint, Name};
use mapfile::tool_name::NameRole;
use std::ffi::OsStr;

pub(super) fn create(settings: &Settings, args: &Create) -> Result<(), Failure> {
    let name = new(&args.name, NameRole::Volume)?;
    if args.size.is_none() && args.snap.is_none() {
        return Err(Failure::new(
            "At least one of the size/snap args must be provided",
        ));
    }
    let parent = match &args.snap {
        Some(snap) => any(snap)?,
        None => Name::EMPTY,
    };
    make(settings, parent, name, args.size, args.old.hint())
}

pub(super) fn clone(settings: &Settings, args: &Clone) -> Result<(), Failure> {
    let name = new(&args.name, NameRole::Volume)?;
    make(
        settings,
        any(&args.snapshot)?,
        name,
        args.size,
        args.old.hint(),
    )
}

fn make(
    settings: &Settings,
    parent: Name,
    name: Name,
    size_mib: Option<u64>,
    hint: Hint,
) -> Result<(), Failure> {
    let size = bytes_of(size_mib.unwrap_or(0))?;
    let client = settings.client()?;
    client
        .clone_volume(parent, name, size, hint)
        .map_err(why::because(
            &client,
            (parent, hint),
            "vlmc creation failed",
        ))
}

pub(super) fn snapshot(settings: &Settings, args: &Snapshot) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let snapshot = new(&args.snapshot, NameRole::Snapshot)?;
    let (client, hint) = (settings.client()?, args.old.hint());
    client.snapshot(name, snapshot, hint).map_err(why::because(
        &client,
        (name, hint),
        "vlmc snapshot failed",
    ))?;
    say(format_args!("Snapshot name: {}", shown(&args.snapshot)))
}

/// Where a volume is mapped on this node.
fn mapped_on(settings: &Settings, name: &OsStr) -> Result<Option<Presented>, Failure> {
    mapped::of_volume(settings.run_dir(), &name.to_string_lossy())
}

pub(super) fn remove(settings: &Settings, args: &Named) -> Result<(), Failure> {
    if let Some(mapped) = mapped_on(settings, &args.name)? {
        let (name, device) = (shown(&args.name), &mapped.device);
        return Err(Failure::new(format!(
            "Volume {name} mapped on device {device}"
        )));
    }
    let (client, hint) = (settings.client()?, args.old.hint());
    let name = any(&args.name)?;
    client
        .remove(name, hint)
        .map_err(why::because(&client, (name, hint), "vlmc removal failed"))
}

pub(super) fn rename(settings: &Settings, args: &Rename) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let to = new(&args.new, NameRole::New)?;
    if mapped_on(settings, &args.name)?.is_some() {
        return Err(Failure::new("Cannot rename a mapped resource"));
    }
    let (client, hint) = (settings.client()?, args.old.hint());
    client.rename(name, to, hint).map_err(why::because(
        &client,
        (name, hint),
        "vlmc rename failed",
    ))?;
    say(format_args!(
        "Renamed {} to {}",
        shown(&args.name),
        shown(&args.new)
    ))
}

pub(super) fn resize(settings: &Settings, args: &Resize) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let size = bytes_of(args.size)?;
    let client = settings.client()?;
    let hint = args.old.hint();
    let failed = why::because(&client, (name, hint), "vlmc resize failed");
    let shrinks = size < client.info(name, hint).map_err(&failed)?;
    let mapped = mapped_on(settings, &args.name)?;
    if shrinks && mapped.is_some() {
        return Err(Failure::new("Cannot shrink a mapped resource"));
    }
    if shrinks && !args.allow_shrink {
        return Err(Failure::new(
            "vlmc resize failed: the volume would lose its end; --allow-shrink allows that",
        ));
    }
    client.resize(name, size, shrinks).map_err(&failed)?;
    Ok(mapped.map_or(Ok(()), |mapped| mapped.order(Verb::Resize))?)
}

pub(super) fn open(settings: &Settings, args: &Named) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let (client, hint) = (settings.client()?, args.old.hint());
    client
        .open(name, hint)
        .map_err(why::because(&client, (name, hint), "vlmc open failed"))?;
    say("Volume opened")
}

pub(super) fn close(settings: &Settings, args: &Named) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let (client, hint) = (settings.client()?, args.old.hint());
    client
        .close(name, hint)
        .map_err(why::because(&client, (name, hint), "vlmc close failed"))?;
    say("Volume closed")
}

pub(super) fn lock(settings: &Settings, args: &Lock) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    settings
        .client()?
        .lock(name)
        .map_err(Failure::because("vlmc lock failed"))?;
    say("Volume locked")
}

pub(super) fn hash(settings: &Settings, args: &Named) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    let (client, hint) = (settings.client()?, args.old.hint());
    let hash =
        client
            .hash(name, hint)
            .map_err(why::because(&client, (name, hint), "vlmc hash failed"))?;
    say(format_args!("Hash name: {hash}"))
}
