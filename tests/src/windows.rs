//! In which windows of a request's life a process was when it was killed, and how much each role
//! had to do then.
//!
//! The victim is stopped first, so that what the state words say is what it died with; what the
//! kernel does for it goes on meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use xseg::join::Observed;
use xseg::{SeatNo, Segment, State, Word};

/// The windows, in the order of a request's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Window {
    /// A slot taken and not sent.
    Claimed,
    /// A request waits in its inbox.
    Queued,
    /// It works on a request.
    Serving,
    /// A driver has operations that the kernel has not answered.
    InKernel,
    /// A request that it sent is answered, and it has not looked.
    Answered,
    /// It has an answer, and has not freed the slot.
    NotYetFreed,
}

impl Window {
    /// All of them.
    pub const ALL: [Window; 6] = [
        Window::Claimed,
        Window::Queued,
        Window::Serving,
        Window::InKernel,
        Window::Answered,
        Window::NotYetFreed,
    ];

    /// Whether a slot with this word is in this window of one of the seats.
    fn shows(self, word: Word, seats: &[SeatNo]) -> bool {
        let (owns, holds) = (seats.contains(&word.owner), seats.contains(&word.holder));
        match self {
            Window::Claimed => word.state == State::Claimed && owns,
            Window::Queued => word.state == State::Queued && holds,
            Window::Serving => word.state == State::Serving && holds,
            Window::InKernel => false,
            Window::Answered => word.state == State::Answered && owns,
            Window::NotYetFreed => word.state == State::Received && owns,
        }
    }
}

/// How often each window was hit.
pub type Hits = BTreeMap<Window, u64>;

/// Slots of each region that a narrow window is looked for in: those that are taken again and
/// again are the first, and looking at all of them takes longer than the window lasts.
const OFTEN_USED: usize = 512;

fn regions(observed: &Observed) -> impl Iterator<Item = &Segment> {
    std::iter::once(&observed.public).chain(&observed.private)
}

fn words(segment: &Segment) -> impl Iterator<Item = Word> + '_ {
    segment.slots().iter().filter_map(|slot| slot.state.load())
}

/// The seats of a process, whichever roles it plays.
pub fn seats_of(observed: &Observed, pid: i32) -> Vec<SeatNo> {
    let members = observed.public.members().iter().zip(0..);
    members
        .filter(|(member, _)| member.pid.load(xseg::sync::Ordering::Relaxed) == pid as u32)
        .map(|(_, no)| SeatNo(no))
        .collect()
}

/// The windows that the seats of a stopped process are in.
pub fn seen(observed: &Observed, seats: &[SeatNo]) -> BTreeSet<Window> {
    let mut seen = BTreeSet::new();
    for segment in regions(observed) {
        for word in words(segment) {
            seen.extend(Window::ALL.iter().filter(|w| w.shows(word, seats)));
        }
    }
    if in_kernel(observed, seats) > 0 {
        seen.insert(Window::InKernel);
    }
    seen
}

/// How many operations the drivers of the seats have in the kernel.
fn in_kernel(observed: &Observed, seats: &[SeatNo]) -> u64 {
    let members = seats
        .iter()
        .filter_map(|seat| observed.public.member(*seat));
    members.map(|member| member.busy()).sum()
}

/// Whether one of the seats is in `window` right now; of the slots, those that are used most.
pub fn is_in(observed: &Observed, seats: &[SeatNo], window: Window) -> bool {
    regions(observed).any(|segment| {
        words(segment)
            .take(OFTEN_USED)
            .any(|word| window.shows(word, seats))
    })
}

/// For each of `seats` how many requests wait in its inbox or are being served by it.
pub fn under_way(observed: &Observed, seats: &[SeatNo]) -> Vec<usize> {
    let mut counts = vec![0; seats.len()];
    for word in regions(observed).flat_map(words) {
        if matches!(word.state, State::Queued | State::Serving)
            && let Some(at) = seats.iter().position(|seat| *seat == word.holder)
        {
            counts[at] += 1;
        }
    }
    counts
}

/// The requests that the seats have taken and not answered: region, slot and word.
pub fn serving(observed: &Observed, seats: &[SeatNo]) -> BTreeSet<(usize, usize, u64)> {
    let mut all = BTreeSet::new();
    for (region, segment) in regions(observed).enumerate() {
        for (index, slot) in segment.slots().iter().enumerate() {
            if let Some(word) = slot.state.load()
                && Window::Serving.shows(word, seats)
            {
                all.insert((region, index, word.encode()));
            }
        }
    }
    all
}
