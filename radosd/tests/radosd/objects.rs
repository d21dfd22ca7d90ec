//! What is in a pool, as the driver left it and as others see it.

use crate::rig::{Pool, config, lab, name, run_dir, write};
use driver::{Buf, Detail, Driver, Name, Op, OpId, Tag};
use rados_lab::{Lab, Options};
use std::collections::BTreeSet;

/// Name, size and SHA-256 of every object, in the order of the names, as Python sees them.
fn seen(lab: &Lab) -> String {
    let script = r#"
import hashlib, rados, sys
with rados.Rados(conffile=sys.argv[1]) as cluster:
    io = cluster.open_ioctx("blocks")
    for name in sorted(o.key for o in io.list_objects()):
        size, _ = io.stat(name)
        content = io.read(name, size, 0) if size else b""
        print(name, size, hashlib.sha256(content).hexdigest()[:16])
"#;
    lab.python(script, &[], b"").unwrap()
}

fn short_hash(content: &[u8]) -> String {
    let script = "import hashlib, sys; \
                  print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])";
    let mut python = std::process::Command::new("/usr/bin/python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), content).unwrap();
    let output = python.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn others_see_what_was_written() {
    if rados_lab::skip("others_see_what_was_written") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let mut pool = Pool::open(config(&lab, "blocks", "here", here.path())).unwrap();
    // More than one piece of a copy, and with a hole that is more than one piece long.
    let mut big = noise(21 << 20);
    big[5 << 20..15 << 20].fill(0);
    pool.write("big", 0, &big).unwrap();
    let copy = Op::Copy {
        src: Box::new(name("big")),
        dst: name("copy"),
        max: 1 << 30,
        tag: Tag::NONE,
        durable: true,
    };
    assert_eq!(pool.ask(copy).unwrap().serviced, 21 << 20);
    pool.write("odd name é\u{7f}\n", 3, b"abc").unwrap();
    pool.write("empty", 0, b"").unwrap();
    let expected = [
        format!("big {} {}", big.len(), short_hash(&big)),
        format!("copy {} {}", big.len(), short_hash(&big)),
        format!("empty 0 {}", short_hash(b"")),
        format!("odd name é\u{7f}\n 6 {}", short_hash(b"\0\0\0abc")),
    ];
    assert_eq!(seen(&lab), expected.join("\n") + "\n", "and nothing else");
    assert!(pool.read("copy", 0, big.len()).unwrap() == big);
    // A copy of nothing but zeros holds no data.
    let zeros = vec![0; 4 << 20];
    pool.write("zeros", 0, &zeros).unwrap();
    let copy = Op::Copy {
        src: Box::new(name("zeros")),
        dst: name("copy"),
        max: 4 << 20,
        tag: Tag::NONE,
        durable: true,
    };
    assert_eq!(pool.ask(copy).unwrap().serviced, 4 << 20);
    assert!(pool.read("copy", 0, 4 << 20).unwrap() == zeros);
}

/// Many objects on several placement groups, in pages of odd sizes, each exactly once.
#[test]
fn a_list_is_complete_in_pages_of_any_size() {
    if rados_lab::skip("a_list_is_complete_in_pages_of_any_size") {
        return;
    }
    let options = Options {
        placement_groups: 12,
        ..Options::with_osds(2)
    };
    let lab = lab(options);
    let here = run_dir();
    let mut pool = Pool::open(config(&lab, "blocks", "here", here.path())).unwrap();
    let names: BTreeSet<Name> = (0..1500)
        .map(|i| name(&format!("{}-{i}", "long-name".repeat(i % 5))))
        .collect();
    let writes: Vec<_> = names
        .iter()
        .map(|name| write(std::str::from_utf8(name).unwrap(), 0, b"x"))
        .collect();
    assert!(pool.ask_all(writes).iter().all(|done| done.result.is_ok()));
    for max in [1, 7, 333, 5000] {
        let (mut listed, mut cursor, mut pages) = (Vec::new(), Some(0), 0);
        while let Some(from) = cursor {
            let list = Op::List { cursor: from, max };
            let Detail::List { names, next } = pool.ask(list).unwrap().detail else {
                panic!("LIST without a list")
            };
            assert!(next.is_none_or(|next| next > from), "it goes on");
            listed.extend(names);
            cursor = next;
            pages += 1;
            if max == 1 && pages == 100 {
                // Enough of these to see that pages of one are pages.
                break;
            }
        }
        let count = listed.len();
        let set = BTreeSet::from_iter(listed);
        assert_eq!(set.len(), count, "each once, in pages of {max}");
        assert!(max == 1 || set == names, "all of them, in pages of {max}");
    }
}

/// Far more than may be with librados at once: what waits here is served in the end.
#[test]
fn bounded_and_complete() {
    if rados_lab::skip("bounded_and_complete") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let mut pool = Pool::open(config(&lab, "blocks", "here", here.path())).unwrap();
    let bytes = noise(2 << 20);
    let writes = (0..150).map(|i| write(&format!("object-{}", i % 50), 0, &bytes));
    for done in pool.ask_all(writes.collect()) {
        assert_eq!(done.result.unwrap().serviced, 2 << 20);
    }
    let reads = (0..100).map(|i| Op::Read {
        name: name(&format!("object-{}", i % 50)),
        offset: 0,
        buf: Buf::new(2 << 20),
    });
    for done in pool.ask_all(reads.collect()) {
        assert!(done.result.is_ok());
        assert!(done.buf.unwrap().to_vec() == bytes);
    }
    assert_eq!(pool.driver.in_flight(), 0);
}

/// A driver that ends with operations in flight gives up neither memory nor its place.
#[test]
fn a_driver_may_end_at_any_moment() {
    if rados_lab::skip("a_driver_may_end_at_any_moment") {
        return;
    }
    let mut lab = lab(Options::default());
    let here = run_dir();
    let config = config(&lab, "blocks", "here", here.path());
    for round in 0..4 {
        let mut pool = Pool::open(config.clone()).unwrap();
        if round == 3 {
            lab.kill_osd(0);
        }
        for i in 0..40 {
            let object = name("object");
            let op = match i % 2 {
                0 => write("object", i * 4096, &[round; 4096]),
                _ => Op::Read {
                    name: object,
                    offset: 0,
                    buf: Buf::new(1 << 20),
                },
            };
            pool.driver.submit(OpId(i), op);
        }
        pool.reactor.turn().unwrap();
    }
    lab.start_osd(0).unwrap();
    let mut pool = Pool::open(config).unwrap();
    pool.write("object", 0, b"after").unwrap();
    assert_eq!(pool.read("object", 0, 5).unwrap(), b"after");
}
