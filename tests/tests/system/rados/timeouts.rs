//! `rados_osd_op_timeout` in `ceph.conf`, and fewer OSDs than `min_size` for longer than that: a
//! guest's write fails, with an errno and a sentence that names the setting, and what failed never
//! shows up later. When the OSD is back the same volume serves, without being closed.

use super::deaths::is_down;
use super::{below_target, name, start, vlmc};
use client::{Client, Error, Hint, Volume};
use config::SampleRados;
use rados_lab::{Lab, Options};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use system_tests::pools;
use system_tests::real::{self, RealNode};
use system_tests::verifier::{BLOCK, Load, Outcome};

const PATIENCE: Duration = Duration::from_secs(120);
/// Guests, each of which writes to one block of an object of its own.
const GUESTS: u64 = 6;
/// Blocks in an object.
const OBJECT: u64 = 1024;

/// A cluster's `ceph.conf` with the limit set, in seconds.
fn with_limit(lab: &Lab, limit: u32) -> SampleRados {
    let text = std::fs::read_to_string(lab.user_conf()).unwrap();
    let unlimited = "rados_osd_op_timeout = 0";
    assert!(text.contains(unlimited), "{text}");
    let file = lab.dir().join("limited.conf");
    let limited = format!("rados_osd_op_timeout = {limit}");
    std::fs::write(&file, text.replace(unlimited, &limited)).unwrap();
    SampleRados {
        ceph_conf: file,
        ..real::on(lab)
    }
}

/// A guest that writes one block over and over, whatever becomes of it, until it is told to stop and
/// a write has succeeded.
struct Guest {
    failed: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    /// The stamp that was acknowledged last, and what failed.
    end: Receiver<(u64, Vec<Error>)>,
}

impl Guest {
    fn start(node: &RealNode, volume: &'static str, guest: u64, stop: &Arc<AtomicBool>) -> Guest {
        let (socket, ports, stop) = (node.socket(), node.ports(), stop.clone());
        let (said, end) = channel();
        let (failed, written) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (failed.clone(), written.clone());
        std::thread::spawn(move || {
            let client = Client::connect(&socket, ports, "guest").unwrap();
            let volume = Volume::open(&client, name(volume), Hint::default()).unwrap();
            let mut errors = Vec::new();
            for stamp in 1u64.. {
                let bytes = stamp.to_le_bytes().repeat(BLOCK as usize / 8);
                match volume.write_at(&bytes, guest * OBJECT * BLOCK) {
                    Ok(()) if stop.load(SeqCst) => {
                        // Nobody listens any more where the test has failed.
                        let _ = said.send((stamp, errors));
                        return;
                    }
                    Ok(()) => drop(counts.1.fetch_add(1, SeqCst)),
                    Err(error) => {
                        errors.push(error);
                        counts.0.fetch_add(1, SeqCst);
                    }
                }
            }
        });
        Guest {
            failed,
            written,
            end,
        }
    }
}

/// Until every guest has counted to its goal.
fn await_counts(guests: &[Guest], of: impl Fn(&Guest) -> &AtomicU64, goals: &[u64]) -> Duration {
    let begin = Instant::now();
    for (guest, goal) in guests.iter().zip(goals) {
        while of(guest).load(SeqCst) < *goal {
            assert!(begin.elapsed() < PATIENCE, "a guest is stuck");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    begin.elapsed()
}

/// Until every guest has written twenty times more.
fn await_writes(guests: &[Guest]) -> Duration {
    let goals: Vec<_> = guests
        .iter()
        .map(|guest| guest.written.load(SeqCst) + 20)
        .collect();
    await_counts(guests, |guest| &guest.written, &goals)
}

/// The logs of a node, all in one.
fn logs(node: &RealNode) -> String {
    let files = std::fs::read_dir(node.dir().join("log")).unwrap();
    let texts = files
        .flatten()
        .map(|file| std::fs::read_to_string(file.path()).unwrap());
    texts.collect()
}

/// A node of one of the two shapes, and what happened there.
struct Story {
    shape: Option<&'static str>,
    volume: &'static str,
    node: RealNode,
    guests: Vec<Guest>,
}

impl Story {
    fn begin(lab: &Lab, shape: Option<&'static str>, stop: &Arc<AtomicBool>) -> Story {
        let rados = with_limit(lab, 2);
        let node = RealNode::start(&below_target(), |params| {
            params.rados = Some(rados);
            params.process = shape.map(str::to_owned);
        });
        let (node, volume) = (node.unwrap(), shape.unwrap_or("per-role"));
        let size = GUESTS * OBJECT * BLOCK;
        node.client().create(name(volume), size).unwrap();
        let guests = (0..GUESTS).map(|guest| Guest::start(&node, volume, guest, stop));
        Story {
            shape,
            volume,
            guests: guests.collect(),
            node,
        }
    }

    /// Every guest's write fails, and the node says what that has to do with.
    fn await_failures(&self) {
        let once = vec![1; self.guests.len()];
        let failed = await_counts(&self.guests, |guest| &guest.failed, &once);
        let log = logs(&self.node);
        let mut lines = log.lines();
        let sentence = lines.find(|line| line.contains("rados_osd_op_timeout"));
        println!(
            "{:?}: every guest's write failed within {failed:?}: {sentence:?}",
            self.shape
        );
        assert!(
            sentence.is_some_and(|line| line.contains("the pool ")),
            "{log}"
        );
    }

    /// The guests go on, the volume was not lost, and the pool has what was acknowledged last.
    fn end(self, lab: &Lab) {
        let (mut stamps, mut errnos) = (HashMap::new(), HashMap::new());
        for (guest, at) in self.guests.iter().zip(0..) {
            let (stamp, errors) = guest.end.recv_timeout(PATIENCE).expect("a guest that ends");
            stamps.insert(at * OBJECT, stamp);
            for error in errors {
                *errnos.entry(error.errno).or_insert(0) += 1;
            }
        }
        println!("{:?}: errnos of the guests {errnos:?}", self.shape);
        assert!(errnos.keys().eq(&[libc::ETIMEDOUT]), "{errnos:?}");
        let status = vlmc(&self.node, &["status", self.volume]);
        assert!(!status.contains("closed and opened again"), "{status}");
        let outcome = Outcome {
            load: Load::Volume(self.volume.into()),
            wrong: None,
            stamps,
        };
        let (count, wrong) = pools::compare(lab, "blocks", &outcome).unwrap();
        assert_eq!((count, wrong), (GUESTS, Vec::new()));
        assert!(self.node.stop().unwrap().success());
    }
}

#[test]
fn below_min_size_a_limit_fails_writes() {
    if rados_lab::skip("below_min_size_a_limit_fails_writes") {
        return;
    }
    let mut lab = start(Options {
        min_size: Some(2),
        ..Options::with_osds(2)
    });
    let stop = Arc::new(AtomicBool::new(false));
    let stories = [None, Some("one-node")].map(|shape| Story::begin(&lab, shape, &stop));
    for story in &stories {
        await_writes(&story.guests);
    }
    lab.kill_osd(1);
    let patience = Instant::now() + PATIENCE;
    while !is_down(&lab, 1) {
        assert!(Instant::now() < patience, "the dead OSD is not noticed");
    }
    stories.iter().for_each(Story::await_failures);
    lab.start_osd(1).unwrap();
    for story in &stories {
        let again = await_writes(&story.guests);
        println!(
            "{:?}: served again {again:?} after the OSD was started",
            story.shape
        );
    }
    stop.store(true, SeqCst);
    stories.into_iter().for_each(|story| story.end(&lab));
}
