//! Stories of objects: read, write, zeroes, truncate, copy, delete, info, hash, list.

use super::*;
use std::collections::BTreeSet;

pub(super) const STORIES: &[fn(&mut Subject)] = &[
    missing_objects,
    what_was_written_is_read,
    unaligned_edges_keep_their_neighbours,
    neighbours_in_one_sector_written_together,
    reads_past_the_end_are_zeros,
    empty_writes_create,
    fresh_empties_leftovers,
    zeroes_never_grow,
    truncate_cuts_and_grows,
    copy_replaces,
    copy_of_nothing_touches_nothing,
    copy_is_cut,
    delete_removes_once,
    hash_names_content,
    list_is_complete,
    what_was_made_here_need_not_move,
    impossible_ranges_are_refused,
    many_at_once,
];

fn what_was_made_here_need_not_move(s: &mut Subject) {
    let hash = "0123456789abcdef".repeat(4);
    for object in ["archip_volume", &hash, "volume"] {
        s.write(&name(object), 0, &pattern(9, 512)).unwrap();
    }
    let look = Op::Migrate {
        cursor: 0,
        max: 1000,
        look: true,
    };
    let Detail::Moved(moved) = s.ask(look).unwrap().detail else {
        panic!("MIGRATE says what has moved");
    };
    let none = (moved.moved, moved.directories, moved.left.len());
    assert_eq!((none, moved.next), ((0, 0, 0), None));
    assert_eq!(s.read(&name(&hash), 0, 512).unwrap(), pattern(9, 512));
}

fn missing_objects(s: &mut Subject) {
    let gone = name("missing-object");
    assert_eq!(s.read(&gone, 0, 512), Err(Errno::NOENT));
    assert_eq!(s.read(&gone, 0, 0), Err(Errno::NOENT));
    assert_eq!(s.size(&gone), Err(Errno::NOENT));
    assert_eq!(s.hash(&gone, 4096), Err(Errno::NOENT));
    let delete = Op::Delete {
        name: gone,
        durable: true,
    };
    assert_eq!(s.ask(delete).unwrap_err(), Errno::NOENT);
    assert_eq!(truncate(s, &gone, 512, false), Err(Errno::NOENT));
    assert_eq!(zeroes(s, &gone, 0, 4096), Ok(4096));
    assert_eq!(s.size(&gone), Err(Errno::NOENT), "none of these creates it");
}

fn what_was_written_is_read(s: &mut Subject) {
    let object = name("volume_0000000000000001_0000000000000000");
    let data = pattern(1, 3 * 4096);
    assert_eq!(s.write(&object, 0, &data), Ok(3 * 4096));
    assert_eq!(s.write(&object, 4096, &pattern(2, 4096)), Ok(4096));
    assert_eq!(s.read(&object, 0, 4096).unwrap(), data[..4096]);
    assert_eq!(s.read(&object, 4096, 4096).unwrap(), pattern(2, 4096));
    assert_eq!(s.read(&object, 8192, 4096).unwrap(), data[8192..]);
    assert_eq!(s.size(&object), Ok(3 * 4096));
}

fn unaligned_edges_keep_their_neighbours(s: &mut Subject) {
    let object = name("unaligned");
    let mut model = pattern(3, 10_000);
    s.write(&object, 0, &model).unwrap();
    for (at, len) in [
        (0, 1),
        (511, 2),
        (513, 300),
        (1000, 5000),
        (4095, 4098),
        (9999, 1),
    ] {
        let patch = pattern(at as u8, len);
        assert_eq!(s.write(&object, at as u64, &patch), Ok(len as u64));
        model[at..at + len].copy_from_slice(&patch);
        assert_eq!(
            s.read(&object, 0, 10_000).unwrap(),
            model,
            "after {len} at {at}"
        );
        assert_eq!(s.read(&object, at as u64, len).unwrap(), patch);
    }
    assert_eq!(s.size(&object), Ok(s.rounded(10_000)));
}

