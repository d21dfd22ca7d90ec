//! What is known of a volume's map: four bytes for each block, in pages that come into being when
//! a block of theirs is learnt.
//!
//! An object name that ends in the block's own index (all that Archipelago makes) is kept as its
//! interned beginning; other names (Pithos hashes) are interned whole.

use std::collections::HashMap;
use xseg::Name;
use xseg::protocol::{MapSegment, mapflags};

const PAGE: u64 = 1024;
const KNOWN: u32 = 1;
const ZERO: u32 = 2;
const WRITABLE: u32 = 4;
const ARCHIP: u32 = 8;
const OWN_INDEX: u32 = 16;
const ID_SHIFT: u32 = 5;
const ID_MAX: u32 = u32::MAX >> ID_SHIFT;
const HEX_LEN: usize = 16;

/// Where a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// It reads as zeros, there is no object.
    pub(crate) zero: bool,
    /// It may be written in place.
    pub(crate) writable: bool,
    /// A missing object reads as zeros.
    pub(crate) archip: bool,
    cell: u32,
}

/// What is known of a map.
#[derive(Debug, Default)]
pub(crate) struct BlockMap {
    pages: Vec<Option<Box<[u32; PAGE as usize]>>>,
    names: Vec<Box<[u8]>>,
    ids: HashMap<Box<[u8]>, u32>,
}

impl BlockMap {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = BlockMap::default();
    }

    /// What is known of block `index`.
    pub(crate) fn get(&self, index: u64) -> Option<Block> {
        let page = self
            .pages
            .get(usize::try_from(index / PAGE).ok()?)?
            .as_ref()?;
        let cell = page[(index % PAGE) as usize];
        (cell & KNOWN != 0).then_some(Block {
            zero: cell & ZERO != 0,
            writable: cell & WRITABLE != 0,
            archip: cell & ARCHIP != 0,
            cell,
        })
    }

    /// The object of a block that [`BlockMap::get`] returned for `index`.
    pub(crate) fn object(&self, index: u64, block: Block) -> Name {
        let base = &self.names[(block.cell >> ID_SHIFT) as usize];
        if block.cell & OWN_INDEX == 0 {
            return Name::new(base).unwrap_or_default();
        }
        let mut bytes = [0; 256];
        bytes[..base.len()].copy_from_slice(base);
        put_hex(&mut bytes[base.len()..base.len() + HEX_LEN], index);
        Name::new(&bytes[..base.len() + HEX_LEN]).unwrap_or_default()
    }

    /// Learns where block `index` is.
    pub(crate) fn learn(&mut self, index: u64, segment: &MapSegment) {
        let Ok(page) = usize::try_from(index / PAGE) else {
            return;
        };
        let Some(cell) = self.cell(index, segment) else {
            return;
        };
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([0; PAGE as usize]));
        page[(index % PAGE) as usize] = cell;
    }

    fn cell(&mut self, index: u64, segment: &MapSegment) -> Option<u32> {
        let flag = |mask, bit| if segment.flags & mask != 0 { bit } else { 0 };
        let flags = KNOWN
            | flag(mapflags::ZERO, ZERO)
            | flag(mapflags::WRITABLE, WRITABLE)
            | flag(mapflags::ARCHIP, ARCHIP);
        let mut hex = [0; HEX_LEN];
        put_hex(&mut hex, index);
        match segment.name.strip_suffix(&hex[..]) {
            Some(base) => Some(flags | OWN_INDEX | self.intern(base)? << ID_SHIFT),
            None => Some(flags | self.intern(&segment.name)? << ID_SHIFT),
        }
    }

    fn intern(&mut self, name: &[u8]) -> Option<u32> {
        if let Some(&id) = self.ids.get(name) {
            return Some(id);
        }
        let id = u32::try_from(self.names.len())
            .ok()
            .filter(|&id| id <= ID_MAX)?;
        self.names.push(name.into());
        self.ids.insert(name.into(), id);
        Some(id)
    }
}

fn put_hex(out: &mut [u8], value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (i, digit) in out.iter_mut().enumerate() {
        *digit = DIGITS[(value >> (60 - 4 * i) & 15) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(name: &str, flags: u32) -> MapSegment {
        MapSegment {
            name: Name::try_from(name).unwrap(),
            flags,
            offset: 0,
            size: 0,
        }
    }

    #[test]
    fn nothing_is_known_at_first() {
        assert_eq!(BlockMap::default().get(7), None);
    }

    proptest! {
        #[test]
        fn a_name_comes_back_whole(index in 0u64..5000, epoch: u64, own: bool) {
            let shown = if own { index } else { index + 1 };
            let name = format!("vol-1_{epoch:016x}_{shown:016x}");
            let mut map = BlockMap::default();
            map.learn(index, &segment(&name, mapflags::WRITABLE));
            let block = map.get(index).unwrap();
            prop_assert!(block.writable && !block.zero && !block.archip);
            prop_assert_eq!(map.object(index, block), Name::try_from(&name[..]).unwrap());
        }
    }

    #[test]
    fn blocks_of_one_epoch_share_one_name() {
        let mut map = BlockMap::default();
        for index in 0..3000 {
            map.learn(index, &segment(&format!("v_{:016x}_{index:016x}", 1), 0));
        }
        assert_eq!(map.names.len(), 1);
    }
}
