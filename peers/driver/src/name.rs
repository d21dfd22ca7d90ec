//! An object's name, inline and always safe to use as one path component.
//!
//! What always holds of a `Name`: 1 to 256 bytes, no `/`, no NUL, and not `.` or `..`, so that no
//! name can leave the directory that it is looked up in (the original could be led out of it,
//! `spec/observed.md` 16). Shorter limits (6 to 82 bytes at the mapper) are the callers'.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// The longest name in bytes (`spec/protocol.md` section 1: maximal target length).
pub const MAX_NAME: usize = 256;

/// An object's name; never allocates.
#[derive(Clone, Copy)]
pub struct Name {
    len: u16,
    bytes: [u8; MAX_NAME],
}

/// Why some bytes are no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("a name may not be empty")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("a name may not be longer than {MAX_NAME} bytes")]
    TooLong,
    /// A `/` or a NUL in it, or the whole name is `.` or `..`.
    #[error("a name may not contain '/' or NUL, nor be '.' or '..'")]
    Unsafe,
}

impl Name {
    /// Checks `bytes` and copies them.
    pub fn new(bytes: &[u8]) -> Result<Name, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        if bytes == b"." || bytes == b".." || bytes.iter().any(|b| matches!(b, 0 | b'/')) {
            return Err(NameError::Unsafe);
        }
        let mut name = Name {
            len: bytes.len() as u16,
            bytes: [0; MAX_NAME],
        };
        name.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(name)
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// This name with `suffix` behind it.
    pub fn with_suffix(&self, suffix: &str) -> Result<Name, NameError> {
        let mut joined = self.as_bytes().to_vec();
        joined.extend_from_slice(suffix.as_bytes());
        Name::new(&joined)
    }

    /// Whether it is a content name: exactly 64 lower-case hexadecimal digits (Pithos blocks).
    pub fn is_hash(&self) -> bool {
        self.len == 64
            && self
                .as_bytes()
                .iter()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl Deref for Name {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;
    fn try_from(text: &str) -> Result<Name, NameError> {
        Name::new(text.as_bytes())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}
impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Name {
    fn cmp(&self, other: &Name) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

/// Printed escaped: a name may hold any byte, a terminal or a log line may not.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_directory() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"../../x", b"a\0b"] {
            assert!(Name::new(bad).is_err(), "{}", bad.escape_ascii());
        }
        for good in [&b"a"[..], b"...", b".x", b"uuid.ext.disk0", b"\xff\n"] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
        assert!(Name::new(&[b'a'; 256]).is_ok());
        assert_eq!(Name::new(&[b'a'; 257]), Err(NameError::TooLong));
    }

    #[test]
    fn only_64_lower_case_hex_digits_are_a_hash() {
        let hash = "0123456789abcdef".repeat(4);
        assert!(Name::try_from(hash.as_str()).unwrap().is_hash());
        for other in [
            hash.to_uppercase(),
            hash[1..].to_owned(),
            format!("{hash}0"),
        ] {
            assert!(!Name::try_from(other.as_str()).unwrap().is_hash());
        }
    }

    #[test]
    fn control_bytes_are_printed_escaped() {
        assert_eq!(Name::new(b"a\x1b[1m\n").unwrap().to_string(), r"a\x1b[1m\n");
    }
}
