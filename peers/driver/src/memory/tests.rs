//! What only the memory driver promises: late landings, lost power, faults from a seed.

use super::*;
use crate::{Buf, conformance};
use std::cell::Cell;

struct Memory(MemoryStore, Option<Faults>);

impl conformance::World for Memory {
    fn open(&self, owner: &str) -> conformance::Rig {
        let driver = match &self.1 {
            None => MemoryDriver::new(&self.0, owner),
            Some(faults) => MemoryDriver::with_faults(&self.0, owner, faults.clone()),
        };
        conformance::Rig {
            driver: Box::new(driver),
            pump: Box::new(|| ()),
        }
    }
}

/// A small generator, so that a seed is all there is to remember.
fn chooser(seed: u64) -> Rc<dyn Fn() -> u64> {
    let state = Cell::new(seed);
    Rc::new(move || {
        let mut x = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(x);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    })
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn write(at: u64, bytes: &[u8], tag: u32) -> Op {
    Op::Write {
        name: name("object"),
        offset: at,
        buf: Buf::from_bytes(bytes),
        tag: Tag(tag),
        fresh: false,
        durable: false,
    }
}

#[test]
fn conforms() {
    conformance::run(|| Memory(MemoryStore::new(), None));
}

#[test]
fn conforms_when_it_delays_and_reorders() {
    for seed in 0..8 {
        let faults = Faults {
            choose: chooser(seed),
            delay: 128,
            fail: Rc::new(|_| None),
        };
        conformance::run(|| Memory(MemoryStore::new(), Some(faults.clone())));
    }
}

#[test]
fn writes_of_the_dead_land_until_the_drain() {
    let store = MemoryStore::new();
    let mut driver = MemoryDriver::new(&store, "node_1");
    driver.submit(OpId(1), write(0, b"late", 1));
    drop(driver);
    assert_eq!((store.late(), store.content(&name("object"))), (1, None));
    store.drain();
    assert_eq!(store.late(), 0);
    assert_eq!(store.content(&name("object")).unwrap(), b"late");
}

#[test]
fn lost_power_takes_back_only_what_was_not_synced() {
    let mut lost = 0;
    for seed in 0..64 {
        let store = MemoryStore::new();
        let mut driver = MemoryDriver::new(&store, "node_1");
        let mut done = Vec::new();
        driver.submit(OpId(1), write(0, &[1; 2048], 7));
        driver.submit(OpId(2), Op::Sync { tag: Tag(7) });
        driver.submit(OpId(3), write(0, &[2; 1024], 7));
        driver.submit(OpId(4), Op::Sync { tag: Tag(8) });
        driver.poll(&mut done);
        assert!(done.iter().all(|done| done.result.is_ok()));
        store.lose_power(&*chooser(seed));
        let content = store.content(&name("object")).unwrap();
        assert_eq!(content[1024..], [1; 1024]);
        for sector in content[..1024].chunks(512) {
            assert!(sector == [1; 512] || sector == [2; 512]);
            lost += usize::from(sector == [1; 512]);
        }
    }
    assert!((32..96).contains(&lost), "of 128 sectors {lost} were lost");
}

#[test]
fn a_failed_sync_fails_again_until_the_tag_is_forgotten() {
    let store = MemoryStore::new();
    let once = Cell::new(true);
    let faults = Faults {
        choose: chooser(0),
        delay: 0,
        fail: Rc::new(move |op| {
            (matches!(op, Op::Sync { .. }) && once.replace(false)).then_some(Errno::IO)
        }),
    };
    let mut driver = MemoryDriver::with_faults(&store, "node_1", faults);
    let mut ask = |op| {
        let mut done = Vec::new();
        driver.submit(OpId(1), op);
        driver.poll(&mut done);
        done.remove(0).result.map(|_| ())
    };
    assert_eq!(ask(Op::Sync { tag: Tag(1) }), Err(Errno::IO));
    assert_eq!(ask(Op::Sync { tag: Tag(1) }), Err(Errno::IO));
    assert_eq!(ask(Op::Sync { tag: Tag(2) }), Ok(()));
    assert_eq!(ask(Op::Forget { tag: Tag(1) }), Ok(()));
    assert_eq!(ask(Op::Sync { tag: Tag(1) }), Ok(()));
}
