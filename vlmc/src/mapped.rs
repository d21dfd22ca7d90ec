//! Mapped volumes, for people: what the registry and the processes say ([`endpoint::steering`]),
//! with the failures of a tool.

use crate::failure::{Failure, print, say};
use endpoint::steering;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

pub(crate) use endpoint::control::Verb;
pub(crate) use endpoint::steering::Presented;

/// All mapped volumes whose processes live, by id.
pub(crate) fn all(run_dir: &Path) -> Result<Vec<Presented>, Failure> {
    Ok(steering::all(run_dir)?)
}

/// The directories of processes that are gone.
pub(crate) fn leftovers(run_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    Ok(steering::leftovers(run_dir)?)
}

/// Where `volume` is mapped.
pub(crate) fn of_volume(run_dir: &Path, volume: &str) -> Result<Option<Presented>, Failure> {
    Ok(steering::of_volume(run_dir, volume)?)
}

/// The table of `showmapped`, whose second column scripts cut out.
pub(crate) fn show(mapped: &[Presented]) -> Result<(), Failure> {
    if mapped.is_empty() {
        return show_none();
    }
    say("id\timage\t\tdevice")?;
    for m in mapped {
        print(format_args!(
            "{}\t{}\t{}\n",
            m.id,
            m.volume.escape_default(),
            m.device
        ))?;
    }
    Ok(())
}

/// On a terminal only, so that a loop over the second column runs zero times.
fn show_none() -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return say("No volumes mapped\n");
    }
    eprintln!("No volumes mapped\n");
    Ok(())
}
