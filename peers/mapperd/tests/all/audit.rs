//! What must hold of the stored maps, whatever happened before: read with a decoder of its own.

use crate::rig::{Rig, hex};
use std::collections::HashMap;

struct Stored {
    volume: String,
    deleted: bool,
    readonly: bool,
    epoch: u64,
    entries: Vec<(u8, String)>,
}

fn maps(rig: &Rig) -> Vec<Stored> {
    let mut maps = Vec::new();
    for name in rig.maps.names() {
        let volume = String::from_utf8(name.as_bytes().to_vec()).unwrap();
        let head = rig.stored(&volume).unwrap();
        if !head.starts_with(b"AMF.") {
            continue;
        }
        let be = |at: usize, len: usize| {
            head[at..at + len]
                .iter()
                .fold(0u64, |value, &byte| value << 8 | u64::from(byte))
        };
        let (size, block, flags, epoch) = (be(8, 8), be(16, 4), be(20, 4), be(24, 8));
        let count = size.div_ceil(block) as usize;
        let deleted = flags & 2 != 0;
        let chunk = rig.stored(&format!("{volume}_{:016x}", 0));
        let entries = match chunk {
            Some(_) => rig.entries(&volume).into_iter().take(count).collect(),
            None if deleted => Vec::new(),
            None => panic!("{volume} has no chunk"),
        };
        assert!(
            deleted || entries.len() == count,
            "{volume} has all its entries"
        );
        maps.push(Stored {
            volume,
            deleted,
            readonly: flags & 1 != 0,
            epoch,
            entries,
        });
    }
    maps
}

impl Stored {
    /// Whether the map may write this object in place: the flag, and no older epoch of its own.
    fn may_write(&self, flags: u8, object: &str) -> bool {
        let own = object.strip_prefix(&format!("{}_", self.volume));
        let epoch = own.and_then(|rest| u64::from_str_radix(rest.get(..16)?, 16).ok());
        flags & 0x0d == 1 && epoch.is_none_or(|epoch| epoch == self.epoch)
    }
}

/// Checks what the maps say of each other.
pub(crate) fn check_maps(rig: &Rig) {
    let maps = maps(rig);
    let mut writers: HashMap<&str, &str> = HashMap::new();
    for map in maps.iter().filter(|m| !m.deleted) {
        for (flags, object) in &map.entries {
            if map.may_write(*flags, object) {
                assert!(
                    !map.readonly,
                    "{} is read-only and owns {object}",
                    map.volume
                );
                let before = writers.insert(object, &map.volume);
                assert!(
                    before.is_none(),
                    "{object} is written by {} and {before:?}",
                    map.volume
                );
            }
            assert_ne!(*flags, 0x0f, "{} lives and has a deleted entry", map.volume);
        }
    }
    for map in maps.iter().filter(|m| !m.deleted) {
        for (flags, object) in &map.entries {
            if !map.may_write(*flags, object) && flags & 4 == 0 {
                let writer = writers.get(object.as_str());
                assert!(
                    writer.is_none(),
                    "{object} is shared by {} and written",
                    map.volume
                );
            }
        }
    }
    // What a deleted map still owns would be removed when its name is used again.
    let is_noted = |map: &Stored| {
        rig.stored(&format!("{}_{:016x}", map.volume, u64::MAX))
            .is_some()
    };
    for map in maps.iter().filter(|m| m.deleted && !is_noted(m)) {
        for (flags, object) in &map.entries {
            let owned = flags & 2 != 0 && map.may_write(*flags, object);
            let alive = writers.contains_key(object.as_str());
            assert!(
                !(owned && alive),
                "{object} lives and deleted {} owns it",
                map.volume
            );
        }
    }
}

/// Checks everything; no operation is under way, and all that was left over is settled.
pub(crate) fn check(rig: &Rig) {
    check_maps(rig);
    assert_eq!(rig.buffers_in_use(), 0, "buffers are left");
    for name in rig.maps.names() {
        let end = hex(name.as_bytes());
        assert!(
            !end.ends_with(&hex(b"_ffffffffffffffff")),
            "a note of a rename is left: {name}"
        );
    }
}
