//! In which windows of a request's life a process was when it was killed.
//!
//! The victim is stopped first (SIGSTOP), so that what the state words say is what it died with;
//! what the kernel does for it goes on meanwhile.

use std::collections::BTreeMap;
use xseg::join::Observed;
use xseg::{SeatNo, Segment, State};

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

/// How often each window was hit.
pub type Hits = BTreeMap<Window, u64>;

/// Counts the windows that the seats of a stopped process are in.
pub fn count(observed: &Observed, seats: &[SeatNo], hits: &mut Hits) {
    let regions = std::iter::once(&observed.public).chain(&observed.private);
    let mut seen = BTreeMap::new();
    for segment in regions {
        count_region(segment, seats, &mut seen);
    }
    for window in seen.keys() {
        *hits.entry(*window).or_default() += 1;
    }
}

fn count_region(segment: &Segment, seats: &[SeatNo], seen: &mut BTreeMap<Window, u64>) {
    let mut hit = |window| *seen.entry(window).or_default() += 1;
    for word in segment.slots().iter().filter_map(|slot| slot.state.load()) {
        let (owns, holds) = (seats.contains(&word.owner), seats.contains(&word.holder));
        match word.state {
            State::Claimed if owns => hit(Window::Claimed),
            State::Queued if holds => hit(Window::Queued),
            State::Serving if holds => hit(Window::Serving),
            State::Answered if owns => hit(Window::Answered),
            State::Received if owns => hit(Window::NotYetFreed),
            _ => {}
        }
    }
    for seat in seats {
        if segment.member(*seat).is_some_and(|m| m.busy() > 0) {
            hit(Window::InKernel);
        }
    }
}

/// Whether one of the seats is in `window` right now, looking at the first `slots` slots of each
/// region only: those that are in use again and again.
pub fn is_in(observed: &Observed, seats: &[SeatNo], window: Window, slots: usize) -> bool {
    let state = match window {
        Window::Claimed => State::Claimed,
        Window::NotYetFreed => State::Received,
        Window::Answered => State::Answered,
        Window::Queued | Window::Serving | Window::InKernel => return true,
    };
    let regions = std::iter::once(&observed.public).chain(&observed.private);
    regions
        .flat_map(|segment| segment.slots().iter().take(slots))
        .any(|slot| {
            slot.state
                .load()
                .is_some_and(|w| w.state == state && seats.contains(&w.owner))
        })
}
