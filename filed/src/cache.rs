//! Descriptors that are kept open, a bounded number of them (`fdcache`).
//!
//! The clock algorithm: a hand goes round; what was used since it last came by stays once more.
//! What an operation holds is never closed, so the bound may be passed by as many as are in use.
//! So does what a tag still has to sync, a few files for each tag.

use crate::object::Object;
use driver::Name;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Owners of an object that nobody uses: the map and the ring below.
const IDLE_OWNERS: usize = 2;

pub(crate) struct Cache {
    by_name: HashMap<Name, Rc<Object>>,
    ring: VecDeque<Rc<Object>>,
    capacity: usize,
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Cache {
        Cache {
            by_name: HashMap::with_capacity(capacity),
            ring: VecDeque::with_capacity(capacity),
            capacity: capacity.max(1),
        }
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&Rc<Object>> {
        let object = self.by_name.get(name)?;
        object.used.set(true);
        Some(object)
    }

    pub(crate) fn insert(&mut self, object: Rc<Object>) {
        while self.by_name.len() >= self.capacity && self.evict_one() {}
        self.ring.push_back(object.clone());
        self.by_name.insert(object.name, object);
    }

    pub(crate) fn remove(&mut self, name: &Name) {
        if self.by_name.remove(name).is_some() {
            self.ring.retain(|object| object.name != *name);
        }
    }

    /// Closes what nobody uses and `stale` says may have been replaced by another node.
    pub(crate) fn forget(&mut self, stale: impl Fn(&Name) -> bool) {
        let idle = |object: &Rc<Object>| Rc::strong_count(object) == IDLE_OWNERS;
        let names: Vec<Name> = self
            .ring
            .iter()
            .filter(|object| stale(&object.name) && idle(object))
            .map(|object| object.name)
            .collect();
        for name in names {
            self.remove(&name);
        }
    }

    fn evict_one(&mut self) -> bool {
        for _ in 0..2 * self.ring.len() {
            let Some(object) = self.ring.pop_front() else {
                return false;
            };
            if object.used.take() || Rc::strong_count(&object) > IDLE_OWNERS {
                self.ring.push_back(object);
            } else {
                self.by_name.remove(&object.name);
                return true;
            }
        }
        false
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Place;

    fn object(text: &str) -> Rc<Object> {
        let name = Name::try_from(text).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        Object::new(name, file.into(), Place::hashed(&name))
    }

    #[test]
    fn what_is_used_stays() {
        let mut cache = Cache::new(3);
        let busy = object("busy");
        cache.insert(busy.clone());
        for i in 0..20 {
            cache.insert(object(&format!("object-{i}")));
            assert!(
                cache.get(&busy.name).is_some() && cache.len() <= 3,
                "after {i}"
            );
        }
        assert!(cache.get(&Name::try_from("object-19").unwrap()).is_some());
        cache.forget(|_| true);
        assert_eq!(cache.len(), 1, "what is in use is not forgotten");
        cache.remove(&busy.name);
        assert_eq!((cache.len(), Rc::strong_count(&busy)), (0, 1));
    }
}
