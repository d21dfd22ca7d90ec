//! The state word of a request slot: one `u64` that alone says what a slot is and whose it is.
//!
//! What always holds:
//! - A word changes by compare-and-swap only, so of two contenders one wins and the other sees it.
//! - `owner` is the seat that claimed the slot and will free it; `holder` is the seat whose turn it
//!   is. They are equal unless the slot is with a server.
//! - `generation` grows with every claim, so a token for an earlier life of the slot never fits.
//! - The word lies in memory that clients can scribble on: a decoded word is checked (`State`,
//!   seat range) before anything is done with it.
//!
//! ```text
//!          claim              submit               accept             answer
//!  FREE ----------> CLAIMED ----------> QUEUED ----------> SERVING ----------> ANSWERED
//!   ^                 ^  |                 |                  |                    |
//!   |     release     |  |    take back    |     requeue      |        receive     |
//!   +-----------------|--+<----------------+   (successor)    |                    |
//!                     +---------------------------------------|--------------------+
//! ```

use crate::sync::{AtomicU64, Ordering};

/// A place at the table: the index of a process (or of one context of it) in the segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
pub struct SeatNo(pub u16);

/// The index of a request slot within its region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
pub struct SlotNo(pub u32);

/// What a slot is right now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum State {
    /// Nobody's.
    Free = 0,
    /// Being filled by its owner.
    Claimed = 1,
    /// Submitted; its holder has not looked at it yet.
    Queued = 2,
    /// Its holder works on it.
    Serving = 3,
    /// Answered; its owner has not looked at it yet.
    Answered = 4,
    /// Its owner has the answer and has not freed it yet.
    Received = 5,
}

impl State {
    /// Every state, in the order of a request's life.
    pub const ALL: [State; 6] = [
        State::Free,
        State::Claimed,
        State::Queued,
        State::Serving,
        State::Answered,
        State::Received,
    ];

    fn from_bits(bits: u8) -> Option<State> {
        State::ALL.get(usize::from(bits)).copied()
    }
}

/// A decoded state word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// What the slot is.
    pub state: State,
    /// Who claimed it.
    pub owner: SeatNo,
    /// Whose turn it is.
    pub holder: SeatNo,
    /// Which life of the slot this is (24 bits, wraps).
    pub generation: u32,
}

const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Word {
    /// The word of a slot that nobody ever claimed.
    pub const FREE: Word = Word {
        state: State::Free,
        owner: SeatNo(0),
        holder: SeatNo(0),
        generation: 0,
    };

    /// Packs: state in bits 0..8, owner 8..24, holder 24..40, generation 40..64.
    pub fn encode(self) -> u64 {
        self.state as u64
            | u64::from(self.owner.0) << 8
            | u64::from(self.holder.0) << 24
            | u64::from(self.generation & GENERATION_MASK) << 40
    }

    /// Unpacks; `None` when the state is none of ours (somebody scribbled).
    pub fn decode(bits: u64) -> Option<Word> {
        Some(Word {
            state: State::from_bits(bits as u8)?,
            owner: SeatNo((bits >> 8) as u16),
            holder: SeatNo((bits >> 24) as u16),
            generation: (bits >> 40) as u32,
        })
    }

    /// Unpacks; `None` also when a seat in it does not exist (somebody scribbled).
    pub fn decode_checked(bits: u64) -> Option<Word> {
        let exists = |seat: SeatNo| u32::from(seat.0) < crate::layout::SEATS;
        Word::decode(bits).filter(|w| exists(w.owner) && exists(w.holder))
    }

    /// The word of the next life of this slot, claimed by `owner`.
    pub fn claimed_by(self, owner: SeatNo) -> Word {
        let generation = (self.generation + 1) & GENERATION_MASK;
        Word {
            state: State::Claimed,
            owner,
            holder: owner,
            generation,
        }
    }

    /// The same life of the slot in another state, with another holder.
    pub fn with(self, state: State, holder: SeatNo) -> Word {
        Word {
            state,
            holder,
            ..self
        }
    }
}

/// The shared cell that holds a [`Word`].
#[derive(Debug)]
#[repr(transparent)]
pub struct StateCell(AtomicU64);

impl StateCell {
    /// A cell of its own, for models and tests; in a segment cells are zeroed memory, which is
    /// [`Word::FREE`].
    pub fn new() -> StateCell {
        StateCell(AtomicU64::new(0))
    }

    /// What the cell says now, or `None` if it says nothing sensible. Acquire: what the last
    /// changer wrote to the record before it changed the word is visible.
    pub fn load(&self) -> Option<Word> {
        Word::decode(self.0.load(Ordering::Acquire))
    }

    /// Changes `from` into `to`. Release publishes the record to the next holder (pairs with
    /// the acquire of its own change or load); acquire sees what the last one published.
    pub fn change(&self, from: Word, to: Word) -> bool {
        self.0
            .compare_exchange(
                from.encode(),
                to.encode(),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }

    /// Takes a free cell for `seat`; `None` when it is not free, or somebody else was faster.
    pub fn claim(&self, seat: SeatNo) -> Option<Word> {
        let free = self.load().filter(|w| w.state == State::Free)?;
        let claimed = free.claimed_by(seat);
        self.change(free, claimed).then_some(claimed)
    }

    /// Makes a cell that decodes to nothing free. `generation` is to be none that a server may
    /// still hold a token for.
    pub(crate) fn wipe(&self, seen: u64, generation: u32) -> bool {
        let free = Word {
            generation,
            ..Word::FREE
        };
        self.0
            .compare_exchange(seen, free.encode(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub(crate) fn bits(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for StateCell {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decode_undoes_encode(s in 0usize..6, o: u16, h: u16, g in 0u32..=GENERATION_MASK) {
            let word = Word {
                state: State::ALL[s], owner: SeatNo(o), holder: SeatNo(h), generation: g,
            };
            prop_assert_eq!(Word::decode(word.encode()), Some(word));
        }

        #[test]
        fn foreign_states_decode_to_nothing(bits: u64) {
            let known = (bits as u8) < 6;
            prop_assert_eq!(Word::decode(bits).is_some(), known);
        }
    }

    #[test]
    fn a_generation_wraps_within_its_bits() {
        let last = Word {
            generation: GENERATION_MASK,
            ..Word::FREE
        };
        assert_eq!(last.claimed_by(SeatNo(3)).generation, 0);
    }
}
