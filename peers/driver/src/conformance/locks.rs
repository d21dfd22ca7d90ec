//! Stories of locks, between two drivers over one storage.

use super::*;
use crate::LockReply;

pub(super) const STORIES: &[fn(&dyn World)] = &[
    one_holder,
    force_breaks,
    names_do_not_mix,
    who_waits_hears_of_a_release,
];

fn lock(answer: Answer) -> Result<LockReply, Errno> {
    match answer?.detail {
        Detail::Lock(reply) => Ok(*reply),
        other => panic!("a lock operation answered {other:?}"),
    }
}

impl Subject {
    fn acquire(&mut self, name: &Name) -> Result<LockReply, Errno> {
        lock(self.ask(Op::Acquire { name: *name }))
    }
    fn release(&mut self, name: &Name, force: bool) -> Result<LockReply, Errno> {
        lock(self.ask(Op::Release { name: *name, force }))
    }
    /// The storage refuses it: its write neither lands nor is answered, and it says why.
    fn is_cut_off(&mut self) {
        let object = name("written-by-the-fenced");
        let op = write(&object, 0, b"late", crate::Tag::NONE);
        self.rig.driver.submit(OpId(u64::MAX), op);
        let mut done = Vec::new();
        while self.rig.driver.lost().is_none() {
            self.rig.driver.poll(&mut done);
            assert!(done.is_empty(), "{done:?}");
            if self.rig.driver.lost().is_none() {
                (self.rig.pump)();
            }
        }
    }
    /// Waits until it hears that some lock is free; which.
    fn hears(&mut self) -> Vec<Name> {
        let (mut done, mut freed) = (Vec::new(), Vec::new());
        loop {
            self.rig.driver.poll(&mut done);
            self.rig.driver.freed_locks(&mut freed);
            if !freed.is_empty() {
                return freed;
            }
            (self.rig.pump)();
        }
    }
    fn holder(&mut self, name: &Name) -> Option<crate::LockHolder> {
        lock(self.ask(Op::LockInfo { name: *name })).unwrap().holder
    }
}

fn one_holder(world: &dyn World) {
    let mut ours = Subject::new(world.open("node_100"));
    // B8: the original took `node_1002` for a lock of `node_100`, because one begins like the other.
    let mut other = Subject::new(world.open("node_1002"));
    let volume = name("locked-volume");
    assert_eq!(ours.holder(&volume), None);
    assert_eq!(ours.release(&volume, false), Err(Errno::NOENT));
    assert_eq!(ours.release(&volume, true), Err(Errno::NOENT));
    assert!(!ours.rig.driver.lock_is_held(&volume));

    assert!(!ours.acquire(&volume).unwrap().already_ours);
    assert!(ours.acquire(&volume).unwrap().already_ours);
    assert!(ours.rig.driver.lock_is_held(&volume));
    assert_eq!(other.acquire(&volume), Err(Errno::BUSY));
    assert_eq!(other.release(&volume, false), Err(Errno::PERM));
    assert!(!other.rig.driver.lock_is_held(&volume));
    let seen = other.holder(&volume).unwrap();
    assert_eq!((&seen.owner[..], seen.ours), (&b"node_100"[..], false));
    assert!(ours.holder(&volume).unwrap().ours);

    assert_eq!(ours.release(&volume, false).unwrap(), LockReply::default());
    assert!(!ours.rig.driver.lock_is_held(&volume));
    assert_eq!(
        ours.release(&volume, false),
        Err(Errno::NOENT),
        "a second release fails"
    );
    assert!(!other.acquire(&volume).unwrap().already_ours);
    assert_eq!(
        ours.acquire(&volume),
        Err(Errno::BUSY),
        "a longer owner is not ours"
    );
    other.release(&volume, false).unwrap();
}

fn force_breaks(world: &dyn World) {
    let mut ours = Subject::new(world.open("node_1"));
    let mut other = Subject::new(world.open("node_2"));
    let volume = name("broken-volume");
    ours.acquire(&volume).unwrap();
    let broken = other.release(&volume, true).unwrap();
    assert_eq!(broken.ended.unwrap().owner, b"node_1");
    assert_eq!(broken.holder, None);
    if ours.rig.driver.capabilities().fences {
        ours.is_cut_off();
        // What takes its place is another holder, as far as the storage knows.
        ours = Subject::new(world.open("node_1"));
    }
    assert!(
        !ours.rig.driver.lock_is_held(&volume),
        "a broken lock is seen"
    );
    other.acquire(&volume).unwrap();
    assert!(!ours.rig.driver.lock_is_held(&volume));
    assert_eq!(ours.release(&volume, false), Err(Errno::PERM));
    assert!(
        other.rig.driver.lock_is_held(&volume),
        "and does not end its successor"
    );
    assert_eq!(ours.acquire(&volume), Err(Errno::BUSY));
    other.release(&volume, true).unwrap();
    assert!(!other.rig.driver.lock_is_held(&volume));
    assert!(!ours.acquire(&volume).unwrap().already_ours);
    ours.release(&volume, false).unwrap();
    let late = name("written-by-the-fenced");
    assert_eq!(other.size(&late), Err(Errno::NOENT), "nothing late landed");
}

fn names_do_not_mix(world: &dyn World) {
    let mut ours = Subject::new(world.open("node_1"));
    let volumes: Vec<_> = (0..30).map(|i| name(&format!("volume-{i}"))).collect();
    let acquire = |name: &Name| Op::Acquire { name: *name };
    let done = ours.ask_all(volumes.iter().map(acquire).collect());
    assert!(done.iter().all(|done| done.result.is_ok()), "{done:?}");
    ours.release(&volumes[3], false).unwrap();
    for (i, volume) in volumes.iter().enumerate() {
        assert_eq!(ours.rig.driver.lock_is_held(volume), i != 3);
    }
    let object = name("volume-3");
    ours.write(&object, 0, b"an object with a lock's volume's name")
        .unwrap();
    assert!(ours.rig.driver.lock_is_held(&volumes[4]));
}

fn who_waits_hears_of_a_release(world: &dyn World) {
    let mut ours = Subject::new(world.open("node_1"));
    let mut other = Subject::new(world.open("node_2"));
    let (volume, another) = (name("awaited-volume"), name("another-volume"));
    for volume in [&volume, &another] {
        other.acquire(volume).unwrap();
        assert_eq!(ours.acquire(volume), Err(Errno::BUSY));
    }
    if !ours.rig.driver.capabilities().hears {
        return;
    }
    // Twice: it is heard once all the same.
    ours.rig.driver.await_lock(&volume);
    ours.rig.driver.await_lock(&volume);
    ours.rig.driver.await_lock(&another);
    other.release(&volume, false).unwrap();
    assert_eq!(ours.hears(), [volume]);
    assert!(!ours.acquire(&volume).unwrap().already_ours);
    ours.release(&volume, false).unwrap();
    // It was free before anybody listened.
    ours.rig.driver.await_lock(&volume);
    assert_eq!(ours.hears(), [volume]);
    other.release(&another, false).unwrap();
    assert_eq!(ours.hears(), [another]);
}
