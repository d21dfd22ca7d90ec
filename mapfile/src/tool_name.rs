//! The name rules that the command-line tools apply before they send anything, with the
//! sentences that scripts have come to know (`spec/cli.md` section 2). The peers have rules of
//! their own ([`crate::name`]); passing here promises nothing there.

use crate::name::reserved_form;

/// Shortest name that the tools take, in bytes.
pub const MIN_LEN: usize = 6;

/// Which argument of a command a name is; it decides the wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRole {
    /// The volume that a command acts on.
    Volume,
    /// The snapshot that `snapshot` makes or `create` starts from.
    Snapshot,
    /// The target of `rename`.
    New,
}

/// Why the tool refuses a name, in the original's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ToolNameError {
    /// Fewer than [`MIN_LEN`] bytes.
    #[error("{} should have at least len {MIN_LEN}", match .0 {
        NameRole::New => "New name",
        _ => "Name",
    })]
    Short(NameRole),
    /// The name has a reserved form.
    #[error("Invalid {}", match .0 {
        NameRole::Volume => "volume name",
        NameRole::Snapshot => "snapshot name",
        NameRole::New => "new name",
    })]
    Invalid(NameRole),
}

/// Whether the name has none of the reserved forms (`is_valid_name` of the Python API).
pub fn is_valid_name(name: &[u8]) -> bool {
    reserved_form(name).is_none()
}

/// Refuses a name of a reserved form.
pub fn check_form(name: &[u8], role: NameRole) -> Result<(), ToolNameError> {
    match is_valid_name(name) {
        true => Ok(()),
        false => Err(ToolNameError::Invalid(role)),
    }
}

/// Refuses a name that is too short. Not every command asks: `remove`, `map` and `update` do not,
/// nor does `snapshot` for the snapshot's name.
pub fn check_len(name: &[u8], role: NameRole) -> Result<(), ToolNameError> {
    match name.len() >= MIN_LEN {
        true => Ok(()),
        false => Err(ToolNameError::Short(role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentences_are_the_originals() {
        let table = [
            (
                check_len(b"five5", NameRole::Volume),
                "Name should have at least len 6",
            ),
            (
                check_len(b"five5", NameRole::New),
                "New name should have at least len 6",
            ),
            (
                check_form(b"archip_x", NameRole::Volume),
                "Invalid volume name",
            ),
            (
                check_form(b"some_lock", NameRole::Snapshot),
                "Invalid snapshot name",
            ),
            (
                check_form(b"v_0123456789abcdef", NameRole::New),
                "Invalid new name",
            ),
        ];
        for (result, sentence) in table {
            assert_eq!(result.unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn length_and_form_are_separate_questions() {
        assert_eq!(check_form(b"x", NameRole::Volume), Ok(()));
        assert_eq!(check_len(b"archip_", NameRole::Volume), Ok(()));
    }
}
