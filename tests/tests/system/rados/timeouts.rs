//! `rados_osd_op_timeout` in `ceph.conf`, and fewer OSDs than `min_size` for longer than that: a
//! guest's write fails, with an errno and a sentence that names the setting, and what failed never
//! shows up later, however many come while the OSD is away. When it is back the same volume serves,
//! without being closed.

use super::deaths::is_down;
use super::{below_target, name, start, vlmc};
use client::{Client, Error, Hint, Volume};
use config::SampleRados;
use rados_lab::{Lab, Options};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use system_tests::pools;
use system_tests::real::{self, RealNode};
use system_tests::verifier::{BLOCK, Load, Outcome};

const PATIENCE: Duration = Duration::from_secs(120);
/// Guests, each of which writes to one block of an object of its own.
const GUESTS: u64 = 4;
/// Blocks in an object.
const OBJECT: u64 = 1024;
/// `rados_osd_op_timeout`, in seconds.
const LIMIT: u32 = 2;
/// How long a write may go unanswered while the OSD is away: the limit, the 30 s after which nothing
/// of it can land, and some restarts of a radosd.
const ANSWERED_WITHIN: Duration = Duration::from_secs(LIMIT as u64 + 30 + 15);

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

/// A guest that opens a volume and, from when it is told to, writes one block over and over, whatever
/// becomes of it, until it is told to stop and a write has succeeded.
struct Guest {
    go: Sender<()>,
    failed: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    /// The stamp that was acknowledged last, and what failed.
    end: Receiver<(u64, Vec<Error>)>,
}

impl Guest {
    fn start(node: &RealNode, volume: &'static str, guest: u64, stop: &Arc<AtomicBool>) -> Guest {
        let (socket, ports, stop) = (node.socket(), node.ports(), stop.clone());
        let ((said, end), (go, told), (opened, is_open)) = (channel(), channel(), channel());
        let (failed, written) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (failed.clone(), written.clone());
        std::thread::spawn(move || {
            let client = Client::connect(&socket, ports, "guest").unwrap();
            let volume = Volume::open(&client, name(volume), Hint::default()).unwrap();
            opened.send(()).unwrap();
            if told.recv().is_err() {
                return;
            }
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
        is_open.recv_timeout(PATIENCE).expect("an open volume");
        Guest {
            go,
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

/// Until a role has another process than `before`, which it is.
fn await_successor(node: &RealNode, role: &str, before: Option<i32>) -> Option<i32> {
    let patience = Instant::now() + PATIENCE;
    loop {
        match node.pid_of(role) {
            now @ Some(_) if now != before => return now,
            _ => assert!(Instant::now() < patience, "{role} is not replaced"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
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
        let rados = with_limit(lab, LIMIT);
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

    /// Gives every guest's block an object.
    fn fill(&self) {
        let client = self.node.client();
        let volume = Volume::open(&client, name(self.volume), Hint::default()).unwrap();
        for guest in 0..GUESTS {
            let bytes = [b'.'; BLOCK as usize];
            volume.write_at(&bytes, guest * OBJECT * BLOCK).unwrap();
        }
    }

    /// The guests go on while the OSD is away, and each is answered. Behind so many of them the next
    /// one waits until the radosd that they have to do with has a successor.
    fn await_answers(&mut self, one_by_one: usize) {
        let mut begins = Vec::new();
        let mut radosd = self.node.pid_of("blockerb");
        for (at, guest) in self.guests.iter().enumerate() {
            guest.go.send(()).unwrap();
            begins.push(Instant::now());
            if at < one_by_one {
                radosd = await_successor(&self.node, "blockerb", radosd);
            }
        }
        for (at, (guest, begin)) in self.guests.iter().zip(begins).enumerate() {
            while guest.failed.load(SeqCst) == 0 {
                let waited = begin.elapsed();
                assert!(waited < ANSWERED_WITHIN, "guest {at} has no answer");
                std::thread::sleep(Duration::from_millis(1));
            }
            println!("{:?}: guest {at} was answered", self.shape);
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
            assert!(!errors.is_empty(), "guest {at}");
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

/// A cluster of which an OSD is to be killed.
fn two_osds() -> Lab {
    start(Options {
        min_size: Some(2),
        ..Options::with_osds(2)
    })
}

/// Kills an OSD; returns when the monitor knows.
fn kill_osd(lab: &mut Lab) {
    lab.kill_osd(1);
    let patience = Instant::now() + PATIENCE;
    while !is_down(lab, 1) {
        assert!(Instant::now() < patience, "the dead OSD is not noticed");
    }
}

fn start_osd(lab: &mut Lab, stories: &[Story]) {
    lab.start_osd(1).unwrap();
    for story in stories {
        let again = await_writes(&story.guests);
        println!(
            "{:?}: served again {again:?} after the OSD was started",
            story.shape
        );
    }
}

const SHAPES: [Option<&str>; 2] = [None, Some("one-node")];

#[test]
fn below_min_size_a_limit_fails_writes() {
    if rados_lab::skip("below_min_size_a_limit_fails_writes") {
        return;
    }
    let mut lab = two_osds();
    let stop = Arc::new(AtomicBool::new(false));
    let stories = SHAPES.map(|shape| Story::begin(&lab, shape, &stop));
    for story in &stories {
        let guests = story.guests.iter();
        guests.for_each(|guest| guest.go.send(()).unwrap());
        await_writes(&story.guests);
    }
    kill_osd(&mut lab);
    stories.iter().for_each(Story::await_failures);
    start_osd(&mut lab, &stories);
    stop.store(true, SeqCst);
    stories.into_iter().for_each(|story| story.end(&lab));
}

/// It was so that two guests kept each other from ever being answered. What had failed was taken out
/// of the file as soon as it was asked for again, but answered only when nothing of it could land any
/// more, up to 30 s later. Where a change of another guest timed out meanwhile, the client was cut off
/// for that one, and its successor knew nothing of the first: sent it again, was cut off for it, and
/// had forgotten the other by then. So it went on for as long as the OSD was away, with a new radosd
/// every few seconds.
#[test]
fn who_comes_while_an_osd_is_away_is_answered_too() {
    if rados_lab::skip("who_comes_while_an_osd_is_away_is_answered_too") {
        return;
    }
    let mut lab = two_osds();
    // Maps are served with one OSD, data is not.
    let lenient = r#"{"prefix":"osd pool set","pool":"maps","var":"min_size","val":"1"}"#;
    lab.mon_commands(&[lenient.into()]).unwrap();
    while_an_osd_is_away(&mut lab, GUESTS as usize);
}

/// With the maps' OSD away, too, changes of the first successor waited in it until all locks named it,
/// which nobody can write into them: for ever, with a limit of 2 s.
#[test]
fn who_comes_while_no_lock_can_name_us_is_answered_too() {
    if rados_lab::skip("who_comes_while_no_lock_can_name_us_is_answered_too") {
        return;
    }
    while_an_osd_is_away(&mut two_osds(), 1);
}

fn while_an_osd_is_away(lab: &mut Lab, one_by_one: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut stories = SHAPES.map(|shape| Story::begin(lab, shape, &stop));
    stories.iter().for_each(Story::fill);
    kill_osd(lab);
    std::thread::scope(|scope| {
        for story in &mut stories {
            scope.spawn(|| story.await_answers(one_by_one));
        }
    });
    start_osd(lab, &stories);
    stop.store(true, SeqCst);
    stories.into_iter().for_each(|story| story.end(lab));
}
