//! One block of a volume: eight bytes that say which object holds it, and what may be done to it.
//!
//! Always: an entry's name is kept in the [`Names`] that made it; with another it means something
//! else or panics. The position of an entry is part of its meaning: an own object's index is the
//! block's index and is not stored.

use crate::error::{EntryFault, FormatError};
use crate::header::Epoch;
use crate::name::{NameError, ObjectName};
use crate::names::{Form, Names};
use std::ops::{BitAnd, BitOr};

/// The name of the block that is all zeros: sha256 of nothing, whatever hash algorithm is
/// configured (`spec/observed.md` point 5).
pub const ZERO_BLOCK: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The flags of an entry, as v2 stores them (`spec/protocol.md` section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EntryFlags(u8);

impl EntryFlags {
    /// No flag: a shared object that Pithos or a client made.
    pub const NONE: EntryFlags = EntryFlags(0);
    /// The object belongs to this block alone and is written in place.
    pub const WRITABLE: EntryFlags = EntryFlags(1);
    /// Archipelago made the object: if it is missing, it reads as zeros.
    pub const ARCHIP: EntryFlags = EntryFlags(2);
    /// The block is all zeros and has no object.
    pub const ZERO: EntryFlags = EntryFlags(4);
    /// The object is gone, because the volume is being deleted. Stored together with all other
    /// flags, as 0x0f, which is what the original stored.
    pub const DELETED: EntryFlags = EntryFlags(8);
    /// What the entry of a deleted object holds.
    pub const GONE: EntryFlags = EntryFlags(0x0f);

    /// The stored byte, unless it has bits that nobody defined.
    pub fn from_bits(bits: u8) -> Result<EntryFlags, EntryFault> {
        match bits & !Self::GONE.0 {
            0 => Ok(EntryFlags(bits)),
            _ => Err(EntryFault::Flags(bits)),
        }
    }

    /// The byte to store.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: EntryFlags) -> bool {
        self & flags == flags
    }
}

impl BitOr for EntryFlags {
    type Output = EntryFlags;
    fn bitor(self, other: EntryFlags) -> EntryFlags {
        EntryFlags(self.0 | other.0)
    }
}

impl BitAnd for EntryFlags {
    type Output = EntryFlags;
    fn bitand(self, other: EntryFlags) -> EntryFlags {
        EntryFlags(self.0 & other.0)
    }
}

/// A map and the epoch of its header: what its own new objects are named after. Made by
/// [`Names::owner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub(crate) base: u32,
    pub(crate) epoch: Epoch,
    pub(crate) series: u32,
}

/// The object of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    id: u32,
    form: Form,
    flags: EntryFlags,
}

const _: () = assert!(size_of::<Entry>() == 8);

impl Entry {
    /// A block that is all zeros.
    pub const ZERO: Entry = Entry {
        id: 0,
        form: Form::Zero,
        flags: EntryFlags::ZERO,
    };

    /// The entry of a block that gets an object of its own: the next one to be written in place.
    pub fn fresh(owner: Owner) -> Entry {
        let flags = EntryFlags::WRITABLE | EntryFlags::ARCHIP;
        Entry {
            id: owner.series,
            form: Form::Own,
            flags,
        }
    }

    /// An entry for block `index` that names any object, as CREATE asks for: the zero block's
    /// name always makes a zero entry, and a given ARCHIP is dropped (`spec/protocol.md`
    /// section 5).
    pub fn given(
        names: &mut Names,
        name: &[u8],
        index: u64,
        writable: bool,
    ) -> Result<Entry, FormatError> {
        let fault = |fault| FormatError::Entry { index, fault };
        let checked = ObjectName::new(name).map_err(|error| fault(EntryFault::Name(error)))?;
        let (form, id) = names.keep(checked.as_bytes(), index)?;
        Ok(match (form, writable) {
            (Form::Zero, _) => Entry::ZERO,
            (_, true) => Entry {
                id,
                form,
                flags: EntryFlags::WRITABLE,
            },
            (_, false) => Entry {
                id,
                form,
                flags: EntryFlags::NONE,
            },
        })
    }

    /// An entry as stored: any name with any flags.
    pub(crate) fn stored(
        names: &mut Names,
        name: &[u8],
        index: u64,
        flags: EntryFlags,
    ) -> Result<Result<Entry, NameError>, FormatError> {
        if let Err(error) = ObjectName::new(name) {
            return Ok(Err(error));
        }
        let (form, id) = names.keep(name, index)?;
        Ok(Ok(Entry { id, form, flags }))
    }

    /// An entry of a v0 or v1 map. v1's writable objects are `archip_` ones.
    pub(crate) fn hashed(
        names: &mut Names,
        hash: &[u8; 32],
        writable: bool,
    ) -> Result<Entry, FormatError> {
        let (form, id) = names.keep_hash(hash, writable)?;
        let flags = match (form, writable) {
            (Form::Zero, _) => EntryFlags::ZERO,
            (_, true) => EntryFlags::WRITABLE | EntryFlags::ARCHIP,
            (_, false) => EntryFlags::NONE,
        };
        Ok(Entry { id, form, flags })
    }

    /// The flags as stored. For the question "may it be written", ask [`Entry::is_writable`].
    pub fn flags(self) -> EntryFlags {
        self.flags
    }

    /// The name of the object of block `index`, which must be this entry's block.
    pub fn name(self, names: &Names, index: u64) -> ObjectName {
        names.resolve(self.form, self.id, index)
    }

    /// Whether the block is known to be zeros without any object being read.
    pub fn is_zero(self) -> bool {
        self.flags.contains(EntryFlags::ZERO) || self.form == Form::Zero
    }

    /// Whether Archipelago made the object, so that a missing one reads as zeros and not as an
    /// error (`design.md` section 5, B1).
    pub fn is_archip(self) -> bool {
        self.flags.contains(EntryFlags::ARCHIP)
    }

    /// Whether the object was deleted together with its volume.
    pub fn is_deleted(self) -> bool {
        self.flags.contains(EntryFlags::DELETED)
    }

    /// Whether the block may be written in place. A zero block may not, and neither may an object
    /// of the volume's own name from another epoch: a snapshot raises the header's epoch before
    /// it clears WRITABLE in the entries, and dying between the two leaves exactly that.
    pub fn is_writable(self, names: &Names, owner: Owner) -> bool {
        if !self.flags.contains(EntryFlags::WRITABLE) || self.is_zero() || self.is_deleted() {
            return false;
        }
        match names.origin(self.form, self.id) {
            Some(origin) => origin.base != owner.base || origin.epoch == owner.epoch,
            None => true,
        }
    }

    /// Whether deleting the volume deletes the object: it is writable, so nobody shares it, and
    /// Archipelago made it.
    pub fn is_owned(self, names: &Names, owner: Owner) -> bool {
        self.is_archip() && self.is_writable(names, owner)
    }

    /// Whether a copy-up into `owner`'s current epoch would copy the object onto itself. Then
    /// nothing is copied and the entry becomes [`Entry::fresh`] (B7).
    pub fn is_own_already(self, owner: Owner) -> bool {
        self.form == Form::Own && self.id == owner.series
    }

    /// The entry in a snapshot or a clone, and in the source after it: shared, so not writable.
    pub fn fork(self) -> Entry {
        Entry {
            flags: self.flags & (EntryFlags::ARCHIP | EntryFlags::ZERO),
            ..self
        }
    }

    /// The entry after its object was deleted; the name stays.
    pub fn gone(self) -> Entry {
        Entry {
            flags: EntryFlags::GONE,
            ..self
        }
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