/// B17's neighbourhood: read-modify-write of one sector by several writers loses nobody's bytes.
fn neighbours_in_one_sector_written_together(s: &mut Subject) {
    let object = name("neighbours");
    for round in 0..3 {
        let ops = (0..64).map(|i| write(&object, i * 16, &[round * 64 + i as u8; 16], Tag::NONE));
        let mut ops: Vec<_> = ops.collect();
        ops.push(write(&object, 1024, &[round; 4096], Tag::NONE));
        let done = s.ask_all(ops);
        assert!(done.iter().all(|done| done.result.is_ok()), "{done:?}");
        let content = s.read(&object, 0, 1024).unwrap();
        for (i, piece) in content.chunks(16).enumerate() {
            assert_eq!(
                piece,
                [round * 64 + i as u8; 16],
                "piece {i} of round {round}"
            );
        }
        assert_eq!(s.read(&object, 1024, 4096).unwrap(), [round; 4096]);
    }
}

fn reads_past_the_end_are_zeros(s: &mut Subject) {
    let object = name("short-object");
    s.write(&object, 0, b"short").unwrap();
    let mut expected = vec![0; 4096];
    expected[..5].copy_from_slice(b"short");
    assert_eq!(s.read(&object, 0, 4096).unwrap(), expected);
    assert_eq!(s.read(&object, 1 << 20, 4096).unwrap(), [0; 4096]);
    assert_eq!(s.read(&object, 3, 1000).unwrap(), expected[3..1003]);
    assert_eq!(s.read(&object, 4, 1).unwrap(), b"t");
    s.write(&object, 8192, &[7; 512]).unwrap();
    assert_eq!(
        s.read(&object, 4096, 4096).unwrap(),
        [0; 4096],
        "a hole is zeros"
    );
}

fn empty_writes_create(s: &mut Subject) {
    let object = name("empty-object");
    assert_eq!(s.write(&object, 0, b""), Ok(0));
    assert_eq!(s.size(&object), Ok(0));
    assert_eq!(s.read(&object, 0, 0).unwrap(), b"");
    assert_eq!(s.read(&object, 0, 512).unwrap(), [0; 512]);
    s.write(&object, 0, &[5; 512]).unwrap();
    assert_eq!(s.write(&object, 0, b""), Ok(0));
    assert_eq!(
        s.size(&object),
        Ok(512),
        "an empty write leaves an object alone"
    );
}

fn fresh_empties_leftovers(s: &mut Subject) {
    let object = name("leftover");
    s.write(&object, 0, &pattern(4, 8192)).unwrap();
    let op = Op::Write {
        name: object,
        offset: 512,
        buf: Buf::from_bytes(&[9; 512]),
        tag: Tag(3),
        fresh: true,
        durable: false,
    };
    assert_eq!(s.ask(op).unwrap().serviced, 512);
    let content = s.read(&object, 0, 8192).unwrap();
    assert_eq!(content[..512], [0; 512]);
    assert_eq!(content[512..1024], [9; 512]);
    assert_eq!(content[1024..], [0; 7168]);
    assert_eq!(s.size(&object), Ok(1024));
}

fn zeroes_never_grow(s: &mut Subject) {
    let object = name("zeroed-object");
    let mut model = pattern(5, 20_000);
    s.write(&object, 0, &model).unwrap();
    let size = s.size(&object).unwrap();
    for (at, len) in [
        (0, 4096),
        (5000, 1),
        (5500, 6000),
        (12_288, 4096),
        (19_990, 1000),
    ] {
        assert_eq!(zeroes(s, &object, at as u64, len as u64), Ok(len as u64));
        let end = (at + len).min(model.len());
        model[at..end].fill(0);
        assert_eq!(
            s.read(&object, 0, 20_000).unwrap(),
            model,
            "after {len} at {at}"
        );
    }
    assert_eq!(zeroes(s, &object, 1 << 30, 4096), Ok(4096));
    assert_eq!(s.size(&object), Ok(size));
}

fn truncate_cuts_and_grows(s: &mut Subject) {
    let object = name("truncated");
    let data = pattern(6, 8192);
    s.write(&object, 0, &data).unwrap();
    truncate(s, &object, 1000, false).unwrap();
    assert_eq!(s.size(&object), Ok(s.rounded(1000)));
    truncate(s, &object, 4096, false).unwrap();
    let content = s.read(&object, 0, 4096).unwrap();
    assert_eq!(content[..1000], data[..1000]);
    assert_eq!(
        content[1000..],
        [0; 3096],
        "what was cut does not come back"
    );
    truncate(s, &object, 0, false).unwrap();
    assert_eq!(s.size(&object), Ok(0));
    s.write(&object, 0, &data).unwrap();
    truncate(s, &object, 512, true).unwrap();
    assert_eq!(
        s.read(&object, 0, 512).unwrap(),
        [0; 512],
        "fresh empties first"
    );
    truncate(s, &name("made-by-truncate"), 512, true).unwrap();
    assert_eq!(s.size(&name("made-by-truncate")), Ok(512));
}

