//! Models of what two processes do to each other, run under loom: every interleaving (with at
//! most four preemptions) and every value that the orderings allow.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p xseg --release --lib loom`

use crate::buffer::{self, Hints};
use crate::inbox::{self, Walk, status};
use crate::layout::{CLASS_COUNT, Layout, RegionSpec};
use crate::name::Name;
use crate::protocol::Operation;
use crate::reclaim::{self, Left};
use crate::slot::{Answer, Request, Slot};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::word::{SeatNo, SlotNo, State, StateCell, Word};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const SENDER: SeatNo = SeatNo(20);
const OTHER: SeatNo = SeatNo(21);
const RECEIVER: SeatNo = SeatNo(30);

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(model);
}

/// An inbox with its links.
struct Inbox {
    head: AtomicU64,
    links: Vec<AtomicU32>,
    bell: AtomicU32,
}

impl Inbox {
    fn new(slots: usize) -> Arc<Inbox> {
        Arc::new(Inbox {
            head: AtomicU64::new(0),
            links: (0..slots).map(|_| AtomicU32::new(0)).collect(),
            bell: AtomicU32::new(0),
        })
    }

    fn push(&self, slot: u32) {
        let link = |s: SlotNo| self.links.get(s.0 as usize);
        if inbox::push(&self.head, RECEIVER, SlotNo(slot), link) {
            self.bell.store(1, Ordering::Release);
        }
    }

    fn take(&self, out: &mut Vec<SlotNo>) {
        let link = |s: SlotNo| self.links.get(s.0 as usize);
        let walk = inbox::take(&self.head, RECEIVER, self.links.len() as u32, link, out);
        assert_eq!(walk, Walk::Whole);
    }
}

#[test]
fn loom_nothing_pushed_is_lost_and_a_senders_order_is_kept() {
    check(|| {
        let inbox = Inbox::new(3);
        let (a, b) = (inbox.clone(), inbox.clone());
        let senders = [
            thread::spawn(move || {
                a.push(0);
                a.push(1);
            }),
            thread::spawn(move || b.push(2)),
        ];
        let mut got = Vec::new();
        // A change of the head, as after a sleep: loom tries no sender between two mere loads.
        inbox::wake(&inbox.head);
        inbox.take(&mut got);
        senders.into_iter().for_each(|s| s.join().unwrap());
        inbox.take(&mut got);
        let at = |slot| got.iter().position(|&s| s == SlotNo(slot)).unwrap();
        assert!(at(0) < at(1) && at(2) < 3);
        assert_eq!(got.len(), 3);
    });
}

#[test]
fn loom_who_dozes_off_is_woken_by_the_next_push() {
    check(|| {
        let inbox = Inbox::new(2);
        let (a, b) = (inbox.clone(), inbox.clone());
        let senders = [
            thread::spawn(move || a.push(0)),
            thread::spawn(move || b.push(1)),
        ];
        let mut got = Vec::new();
        inbox.take(&mut got);
        let asleep = inbox::doze(&inbox.head);
        senders.into_iter().for_each(|s| s.join().unwrap());
        let rang = inbox.bell.load(Ordering::Acquire) == 1;
        // All pushes are over: whoever sleeps with mail in its box, and no bell, sleeps forever.
        let mail = inbox::has_mail(&inbox.head);
        assert!(rang || !(asleep && mail), "a lost wake-up");
        inbox.take(&mut got);
        assert_eq!(got.len(), 2);
    });
}

#[test]
fn loom_of_two_claimers_one_wins() {
    check(|| {
        let cell = Arc::new(StateCell::new());
        let (a, b) = (cell.clone(), cell.clone());
        let one = thread::spawn(move || a.claim(SENDER));
        let two = thread::spawn(move || b.claim(OTHER));
        let won = [one.join().unwrap(), two.join().unwrap()];
        let won: Vec<Word> = won.into_iter().flatten().collect();
        assert_eq!(won.len(), 1);
        assert_eq!(cell.load(), Some(won[0]));
    });
}

fn request() -> Request {
    Request {
        offset: 7,
        size: 9,
        ..Request::new(Operation::Write, Name::try_from("v").unwrap())
    }
}

/// What a server finds in a slot: it takes it if it is queued.
fn accept(slot: &Slot) -> Option<Word> {
    let word = slot.state.load().filter(|w| w.state == State::Queued)?;
    let serving = word.with(State::Serving, RECEIVER);
    slot.state.change(word, serving).then_some(serving)
}

#[test]
fn loom_a_request_is_served_or_taken_back_and_read_as_it_was_sent() {
    check(|| {
        let slot = Arc::new(Slot::detached());
        let server = slot.clone();
        let server = thread::spawn(move || {
            let serving = accept(&server)?;
            let mut read = Request::default();
            assert!(server.read_request(&mut read));
            assert_eq!((read.offset, read.size), (7, 9));
            assert_eq!(read.target.as_bytes(), b"v");
            server.write_answer(&Answer::served(9));
            let answered = serving.with(State::Answered, serving.owner);
            assert!(server.state.change(serving, answered));
            Some(())
        });
        let claimed = slot.state.claim(SENDER).unwrap();
        slot.write_request(&request(), 1, 2);
        let queued = claimed.with(State::Queued, RECEIVER);
        assert!(slot.state.change(claimed, queued));
        let back = reclaim::free(&slot.state, queued);
        if slot
            .state
            .load()
            .is_some_and(|w| w.state == State::Answered)
        {
            assert_eq!(slot.read_answer().result(), Ok(9));
        }
        let served = server.join().unwrap().is_some();
        assert!(served != back, "one of the two has it");
    });
}

