//! What volumes, header objects and data objects may be called.
//!
//! Always: a value of these types is safe to use as the last component of a path. It has no `/`,
//! no NUL, is not `.` or `..`, and has a length within its type's bounds. The reserved forms are a
//! separate question, because they stop *creation* only: the original stored maps under names of
//! those forms, and they must load. Names are bytes, not text; they print escaped.
//!
//! ```text
//!  VolumeName   6..=82   what a user says
//!  HeaderName   6..=89   VolumeName, or archip_ + VolumeName (the 0.3 layout)
//!  ObjectName   1..=123  any object that an entry can name
//! ```
//! Sources: `spec/protocol.md` section 3 (limits), `spec/choices.md` "Names", `spec/cli.md`
//! section 2 (reserved forms).

use crate::header::Epoch;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Prefix under which 0.3 stored maps and writable objects.
pub const ARCHIP_PREFIX: &[u8] = b"archip_";
/// Ending of the object or file that locks a map.
pub const LOCK_SUFFIX: &[u8] = b"_lock";

/// Hexadecimal digits of an epoch, an index or a chunk number in a name.
const HEX_DIGITS: usize = 16;
/// Bytes of `_EPOCH_INDEX`.
const OBJECT_TAIL: usize = 2 * (1 + HEX_DIGITS);

/// The bytes of one name, inline, between `MIN` and `MAX` of them.
#[derive(Clone)]
pub struct Name<const MIN: usize, const MAX: usize> {
    len: u8,
    bytes: [u8; MAX],
}

/// The name of a volume or a snapshot, as its user says it.
pub type VolumeName = Name<6, 82>;
/// The name of the object that holds a map's header; chunks and new objects extend it.
pub type HeaderName = Name<6, 89>;
/// The name of any object that a map entry can point to.
pub type ObjectName = Name<1, 123>;

// The longest header name, extended by epoch and index, is exactly what an entry can hold.
const _: () = assert!(89 + OBJECT_TAIL == 123);
const _: () = assert!(82 + ARCHIP_PREFIX.len() == 89);

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Fewer bytes than its type allows.
    #[error("a name of {len} bytes is too short, it needs at least {min}")]
    TooShort {
        /// Bytes in the name.
        len: usize,
        /// Bytes that it needs.
        min: usize,
    },
    /// More bytes than its type allows.
    #[error("a name of {len} bytes is too long, it may have {max}")]
    TooLong {
        /// Bytes in the name.
        len: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// A `/` would leave the directory.
    #[error("a name may not contain '/'")]
    Slash,
    /// A NUL byte ends a path early.
    #[error("a name may not contain a NUL byte")]
    Nul,
    /// `.` and `..` are directories.
    #[error("'.' and '..' are no names")]
    Dots,
    /// The name is kept for objects of the storage layer itself.
    #[error("the name is reserved: it {0}")]
    Reserved(ReservedForm),
}

/// Forms that the storage layer uses for its own objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservedForm {
    /// Starts with `archip_`: a map or object of 0.3.
    ArchipPrefix,
    /// Ends with `_lock`: a lock.
    LockSuffix,
    /// Contains `_` and 16 lower-case hexadecimal digits: a map chunk or a data object.
    HexRun,
}

impl fmt::Display for ReservedForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReservedForm::ArchipPrefix => "starts with 'archip_'",
            ReservedForm::LockSuffix => "ends with '_lock'",
            ReservedForm::HexRun => "contains '_' followed by 16 hexadecimal digits",
        })
    }
}

/// The reserved form that `name` has, if any (`spec/cli.md` section 2).
pub fn reserved_form(name: &[u8]) -> Option<ReservedForm> {
    if name.starts_with(ARCHIP_PREFIX) {
        Some(ReservedForm::ArchipPrefix)
    } else if name.ends_with(LOCK_SUFFIX) {
        Some(ReservedForm::LockSuffix)
    } else if name.windows(1 + HEX_DIGITS).any(is_hex_run) {
        Some(ReservedForm::HexRun)
    } else {
        None
    }
}

fn is_hex_run(window: &[u8]) -> bool {
    window[0] == b'_' && window[1..].iter().all(|&b| is_lower_hex(b))
}

/// Whether `byte` is one of `0-9a-f`.
pub(crate) fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Whether `name` is 64 lower-case hexadecimal digits: a Pithos block or map.
pub fn is_hash_name(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(|&b| is_lower_hex(b))
}

impl<const MIN: usize, const MAX: usize> Name<MIN, MAX> {
    /// Checks what loading needs: length and path safety, not the reserved forms.
    pub fn new(name: &[u8]) -> Result<Self, NameError> {
        let len = name.len();
        if len < MIN {
            return Err(NameError::TooShort { len, min: MIN });
        }
        if len > MAX {
            return Err(NameError::TooLong { len, max: MAX });
        }
        check_path_safe(name)?;
        Ok(Self::from_checked(&[name]))
    }

