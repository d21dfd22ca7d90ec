//! Target names as they travel: up to 256 bytes, inline, never allocated.

use std::fmt;

/// The largest target of a request, bytes (spec/protocol.md section 1).
pub const TARGET_LEN_MAX: usize = 256;

/// A name of 0 to 256 bytes, any bytes. Whether they make a legal volume or object name is for
/// whoever serves the request to say.
#[derive(Clone, Copy)]
pub struct Name {
    len: u16,
    bytes: [u8; TARGET_LEN_MAX],
}

impl Name {
    /// The empty name.
    pub const EMPTY: Name = Name {
        len: 0,
        bytes: [0; TARGET_LEN_MAX],
    };

    /// `None` when `bytes` is longer than [`TARGET_LEN_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Name> {
        let mut name = Name::EMPTY;
        name.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        name.len = bytes.len() as u16;
        Some(name)
    }

    /// Becomes the name of `len` bytes that lies in words, in memory order; false when that is
    /// longer than [`TARGET_LEN_MAX`]. No more words are taken than hold it.
    pub(crate) fn set_words(&mut self, len: usize, words: impl Iterator<Item = u64>) -> bool {
        if len > TARGET_LEN_MAX {
            return false;
        }
        for (chunk, word) in self
            .bytes
            .chunks_exact_mut(8)
            .zip(words.take(len.div_ceil(8)))
        {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        self.len = len as u16;
        true
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Default for Name {
    fn default() -> Self {
        Name::EMPTY
    }
}

impl std::ops::Deref for Name {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

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

impl TryFrom<&[u8]> for Name {
    type Error = &'static str;
    fn try_from(bytes: &[u8]) -> Result<Name, Self::Error> {
        Name::new(bytes).ok_or("a name of more than 256 bytes")
    }
}

impl TryFrom<&str> for Name {
    type Error = &'static str;
    fn try_from(text: &str) -> Result<Name, Self::Error> {
        Name::try_from(text.as_bytes())
    }
}

impl fmt::Display for Name {
    /// Escaped, so that no name can play tricks with a terminal or a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_at_most_256_bytes() {
        assert_eq!(Name::new(&[b'x'; 256]).map(|n| n.len()), Some(256));
        assert!(Name::new(&[b'x'; 257]).is_none());
    }

    #[test]
    fn a_name_is_shown_escaped() {
        let name = Name::new(b"vol\x1b[31m\n").unwrap();
        assert_eq!(name.to_string(), "vol\\x1b[31m\\n");
    }
}