/// A slot that `SENDER` sent and `RECEIVER` has in `state`.
fn in_state(state: State) -> (Arc<(StateCell, AtomicU32)>, Word) {
    let cell = StateCell::new();
    let claimed = cell.claim(SENDER).unwrap();
    let word = claimed.with(state, RECEIVER);
    assert!(cell.change(claimed, word));
    (Arc::new((cell, AtomicU32::new(status::ALIVE))), word)
}

#[test]
fn loom_what_is_answered_to_the_dead_is_freed_by_one() {
    check(|| {
        let (shared, serving) = in_state(State::Serving);
        let server = shared.clone();
        let server = thread::spawn(move || {
            let answered = serving.with(State::Answered, SENDER);
            assert!(server.0.change(serving, answered));
            reclaim::free_if_dead(&server.0, answered, &server.1)
        });
        shared.1.store(status::DEAD, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let left = reclaim::sweep_slot(&shared.0, &|seat| seat == SENDER);
        let by_server = server.join().unwrap();
        assert!(
            by_server != (left == Left::Freed),
            "one of the two frees it"
        );
        assert!(shared.0.load().is_some_and(|w| w.state == State::Free));
    });
}

#[test]
fn loom_what_is_sent_to_the_dead_is_taken_back_or_swept() {
    check(|| {
        let (shared, claimed) = in_state(State::Claimed);
        let sender = shared.clone();
        let sender = thread::spawn(move || {
            let queued = claimed.with(State::Queued, RECEIVER);
            assert!(sender.0.change(claimed, queued));
            reclaim::take_back_if_dead(&sender.0, queued, &sender.1)
        });
        shared.1.store(status::DEAD, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let left = reclaim::sweep_slot(&shared.0, &|seat| seat == RECEIVER);
        let back = sender.join().unwrap();
        assert!(back || matches!(left, Left::Unstarted(_)), "nobody saw it");
    });
}

/// Three buffers of the largest class, and what is in them.
struct Heap {
    layout: Layout,
    words: Vec<AtomicU64>,
    data: Vec<UnsafeCell<u16>>,
}

impl Heap {
    fn new() -> Arc<Heap> {
        let mut layout = Layout::new(RegionSpec::public(8, 4, 64)).unwrap();
        for class in &mut layout.classes {
            class.count = 0;
            class.first_word = 0;
        }
        layout.classes[CLASS_COUNT - 1].count = 3;
        Arc::new(Heap {
            layout,
            words: (0..3).map(|_| AtomicU64::new(0)).collect(),
            data: (0..3).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    /// Takes, writes to what was taken (loom sees it if two do at once), and gives it back.
    fn use_some(&self, seat: SeatNo, len: u64) -> bool {
        let mut hints = Hints::default();
        let taken = buffer::take(&self.layout, &self.words, &mut hints, seat, len);
        let Some(taken) = taken else {
            return false;
        };
        let size = self.layout.classes[CLASS_COUNT - 1].size;
        let first = taken.word as usize;
        for cell in &self.data[first..first + (taken.capacity / size) as usize] {
            // SAFETY: the buffer is ours alone between `take` and `give_back`; loom fails the
            // model if it is not.
            cell.with_mut(|data| unsafe { *data = seat.0 });
        }
        assert!(buffer::give_back(
            &self.layout,
            &self.words,
            &mut hints,
            seat,
            taken.offset
        ));
        true
    }
}

#[test]
fn loom_no_buffer_is_held_by_two_and_all_come_back() {
    check(|| {
        let heap = Heap::new();
        let (a, b) = (heap.clone(), heap.clone());
        let run = thread::spawn(move || a.use_some(SENDER, 8 << 20));
        let single = thread::spawn(move || b.use_some(OTHER, 4 << 20));
        let ran = run.join().unwrap();
        assert!(single.join().unwrap(), "a run of two leaves one");
        assert!(ran || heap.words.len() == 3);
        assert!(heap.words.iter().all(|w| w.load(Ordering::Acquire) == 0));
    });
}

#[test]
fn loom_two_runs_never_overlap() {
    check(|| {
        let heap = Heap::new();
        let (a, b) = (heap.clone(), heap.clone());
        let one = thread::spawn(move || a.use_some(SENDER, 8 << 20));
        let two = thread::spawn(move || b.use_some(OTHER, 8 << 20));
        one.join().unwrap();
        two.join().unwrap();
        assert!(heap.words.iter().all(|w| w.load(Ordering::Acquire) == 0));
    });
}
