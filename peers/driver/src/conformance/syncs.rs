//! Stories of tags: sync and forget. That a sync makes durable what it names cannot be seen without
//! a loss of power; the drivers' own tests look at that.

use super::*;

pub(super) const STORIES: &[fn(&mut Subject)] = &[unknown_tags, synced_tags, synced_while_written];

fn unknown_tags(s: &mut Subject) {
    s.ask(Op::Sync { tag: Tag(77) }).unwrap();
    s.ask(Op::Forget { tag: Tag(77) }).unwrap();
    s.ask(Op::Forget { tag: Tag(77) }).unwrap();
}

fn synced_tags(s: &mut Subject) {
    for count in [1, 3, 200] {
        let ops = (0..count).map(|i| write(&name(&format!("synced-{i}")), 0, &[1; 700], Tag(9)));
        let ops = ops.collect();
        assert!(s.ask_all(ops).iter().all(|done| done.result.is_ok()));
        s.ask(Op::Sync { tag: Tag(9) }).unwrap();
        s.ask(Op::Sync { tag: Tag(9) }).unwrap();
    }
    s.ask(Op::Forget { tag: Tag(9) }).unwrap();
}

fn synced_while_written(s: &mut Subject) {
    let mut ops = Vec::new();
    for i in 0..60 {
        let object = name(&format!("busy-object-{}", i % 7));
        ops.push(write(
            &object,
            i * 4096,
            &[i as u8; 4096],
            Tag(1 + i as u32 % 3),
        ));
        if i % 5 == 0 {
            ops.push(Op::Sync {
                tag: Tag(1 + i as u32 % 3),
            });
        }
    }
    ops.push(Op::Delete {
        name: name("busy-object-none"),
        durable: false,
    });
    let done = s.ask_all(ops);
    let failed: Vec<_> = done.iter().filter(|done| done.result.is_err()).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
}
