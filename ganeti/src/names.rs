//! Which volume a disk is (`spec/ganeti.md` section 5).
//!
//! Ganeti knows a disk by two names: its logical id (`UUID.ext.diskN`), and a name for people,
//! which a disk need not have and which Synnefo makes unique. Release 0.3 of Archipelago called
//! the volume by the first, 0.4.4 by the second; storage holds volumes of both kinds.

use crate::failure::Failure;
use client::Name;
use config::VolumeNaming;
use mapfile::name::VolumeName;
use mapfile::tool_name::{NameRole, check_form, check_len};

/// Ganeti's names for a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DiskNames {
    /// The logical id.
    pub(crate) id: String,
    /// The name for people.
    pub(crate) cname: Option<String>,
}

impl DiskNames {
    /// The name of the disk's volume. `fresh`: it is about to be made. `exists` says whether a
    /// volume of that name is there.
    pub(crate) fn volume(
        &self,
        naming: VolumeNaming,
        fresh: bool,
        exists: impl Fn(&str) -> Result<bool, Failure>,
    ) -> Result<&str, Failure> {
        let cname = self.cname.as_deref();
        match naming {
            VolumeNaming::Name => Ok(&self.id),
            VolumeNaming::Cname => cname.ok_or_else(|| Failure::missing("VOL_CNAME")),
            VolumeNaming::Auto => match cname.filter(|name| can_be_a_volume(name)) {
                Some(name) if name == self.id || fresh || exists(name)? => Ok(name),
                _ => Ok(&self.id),
            },
        }
    }
}

/// Whether people, who may name a disk `data`, can have meant the name of a volume.
fn can_be_a_volume(name: &str) -> bool {
    new(name, NameRole::Volume).is_ok()
}

/// The name of a volume that is there.
pub(crate) fn existing(name: &str) -> Result<Name, Failure> {
    check_len(name.as_bytes(), NameRole::Volume).map_err(Failure::archipelago)?;
    for_request(name)
}

/// The name of what a volume starts from, whose length the original did not check.
pub(crate) fn origin(name: &str) -> Result<Name, Failure> {
    for_request(name)
}

/// The name of something that will be made. The original did not check the length of a snapshot's.
pub(crate) fn new(name: &str, role: NameRole) -> Result<Name, Failure> {
    if role != NameRole::Snapshot {
        check_len(name.as_bytes(), role).map_err(Failure::archipelago)?;
    }
    check_form(name.as_bytes(), role).map_err(Failure::archipelago)?;
    for_request(name)
}

fn for_request(name: &str) -> Result<Name, Failure> {
    let checked = VolumeName::new(name.as_bytes());
    let why = |e| {
        let name = name.escape_debug();
        Failure::archipelago(format_args!("Invalid volume name `{name}`: {e}"))
    };
    let checked = checked.map_err(why)?;
    Ok(Name::new(checked.as_bytes()).expect("names of requests are longer than those of volumes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5a0b7a43-2fd3-4f0e-9b1f-6a8e3c1d2e3f.ext.disk0";

    fn volume(naming: VolumeNaming, cname: Option<&str>, fresh: bool, there: &[&str]) -> String {
        let names = DiskNames {
            id: ID.into(),
            cname: cname.map(str::to_owned),
        };
        let found = names.volume(naming, fresh, |name| Ok(there.contains(&name)));
        found.unwrap().to_owned()
    }

    #[test]
    fn each_policy_has_its_volume() {
        use VolumeNaming::{Auto, Cname, Name};
        let named = Some("snf-vol-7");
        type Row = (
            VolumeNaming,
            Option<&'static str>,
            bool,
            &'static [&'static str],
            &'static str,
        );
        let table: [Row; 10] = [
            (Name, named, true, &["snf-vol-7"], ID),
            (Cname, named, false, &[], "snf-vol-7"),
            (Auto, named, true, &[], "snf-vol-7"),
            (Auto, named, false, &["snf-vol-7", ID], "snf-vol-7"),
            (Auto, named, false, &[ID], ID),
            (Auto, named, false, &[], ID),
            (Auto, None, true, &[], ID),
            // No volume can have these names, whatever the disk is called.
            (Auto, Some("data"), true, &["data"], ID),
            (Auto, Some("a/../b"), true, &["a/../b"], ID),
            (Auto, Some("archip_volume"), false, &["archip_volume"], ID),
        ];
        for (naming, cname, fresh, there, expected) in table {
            let found = volume(naming, cname, fresh, there);
            assert_eq!(found, expected, "{naming:?} {cname:?} {fresh} {there:?}");
        }
    }

    #[test]
    fn a_policy_that_needs_a_name_says_so() {
        let names = DiskNames {
            id: ID.into(),
            cname: None,
        };
        let why = names.volume(VolumeNaming::Cname, true, |_| Ok(true));
        assert_eq!(why, Err(Failure::missing("VOL_CNAME")));
    }

    /// After Synnefo's rename_unique_name_of_disks both names are one: nobody need be asked.
    #[test]
    fn equal_names_are_not_looked_up() {
        let names = DiskNames {
            id: ID.into(),
            cname: Some(ID.into()),
        };
        let nobody = |_: &str| -> Result<bool, Failure> { panic!("asked") };
        assert_eq!(names.volume(VolumeNaming::Auto, false, nobody), Ok(ID));
    }

    #[test]
    fn names_are_refused_in_known_words() {
        let said = |result: Result<Name, Failure>| result.unwrap_err().to_string();
        assert_eq!(
            said(existing("five5")),
            "Archipelago error: Name should have at least len 6"
        );
        assert_eq!(
            said(new("a_lock_lock", NameRole::Snapshot)),
            "Archipelago error: Invalid snapshot name"
        );
        let path = said(existing("../../etc"));
        assert!(
            path.starts_with("Archipelago error: Invalid volume name `../../etc`: "),
            "{path}"
        );
        assert!(existing(ID).is_ok());
    }
}
