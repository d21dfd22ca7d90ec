//! What a seat remembers of a region: where it found free slots, and which requests are its own.

use crate::buffer::Hints;
use crate::inbox;
use crate::segment::Segment;
use crate::word::{SeatNo, SlotNo, State, Word};

pub(super) struct Region {
    pub(super) segment: Segment,
    /// For each slot the generation + 1 of the request that I sent in it, 0 for none.
    pub(super) sent: Vec<u32>,
    recent: Vec<SlotNo>,
    next: u32,
    pub(super) hints: Hints,
}

/// Free slots that are remembered at most.
const RECENT_MAX: usize = 1024;

impl Region {
    pub(super) fn new(segment: Segment) -> Region {
        let slots = segment.layout().spec.slots as usize;
        Region {
            segment,
            sent: vec![0; slots],
            recent: Vec::with_capacity(RECENT_MAX),
            next: 0,
            hints: Hints::default(),
        }
    }

    fn try_claim(&self, slot: SlotNo, seat: SeatNo) -> Option<Word> {
        let cell = &self.segment.slot(slot)?.state;
        let free = cell.load().filter(|w| w.state == State::Free)?;
        let claimed = free.claimed_by(seat);
        cell.change(free, claimed).then_some(claimed)
    }

    pub(super) fn claim(&mut self, seat: SeatNo) -> Option<(SlotNo, Word)> {
        while let Some(slot) = self.recent.pop() {
            if let Some(word) = self.try_claim(slot, seat) {
                return Some((slot, word));
            }
        }
        let slots = self.segment.layout().spec.slots;
        let found = (0..slots).find_map(|i| {
            let slot = SlotNo((self.next + i) % slots);
            self.try_claim(slot, seat).map(|word| (slot, word))
        });
        if let Some((slot, _)) = found {
            self.next = (slot.0 + 1) % slots;
        }
        found
    }

    /// A slot to look at first when the next one is claimed.
    pub(super) fn remember_free(&mut self, slot: SlotNo) {
        if self.recent.len() < RECENT_MAX {
            self.recent.push(slot);
        }
    }

    pub(super) fn push(&self, to: SeatNo, slot: SlotNo) -> bool {
        let Some(member) = self.segment.member(to) else {
            return false;
        };
        inbox::push(&member.head, to, slot, |s| {
            self.segment.slot(s).map(|slot| &slot.next)
        })
    }
}
