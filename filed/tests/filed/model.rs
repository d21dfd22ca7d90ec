//! Random operations, many at once, against an array of bytes.

use crate::rig::{Files, SETTINGS, name};
use driver::{Buf, Errno, Op, Tag};
use proptest::prelude::*;

const SPACE: usize = 40_000;

#[derive(Debug, Clone)]
enum Step {
    Write {
        at: usize,
        len: usize,
        tag: u32,
        fresh: bool,
    },
    Zeroes {
        at: usize,
        len: usize,
    },
    Truncate {
        size: usize,
    },
    CopyHere {
        len: usize,
    },
    Sync {
        tag: u32,
    },
    Delete,
}

fn range() -> impl Strategy<Value = (usize, usize)> {
    let aligned = (0..SPACE / 512 - 17, 0..17usize).prop_map(|(at, len)| (at * 512, len * 512));
    prop_oneof![aligned, (0..SPACE - 9000, 0..9000usize)]
}

fn step() -> impl Strategy<Value = Step> {
    let tag = 0..3u32;
    prop_oneof![
        8 => (range(), tag.clone(), proptest::bool::weighted(0.1)).prop_map(
            |((at, len), tag, fresh)| Step::Write { at, len, tag, fresh }
        ),
        3 => range().prop_map(|(at, len)| Step::Zeroes { at, len }),
        1 => (0..SPACE).prop_map(|size| Step::Truncate { size }),
        1 => (0..SPACE).prop_map(|len| Step::CopyHere { len }),
        1 => tag.prop_map(|tag| Step::Sync { tag }),
        1 => Just(Step::Delete),
    ]
}

/// What the object holds; `None` when it is missing.
type Model = Option<Vec<u8>>;

fn apply(model: &mut Model, step: &Step, seed: u8, multiple: usize) {
    match step {
        Step::Write { at, len, fresh, .. } => {
            let content = model.get_or_insert_default();
            if *fresh {
                content.clear();
            }
            if *len > 0 {
                let end = (at + len).next_multiple_of(multiple);
                content.resize(content.len().max(end), 0);
                content[*at..at + len].fill(seed);
            }
        }
        Step::Zeroes { at, len } => {
            if let Some(content) = model {
                let end = (at + len).min(content.len());
                content[(*at).min(end)..end].fill(0);
            }
        }
        Step::Truncate { size } => {
            if let Some(content) = model {
                content.truncate(*size);
                content.resize(size.next_multiple_of(multiple), 0);
            }
        }
        Step::CopyHere { len } => {
            let mut content = vec![0xaa; 20_000];
            content.resize(20_000usize.next_multiple_of(multiple), 0);
            content.truncate(*len);
            content.resize(content.len().next_multiple_of(multiple), 0);
            *model = Some(content);
        }
        Step::Delete => *model = None,
        Step::Sync { .. } => {}
    }
}

fn op(step: &Step, seed: u8) -> Op {
    let (name, src) = (name("modelled-object"), Box::new(name("copied-object")));
    let (tag, durable) = (Tag(1), false);
    match *step {
        Step::Write {
            at,
            len,
            tag,
            fresh,
        } => Op::Write {
            name,
            offset: at as u64,
            buf: Buf::from_bytes(&vec![seed; len]),
            tag: Tag(tag),
            fresh,
            durable,
        },
        Step::Zeroes { at, len } => {
            let (offset, len) = (at as u64, len as u64);
            Op::Zeroes {
                name,
                offset,
                len,
                tag,
                durable,
            }
        }
        Step::Truncate { size } => {
            let size = size as u64;
            Op::Truncate {
                name,
                size,
                tag,
                fresh: false,
                durable,
            }
        }
        Step::CopyHere { len } => {
            let max = len as u64;
            Op::Copy {
                src,
                dst: name,
                max,
                tag,
                durable,
            }
        }
        Step::Delete => Op::Delete { name, durable },
        Step::Sync { tag } => Op::Sync { tag: Tag(tag) },
    }
}

fn check(files: &mut Files, model: &Model) -> Result<(), TestCaseError> {
    let content = files.read("modelled-object", 0, SPACE + 4096);
    let Some(model) = model else {
        prop_assert_eq!(content.unwrap_err(), Errno::NOENT);
        return Ok(());
    };
    let content = content.unwrap();
    prop_assert!(content[..model.len()] == model[..], "the content differs");
    prop_assert!(content[model.len()..].iter().all(|byte| *byte == 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn one_after_the_other(steps in proptest::collection::vec(step(), 1..25)) {
        for setting in SETTINGS {
            let dir = setting.dir();
            let mut files = Files::open(setting.config(dir.path(), "node_1"));
            let multiple = driver::Driver::capabilities(&files.driver).size_multiple as usize;
            files.write("copied-object", 0, &[0xaa; 20_000]).unwrap();
            let mut model = None;
            for (at, step) in steps.iter().enumerate() {
                let seed = at as u8 + 1;
                let answer = files.ask(op(step, seed));
                let missing = model.is_none();
                let refused = missing && matches!(step, Step::Truncate { .. } | Step::Delete);
                prop_assert_eq!(answer.is_err(), refused, "{:?} at {:?}", step, setting);
                apply(&mut model, step, seed, multiple);
                check(&mut files, &model)?;
            }
        }
    }

    /// Writes that touch different bytes, often of one sector, all at once.
    #[test]
    fn disjoint_writes_at_once(cuts in proptest::collection::btree_set(0..20_000usize, 2..60)) {
        let cuts: Vec<usize> = cuts.into_iter().collect();
        for setting in SETTINGS {
            let dir = setting.dir();
            let mut files = Files::open(setting.config(dir.path(), "node_1"));
            files.write("modelled-object", 0, &[0xff; 20_000]).unwrap();
            let mut model = vec![0xff; 20_000];
            let mut ops = Vec::new();
            for (at, pair) in cuts.windows(2).enumerate() {
                let (seed, tag) = (at as u8 + 1, at as u32 % 3);
                model[pair[0]..pair[1]].fill(seed);
                let (at, len) = (pair[0], pair[1] - pair[0]);
                ops.push(op(&Step::Write { at, len, tag, fresh: false }, seed));
            }
            let done = files.ask_all(ops);
            prop_assert!(done.iter().all(|done| done.result.is_ok()));
            let content = files.read("modelled-object", 0, 20_000).unwrap();
            prop_assert!(content == model, "{setting:?}");
        }
    }
}
