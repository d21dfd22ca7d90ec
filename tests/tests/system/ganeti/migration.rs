//! A running guest moves from one node to another and back, step by step as Ganeti does it
//! (`spec/ganeti.md` section 8, and `_ExecMigration` of its `lib/cmdlib/instance_migration.py`).
//!
//! The guest writes all the time, checks what it reads, and tells each answered write. So it is
//! seen that no answered write is lost, that it reads no stale block on the target, that it has
//! no I/O error, and that the target writes only after the source has closed the disk.

use super::driver::Ganeti;
use super::guest::{Hypervisor, Machine};
use super::scripts::{ID, beside, is_ours, node, size_of};
use client::{Hint, Volume};
use config::Endpoint;
use serde_json::json;
use std::path::Path;
use system_tests::golden::name;
use system_tests::golden::tree::files;
use system_tests::real::RealNode;

/// As `guest.S` has them.
const SECTOR: u64 = 512;
const FIRST: u64 = 2048;
const SLOTS: u32 = 128;
const STRIDE: u64 = 256;
/// Writes of the guest before and after each migration: it comes around the slots.
const TURNS: usize = 300;

/// Ganeti's view of a node.
struct Host<'n> {
    node: &'n RealNode,
    ganeti: Ganeti,
}

/// A guest, and what it has said before it came to this machine.
struct Guest {
    machine: Machine,
    said: String,
}

const DISK: [(&str, &str); 1] = [("VOL_NAME", ID)];
const SHARED: [(&str, &str); 2] = [("VOL_NAME", ID), ("VOL_OPEN_EXCLUSIVE", "False")];
const ALONE: [(&str, &str); 2] = [("VOL_NAME", ID), ("VOL_OPEN_EXCLUSIVE", "True")];

impl Host<'_> {
    /// A script that must succeed, and say nothing.
    #[track_caller]
    fn call(&self, script: &str, variables: &[(&str, &str)]) {
        self.ganeti.call(script, variables).says("");
    }
}

#[test]
fn a_guest_moves_between_two_nodes() {
    let parent = tempfile::tempdir().unwrap();
    let test = "a_guest_moves_between_two_nodes";
    let Some(hypervisor) = Hypervisor::find(test, parent.path()) else {
        return;
    };
    let one = node(&parent, Endpoint::Nbd);
    let other = beside(&parent, &one);
    let [first, second] = [&one, &other].map(|node| Host {
        node,
        ganeti: Ganeti::on(node),
    });
    install_guest(&first, hypervisor.boot_sector());
    let locks = |node: &RealNode| {
        let mut files = files(node.dir());
        files.retain(|path, _| path.starts_with("locks/"));
        files.len()
    };
    assert_eq!(locks(&one), 0);

    let mut guest = start(&first, &hypervisor, &parent.path().join("qemu-0"));
    guest.machine.await_lines(TURNS);
    let sockets = |at: usize| parent.path().join(format!("qemu-{at}"));
    guest = migrate(guest, &first, &second, &hypervisor, &sockets(1));
    guest.machine.await_lines(TURNS);
    assert!(guest.machine.answered_writes() >= TURNS as u64);
    guest = migrate(guest, &second, &first, &hypervisor, &sockets(2));
    guest.machine.await_lines(TURNS);

    guest.said += &guest.machine.quit();
    let writes = check_words(&guest.said);
    println!("{writes} writes were answered, one after the other, through two migrations");
    first.call("close", &DISK);
    first.call("detach", &DISK);
    check_disk(&other, writes);
    // To read is to take the lock where nobody has it.
    second.call("close", &DISK);
    assert_eq!(locks(&one), 0, "a lock is left");
    drop((first, second));
    assert!(other.stop().unwrap().success() && one.stop().unwrap().success());
}

/// Makes the instance's disk, and puts the guest's program on it.
fn install_guest(host: &Host<'_>, boot_sector: &[u8]) {
    let size = [DISK[0], ("VOL_SIZE", "64")];
    assert_eq!(host.ganeti.call("create", &size).status, 0);
    assert_eq!(size_of(host.node, ID), 64 << 20);
    let client = host.node.client();
    let volume = Volume::open(&client, name(ID), Hint::default()).unwrap();
    volume.write_at(boot_sector, 0).unwrap();
    client.close(name(ID), Hint::default()).unwrap();
}

/// Starts the instance.
fn start(host: &Host<'_>, hypervisor: &Hypervisor, dir: &Path) -> Guest {
    let file = host.ganeti.attach(&DISK).kvm().to_owned();
    host.call("open", &ALONE);
    let mut machine = hypervisor.start(dir, &file, false);
    machine.go_on();
    Guest {
        machine,
        said: String::new(),
    }
}

/// One live migration.
fn migrate(
    mut guest: Guest,
    source: &Host<'_>,
    target: &Host<'_>,
    hypervisor: &Hypervisor,
    dir: &Path,
) -> Guest {
    // Ganeti attaches the disk on the target, closes it there to be sure, and opens it shared.
    let file = target.ganeti.attach(&DISK).kvm().to_owned();
    target.call("close", &DISK);
    source.call("open", &SHARED);
    target.call("open", &SHARED);
    assert!(is_ours(source.node, ID) && !is_ours(target.node, ID));
    let mut arriving = hypervisor.start(dir, &file, true);
    let uri = json!({ "uri": format!("unix:{}", dir.join("migration").display()) });
    arriving.ask("migrate-incoming", uri.clone());
    guest.machine.ask("migrate", uri);
    guest.machine.await_migration();
    arriving.await_migration();
    arriving.go_on();

    // The guest runs on the target. The source has the disk until it closes it, so nothing that
    // the guest writes is answered.
    guest.said += &guest.machine.quit();
    assert!(is_ours(source.node, ID));
    assert_eq!(arriving.answered_writes(), 0, "before the source closed");
    let early = arriving.said();
    assert!(
        early.lines().count() <= 1,
        "told before the source closed: {early}"
    );
    source.call("close", &DISK);
    target.call("open", &ALONE);
    assert!(is_ours(target.node, ID) && !is_ours(source.node, ID));
    source.call("detach", &DISK);
    assert!(source.ganeti.mapped(ID).is_none());
    Guest {
        machine: arriving,
        said: guest.said,
    }
}

/// The guest told every write once and in order, and nothing else; how many there were. Its last
/// line may have been cut off.
fn check_words(said: &str) -> u32 {
    let complete = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let mut count = 0;
    for line in complete.lines() {
        count += 1;
        assert_eq!(
            line,
            format!("W{count:08x}"),
            "of the guest's words at line {count}"
        );
    }
    assert!(count >= 3 * TURNS as u32);
    count
}

/// Each slot holds the last write that was answered for it, or the one that was under way at the
/// end; seen from the other node.
fn check_disk(node: &RealNode, writes: u32) {
    let client = node.client();
    let volume = Volume::open(&client, name(ID), Hint::default()).unwrap();
    for write in writes - SLOTS + 1..=writes {
        let slot = u64::from(write % SLOTS);
        let mut sector = [0; SECTOR as usize];
        volume
            .read_at(&mut sector, (FIRST + slot * STRIDE) * SECTOR)
            .unwrap();
        let words: Vec<u32> = sector
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert!(
            words.iter().all(|word| *word == words[0]),
            "a torn sector in slot {slot}"
        );
        let next = write + SLOTS;
        let under_way = next == writes + 1 && words[0] == next;
        assert!(
            words[0] == write || under_way,
            "slot {slot}: {} and not {write}",
            words[0]
        );
    }
}
