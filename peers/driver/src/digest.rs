//! The hashes by which content is named: 32 bytes, written as 64 hexadecimal digits.
//!
//! Trailing zeros are never hashed (`spec/pithos.md` section 3), so a block and the same block
//! padded with zeros have one name. The configuration key is `hash_algorithm`.

use crate::Name;
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// A hash algorithm of HASH; both give 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashAlgorithm {
    /// SHA-256, the original's only one.
    #[default]
    Sha256,
    /// BLAKE2b with 256 bits of output: twice as fast where the CPU has no SHA instructions.
    Blake2b,
}

/// A text that names no [`HashAlgorithm`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no hash algorithm; there are sha256 and blake2b")]
pub struct UnknownAlgorithm(
    /// The text.
    pub String,
);

impl FromStr for HashAlgorithm {
    type Err = UnknownAlgorithm;
    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        match text {
            "sha256" => Ok(HashAlgorithm::Sha256),
            "blake2b" => Ok(HashAlgorithm::Blake2b),
            _ => Err(UnknownAlgorithm(text.to_owned())),
        }
    }
}

impl HashAlgorithm {
    /// The hash of `content` without its trailing zeros.
    pub fn digest(self, content: &[u8]) -> Digest {
        let content = strip_zeros(content);
        let bytes: [u8; 32] = match self {
            HashAlgorithm::Sha256 => sha2::Sha256::digest(content).into(),
            HashAlgorithm::Blake2b => blake2::Blake2b256::digest(content).into(),
        };
        Digest::from_bytes(&bytes)
    }
}

/// Zeros are looked for in pieces of so many bytes, because that is quicker than one by one.
const PIECE: usize = 256;

/// `content` up to its last byte that is not zero.
pub fn strip_zeros(content: &[u8]) -> &[u8] {
    let mut end = content.len();
    while let Some(piece) = content[..end].last_chunk::<PIECE>() {
        if piece.iter().fold(0, |any, byte| any | byte) != 0 {
            break;
        }
        end -= PIECE;
    }
    let last = content[..end].iter().rposition(|byte| *byte != 0);
    &content[..last.map_or(0, |at| at + 1)]
}

/// A hash as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(
    /// The digits, in ASCII.
    pub [u8; 64],
);

impl Digest {
    /// Writes 32 bytes as hexadecimal digits.
    pub fn from_bytes(bytes: &[u8; 32]) -> Digest {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Digest(text)
    }

    /// The digits as the name of the object that holds this content.
    pub fn to_name(&self) -> Name {
        Name::new(&self.0).expect("64 hexadecimal digits are a name")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zeros_do_not_count() {
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let sha = HashAlgorithm::Sha256;
        assert_eq!(sha.digest(&[0; 100]).to_string(), nothing);
        assert_eq!(sha.digest(b"a\0b\0\0"), sha.digest(b"a\0b"));
        assert_ne!(sha.digest(b"a\0b"), sha.digest(b"ab"));
        for len in [0, 1, 255, 256, 257, 511, 512, 513, 1000] {
            let mut content = vec![0; 1000];
            content[..len].fill(7);
            assert_eq!(strip_zeros(&content), &[7; 1000][..len]);
        }
    }

    #[test]
    fn known_digests() {
        assert_eq!(
            HashAlgorithm::Sha256.digest(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            HashAlgorithm::Blake2b.digest(b"abc").to_string(),
            "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"
        );
    }

    #[test]
    fn names_are_the_configurations() {
        assert_eq!("blake2b".parse(), Ok(HashAlgorithm::Blake2b));
        assert!("md5".parse::<HashAlgorithm>().is_err());
    }
}
