//! `[GANETI]`: what the scripts and hooks for Ganeti need besides the node. The section may be
//! absent; whoever reads it on the old software passes it over.

use std::path::PathBuf;

use crate::error::ConfigError;
use crate::paths;
use crate::read::Section;

/// `[GANETI]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ganeti {
    /// `VOLUME_NAME`: which of Ganeti's names for a disk is its volume's.
    pub volume_name: VolumeNaming,
    /// `HOOKS_LOG`: where the hooks say what they did.
    pub hooks_log: PathBuf,
}

/// Which of Ganeti's names for a disk is the name of its volume (`spec/ganeti.md` section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VolumeNaming {
    /// VOL_CNAME for a new volume and where a volume of that name exists, else VOL_NAME.
    #[default]
    Auto,
    /// VOL_CNAME, which every disk must have then: as Archipelago 0.4.4.
    Cname,
    /// VOL_NAME: as Archipelago 0.3.
    Name,
}

impl VolumeNaming {
    /// All of them.
    pub const ALL: [VolumeNaming; 3] =
        [VolumeNaming::Auto, VolumeNaming::Cname, VolumeNaming::Name];

    /// The word that stands for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            VolumeNaming::Auto => "auto",
            VolumeNaming::Cname => "VOL_CNAME",
            VolumeNaming::Name => "VOL_NAME",
        }
    }
}

pub(crate) fn read(section: &Section<'_>) -> Result<Ganeti, ConfigError> {
    let naming = section.word("volume_name", &VolumeNaming::ALL, VolumeNaming::as_str)?;
    let log = section.path("hooks_log");
    Ok(Ganeti {
        volume_name: naming.unwrap_or_default(),
        hooks_log: log.unwrap_or_else(|| paths::HOOKS_LOG.into()),
    })
}
