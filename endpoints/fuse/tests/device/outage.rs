//! The node dies, and comes back, under a mapped volume: nothing is lost, nothing fails.

use crate::filesystem::Mounted;
use crate::lab::Lab;
use crate::mapped::{self, Mapped, has, run};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const BLOCK: usize = 16 << 10;
const BLOCKS: u64 = 1024;

/// What block `index` holds after its `round`-th write.
fn content(index: u64, round: u64) -> Vec<u8> {
    let mark = (round << 32 | index + 1).to_le_bytes();
    mark.iter().copied().cycle().take(BLOCK).collect()
}

/// Page-aligned memory, for O_DIRECT.
#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

/// Writes all blocks again and again, past the device's cache, until told to stop; says how many
/// writes were answered. Every one must succeed.
fn write_until(device: &str, stop: &AtomicBool, answered: &AtomicU64) -> u64 {
    let file = File::options()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(device)
        .unwrap();
    for round in 1.. {
        for index in 0..BLOCKS {
            let mut block = Box::new(Aligned([0; BLOCK]));
            block.0.copy_from_slice(&content(index, round));
            file.write_all_at(&block.0, index * BLOCK as u64).unwrap();
            answered.fetch_add(1, Ordering::SeqCst);
            if index % 100 == 0 {
                file.sync_all().unwrap();
            }
        }
        if stop.load(Ordering::SeqCst) {
            return round;
        }
    }
    unreachable!("rounds do not end")
}

/// Runs `disturb` a few times under a writer, and checks every block afterwards.
fn survive(lab: &mut Lab, disturb: impl Fn(&mut Lab, &str)) {
    let mapped = Mapped::new(lab, "volume", BLOCKS * BLOCK as u64, &[]);
    // The guard borrows the lab, which the disturbance needs: it goes on without one.
    let (device, id) = mapped.forget();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let rounds = thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&device, &stop, &answered));
        for _ in 0..3 {
            let target = answered.load(Ordering::SeqCst) + BLOCKS / 2;
            while answered.load(Ordering::SeqCst) < target && !writer.is_finished() {
                thread::yield_now();
            }
            disturb(lab, &id);
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap()
    });
    let mapped = Mapped::adopt(lab, device, id);
    mapped.drop_cache();
    for index in 0..BLOCKS {
        let found = mapped.read(index * BLOCK as u64, BLOCK);
        assert!(
            found == content(index, rounds),
            "block {index} is not that of round {rounds}"
        );
    }
    mapped.unmap();
}

#[test]
fn the_whole_node_dies_and_comes_back() {
    let Some(mut lab) = mapped::lab("the_whole_node_dies_and_comes_back") else {
        return;
    };
    survive(&mut lab, |lab, _| {
        lab.kill();
        lab.bring_up();
    });
}

#[test]
fn the_peers_die_and_come_back() {
    let Some(mut lab) = mapped::lab("the_peers_die_and_come_back") else {
        return;
    };
    survive(&mut lab, |lab, _| {
        lab.kill_peers();
        lab.bring_up_peers();
    });
}

#[test]
fn frozen_while_the_node_is_replaced() {
    let Some(mut lab) = mapped::lab("frozen_while_the_node_is_replaced") else {
        return;
    };
    survive(&mut lab, |lab, id| {
        assert_eq!(lab.ask(id, "freeze"), json!({"ok": true}));
        assert_eq!(lab.info(id)["state"], json!("frozen"));
        assert!(
            lab.ask(id, "unmap")["error"]
                .as_str()
                .unwrap()
                .contains("frozen")
        );
        lab.kill();
        lab.bring_up();
        assert_eq!(lab.ask(id, "thaw"), json!({"ok": true}));
        assert_eq!(lab.info(id)["state"], json!("running"));
    });
}

#[test]
fn a_filesystem_outlives_the_node() {
    let test = "a_filesystem_outlives_the_node";
    let Some(mut lab) = mapped::lab(test) else {
        return;
    };
    if !has(test, "mkfs.ext4", "-V") {
        return;
    }
    let (device, id) = Mapped::new(&lab, "volume", 128 << 20, &[]).forget();
    run("mkfs.ext4", &["-q", &device]);
    let mounted = Mounted::new(&device, &lab.dir().join("mnt"));
    let copy = mounted.0.join("linux");
    let target = copy.to_str().unwrap().to_owned();
    thread::scope(|scope| {
        let copying = scope.spawn(|| run("cp", &["-a", "/usr/include/linux", &target]));
        lab.kill();
        lab.bring_up();
        copying.join().unwrap();
    });
    run("sync", &["-f", mounted.0.to_str().unwrap()]);
    lab.kill();
    lab.bring_up();
    run("diff", &["-r", "/usr/include/linux", &target]);
    mounted.unmount();
    let mapped = Mapped::adopt(&lab, device, id);
    run("e2fsck", &["-fn", &mapped.device]);
    mapped.unmap();
}