    /// Joins parts that together are known to be safe and short enough.
    pub(crate) fn from_checked(parts: &[&[u8]]) -> Self {
        let mut bytes = [0; MAX];
        let mut len = 0;
        for part in parts {
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        const { assert!(MAX <= u8::MAX as usize) };
        Name {
            len: len as u8,
            bytes,
        }
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

fn check_path_safe(name: &[u8]) -> Result<(), NameError> {
    match name {
        b"." | b".." => Err(NameError::Dots),
        _ if name.contains(&b'/') => Err(NameError::Slash),
        _ if name.contains(&0) => Err(NameError::Nul),
        _ => Ok(()),
    }
}

impl VolumeName {
    /// Checks what *creation* needs: everything that loading needs, and no reserved form.
    pub fn for_creation(name: &[u8]) -> Result<Self, NameError> {
        let checked = Self::new(name)?;
        match reserved_form(name) {
            Some(form) => Err(NameError::Reserved(form)),
            None => Ok(checked),
        }
    }

    /// The header object that the volume has unless it comes from 0.3.
    pub fn header(&self) -> HeaderName {
        HeaderName::from_checked(&[self.as_bytes()])
    }

    /// The header object to try when [`VolumeName::header`] is not there: `archip_NAME`. None for
    /// a name that starts so already (`spec/protocol.md` section 2, map lookup step 4).
    pub fn fallback_header(&self) -> Option<HeaderName> {
        let name = self.as_bytes();
        let has_prefix = name.starts_with(ARCHIP_PREFIX);
        (!has_prefix).then(|| HeaderName::from_checked(&[ARCHIP_PREFIX, name]))
    }
}

impl HeaderName {
    /// The object that holds chunk `chunk` of the map: `NAME_` and 16 hexadecimal digits.
    pub fn chunk(&self, chunk: u64) -> ObjectName {
        ObjectName::from_checked(&[self.as_bytes(), b"_", &hex16(chunk)])
    }

    /// The object that block `index` gets when it is first written in `epoch`.
    pub fn object(&self, epoch: Epoch, index: u64) -> ObjectName {
        own_object(self.as_bytes(), epoch, index)
    }

    /// The object or file that locks the map.
    pub fn lock(&self) -> ObjectName {
        ObjectName::from_checked(&[self.as_bytes(), LOCK_SUFFIX])
    }

    /// The header object's own name, as an object.
    pub fn as_object(&self) -> ObjectName {
        ObjectName::from_checked(&[self.as_bytes()])
    }
}

/// `BASE_EPOCH_INDEX`. The base must leave room for the rest, as a header name does.
pub(crate) fn own_object(base: &[u8], epoch: Epoch, index: u64) -> ObjectName {
    ObjectName::from_checked(&[base, b"_", &hex16(epoch.0), b"_", &hex16(index)])
}

/// `PREFIX` and the 64 digits of `hash`.
pub(crate) fn hash_object(prefix: &[u8], hash: &[u8; 32]) -> ObjectName {
    ObjectName::from_checked(&[prefix, &hex_of_hash(hash)])
}

/// The parts of `BASE_EPOCH_INDEX`; None when `name` has another form. Upper-case digits are
/// another form: what is read here is printed again digit for digit.
pub fn split_object(name: &[u8]) -> Option<(&[u8], Epoch, u64)> {
    let base_len = name.len().checked_sub(OBJECT_TAIL).filter(|&len| len > 0)?;
    let (base, tail) = name.split_at(base_len);
    let (epoch, index) = tail.split_at(1 + HEX_DIGITS);
    if !is_hex_run(epoch) || !is_hex_run(index) {
        return None;
    }
    Some((
        base,
        Epoch(from_hex16(&epoch[1..])),
        from_hex16(&index[1..]),
    ))
}

fn from_hex16(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |value, &digit| value << 4 | u64::from(hex_value(digit)))
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit - b'a' + 10,
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn hex16(value: u64) -> [u8; HEX_DIGITS] {
    std::array::from_fn(|i| DIGITS[(value >> (60 - 4 * i)) as usize & 0xf])
}

fn hex_of_hash(hash: &[u8; 32]) -> [u8; 64] {
    std::array::from_fn(|i| DIGITS[usize::from(hash[i / 2] >> (4 - 4 * (i % 2))) & 0xf])
}

/// The 32 bytes of a name of 64 lower-case hexadecimal digits; None for any other name.
pub fn parse_hash(name: &[u8]) -> Option<[u8; 32]> {
    is_hash_name(name)
        .then(|| std::array::from_fn(|i| hex_value(name[2 * i]) << 4 | hex_value(name[2 * i + 1])))
}

/// A name made fit for a terminal or a log line: letters and digits of any script and printable
/// ASCII stand for themselves, `\` is doubled, every other byte becomes `\xNN`.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            chunk.valid().chars().try_for_each(|c| write_char(f, c))?;
            write_bytes(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn write_char(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '\\' => f.write_str("\\\\"),
        ' '..='~' => write!(f, "{c}"),
        _ if c.is_alphanumeric() => write!(f, "{c}"),
        _ => write_bytes(f, c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

impl<const MIN: usize, const MAX: usize> fmt::Display for Name<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.as_bytes()).fmt(f)
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Debug for Name<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl<const MIN: usize, const MAX: usize> PartialEq for Name<MIN, MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const MIN: usize, const MAX: usize> Eq for Name<MIN, MAX> {}

impl<const MIN: usize, const MAX: usize> PartialOrd for Name<MIN, MAX> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const MIN: usize, const MAX: usize> Ord for Name<MIN, MAX> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

// Hashes like its bytes, as `Borrow` demands.
impl<const MIN: usize, const MAX: usize> Hash for Name<MIN, MAX> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl<const MIN: usize, const MAX: usize> Borrow<[u8]> for Name<MIN, MAX> {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<const MIN: usize, const MAX: usize> AsRef<[u8]> for Name<MIN, MAX> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
