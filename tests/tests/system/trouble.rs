//! Trouble from outside: a full disk, a directory that is not the one it was, a client that
//! scribbles over the segment.

use client::{Core, ErrorKind, Hint, Name, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use system_tests::real::{RealNode, program};
use system_tests::storage::Storage;
use xseg::Request;
use xseg::join::{Kind, connect, repair};
use xseg::protocol::Operation;
use xseg::seat::PUBLIC;

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn below_target() -> PathBuf {
    program("archipelago").parent().unwrap().to_owned()
}

/// A filesystem of `mib` MiB in memory; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Option<SmallDisk> {
        let size = format!("size={mib}m");
        let flags = MsFlags::empty();
        match mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(size.as_str())) {
            Ok(()) => Some(SmallDisk(at.to_owned())),
            Err(why) => {
                // Not captured, so that it is seen; who can't see it loses nothing.
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIP full disk: can't mount a tmpfs: {why}"
                );
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("it was mounted");
    }
}

on_each!(files, rados => a_scribbler_neither_crashes_nor_hangs_a_peer);

/// A full cluster is `rados::full`.
#[test]
fn a_full_disk_fails_that_write_alone() {
    let disk_dir = tempfile::tempdir_in(below_target()).unwrap();
    let Some(_disk) = SmallDisk::mount(disk_dir.path(), 24) else {
        return;
    };
    let blocks = disk_dir.path().join("blocks");
    std::fs::create_dir(&blocks).unwrap();
    let node = RealNode::start_varied(
        &below_target(),
        |params| params.direct = false,
        |text| {
            text.replace(
                "archip_dir = blocks",
                &format!("archip_dir = {}", blocks.display()),
            )
        },
    )
    .unwrap();
    let client = node.client();
    for volume in ["volume-1", "volume-2"] {
        client.create(name(volume), 1 << 30).unwrap();
    }
    let open = |text| Volume::open(&client, name(text), Hint::default()).unwrap();
    let (first, second) = (open("volume-1"), open("volume-2"));
    let piece = |seed: u8| vec![seed; 1 << 20];
    for at in 0..8 {
        first.write_at(&piece(7), at << 20).unwrap();
    }
    // More than there is room for.
    let mut written = 0;
    let refused = loop {
        match second.write_at(&piece(9), written << 20) {
            Ok(()) => written += 1,
            Err(why) => break why,
        }
        assert!(written < 64, "24 MiB hold no 64");
    };
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    let mut seen = vec![0; 1 << 20];
    for at in 0..8 {
        first.read_at(&mut seen, at << 20).unwrap();
        assert!(seen == piece(7), "MiB {at} of the other volume");
    }
    for at in 0..written {
        second.read_at(&mut seen, at << 20).unwrap();
        assert!(
            seen == piece(9),
            "MiB {at}, written before the disk was full"
        );
    }
    // Space returns, and so does I/O.
    client.remove(name("volume-1"), Hint::default()).unwrap();
    second.write_at(&piece(5), written << 20).unwrap();
    second.read_at(&mut seen, written << 20).unwrap();
    assert!(seen == piece(5));
    second.flush().unwrap();
    drop(client);
    assert!(node.stop().unwrap().success());
}

/// An unmounted disk must not turn volumes into zeros. (A pool that was made again: the tests of the
/// tools.)
#[test]
fn a_directory_that_is_not_the_one_it_was_is_refused() {
    let node = RealNode::start(&below_target(), |_| ()).unwrap();
    let client = node.client();
    client.create(name("volume-1"), 1 << 30).unwrap();
    drop(client);
    std::fs::remove_file(node.dir().join("blocks/.archipelago")).unwrap();
    let stopped = node.run("archipelago", &["restart", "blockerb"]).unwrap();
    assert!(!stopped.status.success(), "{stopped:?}");
    let said = String::from_utf8_lossy(&stopped.stderr) + String::from_utf8_lossy(&stopped.stdout);
    assert!(
        said.contains("blockerb") && said.contains(".archipelago"),
        "{said}"
    );
    assert!(
        !node.dir().join("blocks/.archipelago").exists(),
        "nothing was made over it"
    );
}

fn a_scribbler_neither_crashes_nor_hangs_a_peer(storage: &Storage) {
    let seed = 11;
    println!("seed {seed}");
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let start = RealNode::start(&below_target(), |params| {
        params.process = None;
        storage.place().vary(params);
    });
    let node = start.unwrap();
    let roles = ["blockerb", "blockerm", "mapperd", "vlmcd"];
    let pids = roles.map(|role| node.pid_of(role).unwrap());
    node.client().create(name("volume-1"), 1 << 30).unwrap();
    for round in 0..30 {
        scribble(&node, &mut dice, round % 10 == 9);
        knock(&node, &mut dice);
    }
    repair(&node.socket()).unwrap();
    assert_eq!(
        roles.map(|role| node.pid_of(role).unwrap()),
        pids,
        "a peer crashed"
    );
    let client = node.client();
    let volume = Volume::open(&client, name("volume-1"), Hint::default()).unwrap();
    let data: Vec<u8> = (0..3 << 20).map(|i| (i % 251) as u8).collect();
    volume.write_at(&data, 12345).unwrap();
    volume.flush().unwrap();
    let mut seen = vec![0; data.len()];
    volume.read_at(&mut seen, 12345).unwrap();
    assert!(seen == data);
    client
        .snapshot(name("volume-1"), name("snapshot-1"), Hint::default())
        .unwrap();
    drop(client);
    assert!(node.stop().unwrap().success());
}

/// Random bytes over everything that clients share; over the buffers of data as well if `data`.
fn scribble(node: &RealNode, dice: &mut ChaCha8Rng, data: bool) {
    let joined = connect(&node.socket(), Kind::Client { name: "scribbler" }).unwrap();
    let segment = joined.seat.segment(PUBLIC).unwrap();
    let file = File::from(segment.descriptor().try_clone_to_owned().unwrap());
    let (heap, total) = (segment.layout().heap, segment.layout().total);
    let mut noise = vec![0; heap as usize];
    dice.fill_bytes(&mut noise);
    if dice.random() {
        // Words that look like states, with seats that exist.
        noise.iter_mut().step_by(8).for_each(|byte| *byte %= 6);
    }
    let end = if data { total } else { heap };
    for at in (0..end).step_by(noise.len()) {
        let len = noise.len().min((end - at) as usize);
        file.write_all_at(&noise[..len], at).unwrap();
    }
}

/// Asks every peer something; whether it hears of it, nobody knows.
fn knock(node: &RealNode, dice: &mut ChaCha8Rng) {
    let joined = connect(&node.socket(), Kind::Client { name: "knocker" }).unwrap();
    let mut seat = joined.seat;
    seat.bind_dynamic();
    let mut core = Core::new(seat);
    let ports = node.ports();
    let mut done = Vec::new();
    for port in [ports.vlmcd, ports.mapperd, ports.blockerm, ports.blockerb] {
        let operation = Operation::ALL[dice.random_range(0..Operation::ALL.len())];
        let request = Request {
            size: 4096,
            ..Request::new(operation, name("volume-0"))
        };
        // Without a slot or a port there is nobody to ask.
        let _ = core.submit(port, &request, None, 0);
    }
    let patience = Instant::now() + Duration::from_millis(20);
    while core.under_way() > 0 && Instant::now() < patience {
        core.poll(&mut done);
    }
}
