//! The node dies, and comes back, under a mapped volume: nothing is lost, nothing fails.

use crate::filesystem::Mounted;
use crate::lab::Lab;
use crate::mapped::{self, Mapped, has, pidfd, run, wait_end};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const BLOCK: usize = 16 << 10;
const BLOCKS: u64 = 1024;

/// What block `index` holds after its `round`-th write.
fn content(index: u64, round: u64) -> Vec<u8> {
    let mark = ((round << 32) | (index + 1)).to_le_bytes();
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
fn survive(lab: &mut Lab, times: u32, disturb: impl Fn(&mut Lab, &str)) {
    let mapped = Mapped::new(lab, "volume", BLOCKS * BLOCK as u64, &[]);
    let held = mapped.alone();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let rounds = thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&held.device, &stop, &answered));
        for _ in 0..times {
            let target = answered.load(Ordering::SeqCst) + BLOCKS / 2;
            while answered.load(Ordering::SeqCst) < target && !writer.is_finished() {
                thread::yield_now();
            }
            disturb(lab, &held.id);
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap()
    });
    let mapped = Mapped::of(lab, held);
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
    survive(&mut lab, 3, |lab, _| {
        lab.kill();
        lab.bring_up();
    });
}

#[test]
fn the_peers_die_and_come_back() {
    let Some(mut lab) = mapped::lab("the_peers_die_and_come_back") else {
        return;
    };
    survive(&mut lab, 3, |lab, _| {
        lab.kill_peers();
        lab.bring_up_peers();
    });
}

#[test]
fn frozen_while_the_node_is_replaced() {
    let Some(mut lab) = mapped::lab("frozen_while_the_node_is_replaced") else {
        return;
    };
    survive(&mut lab, 3, |lab, id| {
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

/// Kills the process that serves a device, amid of whatever it does.
fn kill_server(lab: &Lab, id: &str) {
    let pid = lab.info(id)["pid"].as_i64().unwrap() as i32;
    let process = pidfd(pid);
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_end(&process);
}

#[test]
fn the_endpoint_itself_is_killed() {
    let Some(mut lab) = mapped::lab("the_endpoint_itself_is_killed") else {
        return;
    };
    survive(&mut lab, 12, |lab, id| kill_server(lab, id));
}

/// With as much under way as the page cache gives: many writes at once, a journal, discards.
#[test]
fn a_filesystem_outlives_its_endpoint() {
    let test = "a_filesystem_outlives_its_endpoint";
    let Some(lab) = mapped::lab(test) else { return };
    if !has(test, "mkfs.ext4", "-V") {
        return;
    }
    let mapped = Mapped::new(&lab, "volume", 256 << 20, &[]);
    run("mkfs.ext4", &["-q", &mapped.device]);
    let mounted = Mounted::new(&mapped.device, &lab.dir().join("mnt"));
    let copy = mounted.0.join("include");
    let target = copy.to_str().unwrap();
    let point = mounted.0.to_str().unwrap();
    thread::scope(|scope| {
        let copying = scope.spawn(|| {
            for _ in 0..2 {
                run("rm", &["-rf", target]);
                run("cp", &["-a", "/usr/include", target]);
                run("sync", &["-f", point]);
                run("fstrim", &[point]);
            }
        });
        let mut kills = 0;
        while !copying.is_finished() {
            let target = mapped.served() + 500;
            while mapped.served() < target && !copying.is_finished() {
                thread::yield_now();
            }
            kill_server(&lab, &mapped.id);
            kills += 1;
        }
        copying.join().unwrap();
        assert!(kills > 2, "only {kills} kills");
        println!("{kills} kills");
    });
    mapped.drop_cache();
    run("diff", &["-r", "--no-dereference", "/usr/include", target]);
    mounted.unmount();
    run("e2fsck", &["-fn", &mapped.device]);
    mapped.unmap();
}

#[test]
fn the_endpoint_and_the_node_are_killed() {
    let Some(mut lab) = mapped::lab("the_endpoint_and_the_node_are_killed") else {
        return;
    };
    survive(&mut lab, 3, |lab, id| {
        lab.kill();
        kill_server(lab, id);
        lab.bring_up();
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
    let held = Mapped::new(&lab, "volume", 128 << 20, &[]).alone();
    run("mkfs.ext4", &["-q", &held.device]);
    let mounted = Mounted::new(&held.device, &lab.dir().join("mnt"));
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
    let mapped = Mapped::of(&lab, held);
    run("e2fsck", &["-fn", &mapped.device]);
    mapped.unmap();
}