/// B4: a second copy to one name replaced nothing but appended.
fn copy_replaces(s: &mut Subject) {
    let (src, dst) = (name("copy-source"), name("copy-target"));
    let data = pattern(7, 300_000);
    s.write(&src, 0, &data).unwrap();
    s.write(&dst, 0, &pattern(8, 400_000)).unwrap();
    for _ in 0..2 {
        assert_eq!(copy(s, &src, &dst, 1 << 22), Ok(s.rounded(300_000)));
        assert_eq!(s.size(&dst), Ok(s.rounded(300_000)));
        assert_eq!(s.read(&dst, 0, 300_000).unwrap(), data);
        assert_eq!(s.read(&dst, 300_000, 100_000).unwrap(), [0; 100_000]);
    }
    s.write(&dst, 0, &[1; 512]).unwrap();
    assert_eq!(
        s.read(&src, 0, 512).unwrap(),
        data[..512],
        "the two are apart"
    );
}

/// B4: the original answered success, with an empty target.
fn copy_of_nothing_touches_nothing(s: &mut Subject) {
    let dst = name("copy-target");
    s.write(&dst, 0, &[3; 512]).unwrap();
    assert_eq!(
        copy(s, &name("no-such-source"), &dst, 4096),
        Err(Errno::NOENT)
    );
    assert_eq!(s.read(&dst, 0, 512).unwrap(), [3; 512]);
    assert_eq!(
        copy(s, &name("no-such-source"), &name("no-target"), 1),
        Err(Errno::NOENT)
    );
    assert_eq!(s.size(&name("no-target")), Err(Errno::NOENT));
    s.write(&name("empty-source"), 0, b"").unwrap();
    assert_eq!(copy(s, &name("empty-source"), &dst, 4096), Ok(0));
    assert_eq!(s.size(&dst), Ok(0));
}

fn copy_is_cut(s: &mut Subject) {
    let (src, dst) = (name("copy-source"), name("copy-target"));
    let data = pattern(9, 8192);
    s.write(&src, 0, &data).unwrap();
    assert_eq!(copy(s, &src, &dst, 4096), Ok(4096));
    assert_eq!(s.read(&dst, 0, 8192).unwrap()[..4096], data[..4096]);
    assert_eq!(s.size(&dst), Ok(4096));
    assert_eq!(copy(s, &src, &dst, 1000), Ok(1000));
    let content = s.read(&dst, 0, 4096).unwrap();
    assert_eq!(content[..1000], data[..1000]);
    assert_eq!(content[1000..], [0; 3096]);
}

fn delete_removes_once(s: &mut Subject) {
    let object = name("deleted-object");
    s.write(&object, 0, &[1; 512]).unwrap();
    s.ask(Op::Delete {
        name: object,
        durable: true,
    })
    .unwrap();
    assert_eq!(s.read(&object, 0, 512), Err(Errno::NOENT));
    let again = Op::Delete {
        name: object,
        durable: false,
    };
    assert_eq!(s.ask(again).unwrap_err(), Errno::NOENT);
    s.write(&object, 512, &[2; 512]).unwrap();
    assert_eq!(
        s.read(&object, 0, 512).unwrap(),
        [0; 512],
        "a new object is empty"
    );
}

