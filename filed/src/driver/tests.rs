//! What cannot be seen from outside: short transfers, and what is remembered until a sync.

use super::*;
use crate::config::Config;
use crate::layout::Place;
use crate::spot::Spot;
use crate::tags::Tags;
use driver::Detail;
use reactor::Reactor;
use tempfile::TempDir;

struct Rig {
    filed: Filed,
    reactor: Reactor,
    dir: TempDir,
}

impl Rig {
    fn new() -> Rig {
        let (dir, reactor) = (TempDir::new().unwrap(), Reactor::new(16).unwrap());
        let config = Config {
            direct: false,
            ..Config::new(dir.path(), "node_1")
        };
        let mut filed = Filed::open(config, &reactor).unwrap();
        // The tests look at completions, so everything goes through the ring.
        let core = Rc::get_mut(&mut filed.core).expect("no task runs yet");
        core.spot = Spot::default();
        Rig {
            filed,
            reactor,
            dir,
        }
    }

    fn ask(&mut self, op: Op) -> Result<Reply, Errno> {
        let mut done = Vec::new();
        self.filed.submit(OpId(1), op);
        self.filed.poll(&mut done);
        while done.is_empty() {
            self.reactor.turn_or_wait(None).unwrap();
            self.filed.poll(&mut done);
        }
        done.remove(0).result
    }

    /// The next completion of a hot operation, not yet given to the driver.
    fn completion(&mut self) -> (usize, i32) {
        let mut completions = Vec::new();
        while completions.is_empty() {
            self.reactor.turn_or_wait(None).unwrap();
            self.filed.handler.take(&mut completions);
        }
        assert_eq!(completions.len(), 1);
        (completions[0].0 as usize, completions[0].1)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        let path = Place::hashed(name.as_bytes()).path(name.as_bytes());
        self.dir.path().join(path.to_str().unwrap())
    }

