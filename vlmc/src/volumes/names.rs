//! The name rules of the tool (`spec/cli.md` section 2), applied before anything is sent.
//!
//! Reserved forms are refused for names that would be made; volumes that the original stored
//! under such names can still be looked at and removed.

use crate::failure::Failure;
use client::Name;
use mapfile::tool_name::{NameRole, check_form, check_len};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A name of an existing volume whose length the original checked.
pub(super) fn existing(name: &OsStr) -> Result<Name, Failure> {
    check_len(name.as_bytes(), NameRole::Volume).map_err(Failure::new)?;
    any(name)
}

/// A name of an existing volume whose length nobody checked.
pub(super) fn any(name: &OsStr) -> Result<Name, Failure> {
    Name::new(name.as_bytes())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Failure::new("Invalid volume name"))
}

/// The name of something that will be made.
pub(super) fn new(name: &OsStr, role: NameRole) -> Result<Name, Failure> {
    // The original did not check the length of a snapshot's name; the peers do.
    if role != NameRole::Snapshot {
        check_len(name.as_bytes(), role).map_err(Failure::new)?;
    }
    check_form(name.as_bytes(), role).map_err(Failure::new)?;
    any(name)
}

/// MiB to bytes.
pub(super) fn bytes_of(mib: u64) -> Result<u64, Failure> {
    mib.checked_mul(1 << 20)
        .ok_or_else(|| Failure::new(format!("{mib} MiB is more than any volume can have")))
}

/// A name for people.
pub(super) fn shown(name: &OsStr) -> String {
    match name.to_str() {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => name.as_bytes().escape_ascii().to_string(),
    }
}