/// B20: a second HASH answered success and filled nothing.
fn hash_names_content(s: &mut Subject) {
    let object = name("hashed-object");
    s.write(&object, 0, &[&pattern(1, 700)[..], &[0; 5000]].concat())
        .unwrap();
    let expected = HashAlgorithm::Sha256.digest(&pattern(1, 700)).to_name();
    for _ in 0..2 {
        assert_eq!(s.hash(&object, 1 << 22).unwrap(), expected);
        let content = s.read(&expected, 0, 1024).unwrap();
        assert_eq!(content[..700], pattern(1, 700));
        assert_eq!(content[700..], [0; 324]);
        assert_eq!(s.size(&expected), Ok(s.rounded(700)), "zeros are stripped");
    }
    let cut = HashAlgorithm::Sha256
        .digest(&pattern(1, 700)[..100])
        .to_name();
    assert_eq!(s.hash(&object, 100).unwrap(), cut);
    // A client's plain write of this content ended with its host, after the first bytes.
    let short = HashAlgorithm::Sha256
        .digest(&pattern(1, 700)[..650])
        .to_name();
    s.write(&short, 0, &pattern(1, 512)).unwrap();
    assert_eq!(s.hash(&object, 650).unwrap(), short);
    assert_eq!(s.read(&short, 0, 650).unwrap(), pattern(1, 700)[..650]);
    let op = Op::Hash {
        name: object,
        offset: 700,
        size: 100,
        algorithm: HashAlgorithm::Blake2b,
    };
    let Detail::Hash(nothing) = s.ask(op).unwrap().detail else {
        panic!("HASH without a hash")
    };
    assert_eq!(nothing, HashAlgorithm::Blake2b.digest(b""));
}

fn list_is_complete(s: &mut Subject) {
    let mut expected = BTreeSet::new();
    for i in 0..25 {
        let object = name(&format!("listed-object-{i}"));
        s.write(&object, 0, b"").unwrap();
        expected.insert(object);
    }
    let (mut listed, mut cursor, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(from) = cursor {
        let reply = s
            .ask(Op::List {
                cursor: from,
                max: 4,
            })
            .unwrap();
        let Detail::List { names, next } = reply.detail else {
            panic!("LIST without a list")
        };
        listed.extend(names);
        cursor = next;
        pages += 1;
    }
    assert!(pages > 2, "25 names on {pages} pages of 4");
    assert_eq!(listed.len(), expected.len(), "each is listed once");
    assert_eq!(BTreeSet::from_iter(listed), expected);
}

fn impossible_ranges_are_refused(s: &mut Subject) {
    let object = name("ranged-object");
    s.write(&object, 0, b"x").unwrap();
    let far = u64::MAX - 100;
    assert_eq!(s.write(&object, far, &[1; 4096]), Err(Errno::INVAL));
    assert_eq!(zeroes(s, &object, far, 4096), Err(Errno::INVAL));
    assert_eq!(truncate(s, &object, far, false), Err(Errno::INVAL));
    assert_eq!(s.read(&object, 0, 1).unwrap(), b"x");
}

fn many_at_once(s: &mut Subject) {
    let objects: Vec<_> = (0..40).map(|i| name(&format!("one-of-many-{i}"))).collect();
    let writes = (0..400).map(|i| {
        let object = &objects[i % 40];
        write(
            object,
            (i / 40 * 4096) as u64,
            &pattern(i as u8, 4096),
            Tag(5),
        )
    });
    let writes: Vec<_> = writes.collect();
    assert!(s.ask_all(writes).iter().all(|done| done.result.is_ok()));
    for i in 0..400 {
        let content = s
            .read(&objects[i % 40], (i / 40 * 4096) as u64, 4096)
            .unwrap();
        assert_eq!(content, pattern(i as u8, 4096), "write {i}");
    }
}

fn zeroes(s: &mut Subject, name: &Name, offset: u64, len: u64) -> Result<u64, Errno> {
    let (name, tag) = (*name, Tag::NONE);
    let op = Op::Zeroes {
        name,
        offset,
        len,
        tag,
        durable: true,
    };
    s.ask(op).map(|reply| reply.serviced)
}

fn truncate(s: &mut Subject, name: &Name, size: u64, fresh: bool) -> Result<(), Errno> {
    let (name, tag) = (*name, Tag(2));
    let op = Op::Truncate {
        name,
        size,
        tag,
        fresh,
        durable: false,
    };
    s.ask(op).map(|_| ())
}

fn copy(s: &mut Subject, src: &Name, dst: &Name, max: u64) -> Result<u64, Errno> {
    let op = Op::Copy {
        src: Box::new(*src),
        dst: *dst,
        max,
        tag: Tag::NONE,
        durable: true,
    };
    s.ask(op).map(|reply| reply.serviced)
}
