//! A full disk: a small tmpfs in a mount namespace of one thread, which ends with that thread.

use crate::rig::{Files, SETTINGS, name, write};
use driver::{Errno, Op, Tag};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::path::Path;

/// Whether this machine lets us; the namespace is this thread's from then on.
fn mount_small(dir: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(
        Some("tmpfs"),
        dir,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=256k"),
    )
}

#[test]
fn only_what_does_not_fit_fails() {
    for setting in SETTINGS {
        let dir = setting.dir();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Err(errno) = mount_small(dir.path()) {
                    eprintln!("skipped: mounting a small tmpfs needs root ({errno})");
                    return;
                }
                let mut files = Files::open(setting.config(dir.path(), "node_1"));
                fill_up(&mut files);
            });
        });
    }
}

fn fill_up(files: &mut Files) {
    files.write("good-object", 0, &[1; 4096]).unwrap();
    let objects = (0..40).map(|i| write(&format!("filling-{i}"), 0, &[2; 16 << 10], Tag(1)));
    let done = files.ask_all(objects.collect());
    let full = |done: &&driver::Done| done.result.as_ref().err() == Some(&Errno::NOSPC);
    let refused = done.iter().filter(full).count();
    let served = done.iter().filter(|done| done.result.is_ok()).count();
    assert!(
        refused > 0 && served > 0 && refused + served == 40,
        "{refused} and {served}"
    );
    // A write of which the disk took only a part is not served (B5).
    for (i, _) in done.iter().enumerate().filter(|(_, d)| d.result.is_ok()) {
        let content = files.read(&format!("filling-{i}"), 0, 16 << 10).unwrap();
        assert_eq!(content, [2; 16 << 10], "filling-{i} was served");
    }
    // What was there is read and overwritten, a sync works, and what is deleted makes room.
    assert_eq!(files.read("good-object", 0, 4096).unwrap(), [1; 4096]);
    files.write("good-object", 100, &[3; 100]).unwrap();
    files.ask(Op::Sync { tag: Tag(1) }).unwrap();
    for i in 0..40 {
        // An object whose first write failed may be there, empty, or not.
        let _ = files.ask(Op::Delete {
            name: name(&format!("filling-{i}")),
            durable: false,
        });
    }
    files.write("fits-again", 0, &[4; 16 << 10]).unwrap();
    assert_eq!(
        files.read("fits-again", 0, 16 << 10).unwrap(),
        [4; 16 << 10]
    );
}
