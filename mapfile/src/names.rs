//! The names that the entries of a map use, each kept once.
//!
//! Always: an id is good for the `Names` that gave it, for as long as that lives; nothing is ever
//! forgotten. One `Names` per map keeps it as large as the map has distinct names. A volume of
//! 1 PiB that was never cloned has one *series* (its name and epoch) and no other name at all.

use crate::entry::Owner;
use crate::error::FormatError;
use crate::header::Epoch;
use crate::interner::Interner;
use crate::name::{self, HeaderName, ObjectName};

/// Interned object names.
#[derive(Default)]
pub struct Names {
    bases: Interner<Box<[u8]>>,
    series: Interner<Series>,
    last_own: Option<u32>,
    hashes: Interner<[u8; 32]>,
    texts: Interner<Box<[u8]>>,
}

/// What the own objects of one life of a volume have in common: `BASE_EPOCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Series {
    /// Number of the base name.
    pub(crate) base: u32,
    pub(crate) epoch: Epoch,
}

/// Where the rest of an entry's name is kept. The number means a series, a hash or a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Form {
    /// The zero block; the number is 0.
    Zero,
    /// `BASE_EPOCH_INDEX` of a series, with the index of the very block.
    Own,
    /// 64 hexadecimal digits.
    Hash,
    /// `archip_` and 64 hexadecimal digits.
    ArchipHash,
    /// Anything else, an own name with a strange index among it.
    Text,
}

impl Names {
    /// No names yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Distinct names, or name patterns, that are kept: what memory depends on.
    pub fn count(&self) -> usize {
        self.series.len() + self.hashes.len() + self.texts.len()
    }

    /// The owner against which entries are judged ([`crate::Entry::is_writable`]): the map with
    /// this header object, in the epoch of its header.
    pub fn owner(&mut self, header: &HeaderName, epoch: Epoch) -> Result<Owner, FormatError> {
        let base = self.bases.intern(header.as_bytes())?;
        let series = self.series.intern(&Series { base, epoch })?;
        Ok(Owner {
            base,
            epoch,
            series,
        })
    }

    /// Keeps `name`, as the name of the object of block `index`.
    pub(crate) fn keep(&mut self, name: &[u8], index: u64) -> Result<(Form, u32), FormatError> {
        if let Some(hash) = name::parse_hash(name) {
            return self.keep_hash(&hash, false);
        }
        if let Some(hash) = name
            .strip_prefix(name::ARCHIP_PREFIX)
            .and_then(name::parse_hash)
        {
            return self.keep_hash(&hash, true);
        }
        match name::split_object(name) {
            Some((base, epoch, own)) if own == index => self.keep_own(base, epoch),
            _ => Ok((Form::Text, self.texts.intern(name)?)),
        }
    }

    /// Keeps the name that v0 and v1 maps store as 32 bytes.
    pub(crate) fn keep_hash(
        &mut self,
        hash: &[u8; 32],
        archip: bool,
    ) -> Result<(Form, u32), FormatError> {
        match archip {
            false if *hash == crate::entry::ZERO_BLOCK => Ok((Form::Zero, 0)),
            false => Ok((Form::Hash, self.hashes.intern(hash)?)),
            true => Ok((Form::ArchipHash, self.hashes.intern(hash)?)),
        }
    }

    /// Neighbours in a map mostly belong to one series, so that the last one is tried first.
    fn keep_own(&mut self, base: &[u8], epoch: Epoch) -> Result<(Form, u32), FormatError> {
        if let Some(id) = self.last_own.filter(|&id| self.is_series(id, base, epoch)) {
            return Ok((Form::Own, id));
        }
        let base = self.bases.intern(base)?;
        let id = self.series.intern(&Series { base, epoch })?;
        self.last_own = Some(id);
        Ok((Form::Own, id))
    }

    fn is_series(&self, id: u32, base: &[u8], epoch: Epoch) -> bool {
        let series = self.series.get(id);
        series.epoch == epoch && **self.bases.get(series.base) == *base
    }

    /// The whole name again.
    pub(crate) fn resolve(&self, form: Form, id: u32, index: u64) -> ObjectName {
        match form {
            Form::Zero => name::hash_object(b"", &crate::entry::ZERO_BLOCK),
            Form::Own => {
                let series = self.series.get(id);
                name::own_object(self.bases.get(series.base), series.epoch, index)
            }
            Form::Hash => name::hash_object(b"", self.hashes.get(id)),
            Form::ArchipHash => name::hash_object(name::ARCHIP_PREFIX, self.hashes.get(id)),
            Form::Text => ObjectName::from_checked(&[self.texts.get(id)]),
        }
    }

    /// Base and epoch of a name that has the form of an own object.
    pub(crate) fn origin(&self, form: Form, id: u32) -> Option<Series> {
        match form {
            Form::Own => Some(*self.series.get(id)),
            Form::Text => {
                let (base, epoch, _) = name::split_object(self.texts.get(id))?;
                Some(Series {
                    base: self.bases.find(base)?,
                    epoch,
                })
            }
            Form::Zero | Form::Hash | Form::ArchipHash => None,
        }
    }
}
