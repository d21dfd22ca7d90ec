//! map, unmap, showmapped: volumes as devices.

use super::cli::{Listed, Map, Unmap};
use super::names::{any, shown};
use crate::failure::{Failure, say, say_json};
use crate::mapped::{self, Verb};
use crate::settings::Settings;
use endpoint::steering::{self, ToolLock, Wanted};

pub(super) fn map(settings: &Settings, args: &Map) -> Result<(), Failure> {
    settings.needs_devices()?;
    any(&args.name)?;
    let _lock = ToolLock::take(&settings.config)?;
    let name = shown(&args.name);
    if let Some(mapped) = mapped::of_volume(settings.run_dir(), &args.name.to_string_lossy())? {
        let device = &mapped.device;
        return Err(Failure::new(format!(
            "Volume {name} already mapped on device {device}"
        )));
    }
    let wanted = Wanted {
        volume: &args.name,
        readonly: args.readonly,
        hint: args.old.hint(),
    };
    let device = steering::map(&settings.config, &wanted).map_err(|why| match why.kind {
        endpoint::ErrorKind::Volume => Failure::new(format!("{name}: {why}")),
        _ => why.into(),
    })?;
    say(device)
}

pub(super) fn unmap(settings: &Settings, args: &Unmap) -> Result<(), Failure> {
    settings.needs_devices()?;
    let _lock = ToolLock::take(&settings.config)?;
    let target = &args.device;
    let all = mapped::all(settings.run_dir())?;
    let found = all
        .iter()
        .find(|m| m.device == *target)
        .or_else(|| all.iter().find(|m| m.volume == *target));
    match found {
        Some(mapped) => Ok(mapped.order(Verb::Unmap)?),
        None => Err(Failure::new(format!("{target}: Device doesn't exist"))),
    }
}

pub(super) fn showmapped(settings: &Settings, args: &Listed) -> Result<(), Failure> {
    settings.needs_devices()?;
    let _lock = ToolLock::take(&settings.config)?;
    let all = mapped::all(settings.run_dir())?;
    match args.output.is_json() {
        true => say_json(&all),
        false => mapped::show(&all),
    }
}
