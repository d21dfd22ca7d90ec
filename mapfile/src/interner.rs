//! A set whose members have numbers: each distinct value is stored once and known by a `u32`.
//!
//! Always: `items[id]` never changes and is never removed, so an id stays good as long as its
//! interner. `table` holds ids only and is at most half full; it is open-addressed with linear
//! probing, which costs four to eight bytes per member where a `HashMap` would store every member
//! twice. Ids are given in order of arrival and do not depend on the hash seed.

use crate::error::FormatError;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, RandomState};

const FREE: u32 = u32::MAX;

pub(crate) struct Interner<T> {
    items: Vec<T>,
    table: Vec<u32>,
    seed: RandomState,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner {
            items: Vec::new(),
            table: Vec::new(),
            seed: RandomState::new(),
        }
    }
}

impl<T> Interner<T> {
    /// The member with this number, which must come from this interner.
    pub(crate) fn get(&self, id: u32) -> &T {
        &self.items[id as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The number of `key`, if it is a member.
    pub(crate) fn find<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
    {
        let slot = self.slot_of(key)?;
        (self.table[slot] != FREE).then_some(self.table[slot])
    }

    /// The number of `key`, which becomes a member if it is none.
    pub(crate) fn intern<Q: Hash + Eq + ToOwned + ?Sized>(
        &mut self,
        key: &Q,
    ) -> Result<u32, FormatError>
    where
        T: Borrow<Q> + From<Q::Owned>,
    {
        if let Some(id) = self.find(key) {
            return Ok(id);
        }
        let id = u32::try_from(self.items.len())
            .ok()
            .filter(|&id| id != FREE);
        let id = id.ok_or(FormatError::NamesExhausted)?;
        self.make_room::<Q>();
        self.items.push(T::from(key.to_owned()));
        if let Some(slot) = self.slot_of(key) {
            self.table[slot] = id;
        }
        Ok(id)
    }

    /// The slot that holds `key`, or the free one where it belongs. None in an empty table.
    fn slot_of<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        T: Borrow<Q>,
    {
        let mask = self.table.len().checked_sub(1)?;
        let mut slot = self.seed.hash_one(key) as usize & mask;
        while self.table[slot] != FREE && self.get(self.table[slot]).borrow() != key {
            slot = (slot + 1) & mask;
        }
        Some(slot)
    }

    /// Doubles the table when one more member would fill more than half of it.
    fn make_room<Q: Hash + Eq + ?Sized>(&mut self)
    where
        T: Borrow<Q>,
    {
        if 2 * (self.items.len() + 1) <= self.table.len() {
            return;
        }
        self.table = vec![FREE; (2 * self.table.len()).max(8)];
        for id in 0..self.items.len() as u32 {
            let slot = self.slot_of::<Q>(self.get(id).borrow());
            self.table[slot.expect("the table was just made")] = id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_number_in_order_of_arrival() {
        let mut names = Interner::<Box<[u8]>>::default();
        let key = |i: u32| format!("name {i}").into_bytes();
        for round in 0..2 {
            for i in 0..5000 {
                assert_eq!(names.intern::<[u8]>(&key(i)), Ok(i), "round {round}");
            }
        }
        assert_eq!(names.len(), 5000);
        assert_eq!(**names.get(4999), *b"name 4999");
        assert_eq!(names.find::<[u8]>(b"name 17"), Some(17));
        assert_eq!(names.find::<[u8]>(b"name 5000"), None);
    }
}