    fn tags(&self) -> &Tags {
        &self.filed.core.tags
    }
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn write(object: &str, bytes: &[u8], tag: u32) -> Op {
    let (name, buf) = (name(object), Buf::from_bytes(bytes));
    let (tag, fresh, durable) = (Tag(tag), false, false);
    Op::Write {
        name,
        offset: 0,
        buf,
        tag,
        fresh,
        durable,
    }
}

/// B5: what a short transfer left out was never asked for again, and counted as done.
#[test]
fn short_transfers_go_on() {
    let mut it = Rig::new();
    it.ask(write("short-object", &[1; 8192], 1)).unwrap();

    // The kernel wrote all of it; we say that it wrote half, and take the other half back.
    it.filed
        .submit(OpId(2), write("short-object", &[2; 8192], 1));
    let (at, result) = it.completion();
    assert_eq!(result, 8192);
    std::fs::write(it.path("short-object"), [3; 8192]).unwrap();
    assert!(it.filed.complete(at, 4096).is_none());
    let (at, result) = it.completion();
    assert_eq!(result, 4096, "only the rest is written");
    let done = it.filed.complete(at, result).unwrap();
    assert_eq!(done.result.unwrap().serviced, 8192);
    let content = std::fs::read(it.path("short-object")).unwrap();
    assert_eq!(
        (&content[..4096], &content[4096..]),
        (&[3; 4096][..], &[2; 4096][..])
    );

    let (name, buf) = (name("short-object"), Buf::new(8192));
    it.filed.submit(
        OpId(3),
        Op::Read {
            name,
            offset: 0,
            buf,
        },
    );
    let (at, _) = it.completion();
    it.filed.slots[at].as_ref().unwrap().buf.zero(1000..8192);
    assert!(it.filed.complete(at, 1000).is_none());
    let (at, _) = it.completion();
    assert!(it.filed.complete(at, -libc::EINTR).is_none());
    let (at, result) = it.completion();
    let done = it.filed.complete(at, result).unwrap();
    assert_eq!(done.buf.unwrap().to_vec(), content);
    it.filed.in_flight = 0;
}

#[test]
fn a_failed_sync_fails_again_and_for_all_that_is_unsynced() {
    let mut it = Rig::new();
    it.ask(write("object-of-two", &[1; 512], 2)).unwrap();
    it.tags().fail(Tag(1), Errno::IO);
    for tag in [1, 2, 1] {
        assert_eq!(it.ask(Op::Sync { tag: Tag(tag) }).unwrap_err(), Errno::IO);
    }
    it.ask(Op::Sync { tag: Tag(3) }).unwrap();
    it.ask(Op::Forget { tag: Tag(1) }).unwrap();
    it.ask(Op::Sync { tag: Tag(1) }).unwrap();
}

/// B9: the entry of a new object, and those of the directories made for it, are synced with it.
#[test]
fn new_entries_are_remembered_until_they_are_durable() {
    let mut it = Rig::new();
    let place = |text: &str| Place::hashed(text.as_bytes());
    it.ask(write("volatile-object", &[1; 512], 1)).unwrap();
    assert_eq!(
        it.tags().unsynced_entries(),
        4,
        "the object and three directories"
    );
    it.ask(write("durable-object", &[1; 512], 0)).unwrap();
    assert!(it.tags().has_new_entry(place("volatile-object")));
    assert!(!it.tags().has_new_entry(place("durable-object")));
    it.ask(Op::Sync { tag: Tag(2) }).unwrap();
    assert!(
        it.tags().has_new_entry(place("volatile-object")),
        "of another tag"
    );
    it.ask(Op::Sync { tag: Tag(1) }).unwrap();
    assert_eq!(it.tags().unsynced_entries(), 0);
    for i in 0..30 {
        it.ask(write(&format!("one-of-many-{i}"), &[1; 512], 1))
            .unwrap();
    }
    assert!(it.tags().unsynced_entries() >= 30);
    it.ask(Op::Sync { tag: Tag(1) }).unwrap();
    assert_eq!(it.tags().unsynced_entries(), 0);
    let delete = |durable| Op::Delete {
        name: name("durable-object"),
        durable,
    };
    it.ask(delete(false)).unwrap();
    assert_eq!(it.tags().unsynced_entries(), 1);
    it.ask(Op::Sync { tag: Tag(9) }).unwrap();
    assert_eq!(
        it.tags().unsynced_entries(),
        0,
        "a sync of any tag is enough for a removal"
    );
}

/// A write that was answered after a sync began belongs to the next one.
#[test]
fn what_is_written_after_a_sync_is_dirty_again() {
    let mut it = Rig::new();
    for _ in 0..3 {
        it.ask(write("dirty-object", &[1; 512], 1)).unwrap();
        it.ask(write("dirty-object", &[1; 512], 1)).unwrap();
        assert_eq!(it.tags().unsynced_objects(Tag(1)), 1);
        it.ask(Op::Sync { tag: Tag(1) }).unwrap();
        assert_eq!(it.tags().unsynced_objects(Tag(1)), 0);
    }
}

/// The first sync after a start cannot know what a predecessor wrote.
#[test]
fn a_successor_begins_with_a_baseline() {
    let mut it = Rig::new();
    assert!(it.tags().has_baseline(), "the directory was new");
    it.ask(write("predecessors", &[1; 512], 1)).unwrap();
    let config = Config {
        direct: false,
        ..Config::new(it.dir.path(), "node_1")
    };
    it.filed = Filed::open(config, &it.reactor).unwrap();
    assert!(!it.tags().has_baseline());
    it.ask(write("predecessors", &[2; 512], 0)).unwrap();
    assert!(it.tags().has_baseline(), "a durable write needs it too");
    let info = it
        .ask(Op::Info {
            name: name("predecessors"),
        })
        .unwrap();
    assert!(matches!(info.detail, Detail::Size(512)));
}

/// B17: a failed unaligned write kept a lock that all unaligned writers shared.
#[test]
fn a_failed_write_is_in_nobodys_way() {
    let mut it = Rig::new();
    it.ask(write("blocked-object", &[1; 512], 1)).unwrap();
    let object = it
        .filed
        .core
        .cache
        .borrow()
        .get(&name("blocked-object"))
        .cloned()
        .unwrap();
    it.filed
        .submit(OpId(5), write("blocked-object", &[2; 100], 1));
    let (at, _) = it.completion();
    assert!(!object.ranges.try_take(&(0..1)));
    assert_eq!(
        it.filed
            .complete(at, -libc::ENOSPC)
            .unwrap()
            .result
            .unwrap_err(),
        Errno::NOSPC
    );
    it.filed.in_flight = 0;
    assert!(object.ranges.try_take(&(0..1)), "the range is free again");
    object.ranges.give_back(&(0..1));
    it.ask(write("blocked-object", &[3; 100], 1)).unwrap();
    it.ask(Op::Sync { tag: Tag(1) }).unwrap();
}

/// The same for a write that changes a part of a block: it reads first, and holds the whole block.
#[test]
fn a_failed_unaligned_write_is_in_nobodys_way() {
    let mut it = Rig::new();
    let config = Config::new(it.dir.path(), "node_1");
    it.filed = Filed::open(config, &it.reactor).unwrap();
    let mut options = std::fs::File::options();
    let full = options.read(true).write(true).open("/dev/full").unwrap();
    let object = Object::new(
        name("full-object"),
        full.into(),
        Place::hashed(b"full-object"),
    );
    it.filed.core.cache.borrow_mut().insert(object.clone());
    for _ in 0..2 {
        let written = it.ask(write("full-object", &[1; 100], 1));
        assert_eq!(written.unwrap_err(), Errno::NOSPC);
        assert!(object.ranges.try_take(&(0..1)), "the block is free again");
        object.ranges.give_back(&(0..1));
    }
}

/// B4: a copy whose source was cut meanwhile went on for ever.
#[test]
fn a_copy_ends_where_its_source_was_cut() {
    for by_hand in [false, true] {
        let mut it = Rig::new();
        it.ask(write("cut-source", &[1; 8192], 1)).unwrap();
        it.ask(write("copy-target", &[], 1)).unwrap();
        let core = it.filed.core.clone();
        let object = |text| core.cache.borrow().get(&name(text)).cloned().unwrap();
        let (source, target) = (object("cut-source"), object("copy-target"));
        let (copying, ended) = (core.clone(), Rc::new(std::cell::Cell::new(None)));
        let end = ended.clone();
        core.executor.spawn(async move {
            // It had 16 KiB when the copy began.
            let copied = match by_hand {
                true => copying.copy_by_hand(&source, &target, 16384).await,
                false => copying.copy_into(&source, &target, 16384, false).await,
            };
            end.set(Some(copied));
        });
        let begun = std::time::Instant::now();
        let copied = loop {
            if let Some(copied) = ended.take() {
                break copied;
            }
            assert!(begun.elapsed().as_secs() < 20, "the copy never ends");
            it.reactor.turn_or_wait(Some(50_000_000)).unwrap();
        };
        copied.unwrap();
        let content = std::fs::read(it.path("copy-target")).unwrap();
        assert_eq!(content, [[1; 8192], [0; 8192]].concat());
    }
}

/// The lists of all tags together keep no more files open than the cache does.
#[test]
fn many_tags_do_not_use_up_the_descriptors() {
    let mut it = Rig::new();
    let config = Config {
        direct: false,
        fdcache: 10,
        ..Config::new(it.dir.path(), "node_1")
    };
    it.filed = Filed::open(config, &it.reactor).unwrap();
    for tag in 1..40 {
        let object = format!("object-of-tag-{tag}");
        it.ask(write(&object, &[1; 512], tag)).unwrap();
    }
    let listed: usize = (1..40)
        .map(|tag| it.tags().unsynced_objects(Tag(tag)))
        .sum();
    assert_eq!(listed, 10);
    for tag in 1..40 {
        it.ask(Op::Sync { tag: Tag(tag) }).unwrap();
    }
    assert_eq!(it.tags().unsynced_entries(), 0);
}
