//! What can be wrong with a configuration.
//!
//! An error has a kind to match on and reads as one sentence that names the file, the line, the
//! section and the key. Where the original had a message of its own, that message is in it,
//! word for word (`spec/cli.md` section 3), so that scripts which look for it still find it.

use std::fmt;
use std::path::PathBuf;

/// What is wrong, to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file cannot be read.
    Unreadable,
    /// The text is not INI.
    Syntax,
    /// A section that must be there is missing.
    MissingSection,
    /// A key that must be there is missing or empty.
    MissingKey,
    /// The value is no number, no boolean, or not one of the words allowed.
    BadValue,
    /// The number is understood, but lies outside what is allowed.
    OutOfRange,
    /// The role's `type` is none that we know.
    UnknownType,
    /// Two things claim the same port or name, or disagree where they must not.
    Conflict,
    /// A directory, user or group that the value names does not exist.
    NotFound,
    /// The user or group exists, but only root may run a node as somebody else.
    NotPermitted,
    /// A port number that matches no role of the right type.
    DanglingReference,
}

/// Where in the configuration something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file; empty for a text that came from elsewhere.
    pub file: PathBuf,
    /// The section's name, without brackets.
    pub section: Option<String>,
    /// The key, in lower case.
    pub key: Option<String>,
    /// The line, counted from 1; none when the key is missing.
    pub line: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(section) = &self.section {
            write!(f, ": [{section}]")?;
        }
        match &self.key {
            Some(key) => write!(f, " {key}"),
            None => Ok(()),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    kind: ErrorKind,
    place: Place,
    message: String,
    source: Option<std::io::Error>,
}

impl ConfigError {
    pub(crate) fn new(kind: ErrorKind, place: Place, message: impl Into<String>) -> ConfigError {
        ConfigError {
            kind,
            place,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn because(mut self, source: std::io::Error) -> ConfigError {
        self.source = Some(source);
        self
    }

    /// What is wrong, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The sentence alone, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Something that is not wrong, but surely not meant: an unknown key, an ignored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands.
    pub place: Place,
    /// The sentence.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A fault of one role before it is known whether a file or a command line described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    /// The key as the file spells it.
    pub(crate) key: &'static str,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, key: &'static str, message: impl Into<String>) -> Fault {
        Fault {
            kind,
            key,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_file_line_section_and_key() {
        let place = Place {
            file: "/etc/a.conf".into(),
            section: Some("blockerb".into()),
            key: Some("nr_ops".into()),
            line: Some(12),
        };
        let error = ConfigError::new(ErrorKind::BadValue, place, "`x` is no number");
        assert_eq!(
            error.to_string(),
            "/etc/a.conf:12: [blockerb] nr_ops: `x` is no number"
        );
    }
}
