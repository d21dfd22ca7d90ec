//! Step marks: what a server of several steps notes for a client's request, to be found by its
//! successor.

use super::{PRIVATE, Seat, Token};
use crate::sync::Ordering;

/// A root: the slot (index + 1) in the low half, its life (24 bits) above.
const ROOT_BITS: u32 = 32;
/// A mark: the step in the low bits, the life of the client's slot above.
const STEP_BITS: u32 = 40;
/// Largest step that a mark can hold.
pub const STEP_MAX: u64 = (1 << STEP_BITS) - 1;

/// What a server's own requests say of the client's request that they are part of.
pub(super) fn root_of(token: &Token) -> u64 {
    u64::from(token.word.generation) << ROOT_BITS | (u64::from(token.slot.0) + 1)
}

impl Seat {
    /// The step mark of the client's request that `root` names ([`Request::root`]): what a server
    /// of several steps notes there is still there after its death, and is 0 at first. The mark
    /// carries the life of the client's slot, so the next request in that slot does not see it.
    pub fn mark(&self, root: u64) -> u64 {
        let bits = self
            .mark_cell(root)
            .map_or(0, |cell| cell.load(Ordering::Acquire));
        match bits >> STEP_BITS == root >> ROOT_BITS {
            true => bits & STEP_MAX,
            false => 0,
        }
    }

    /// Sets the step mark, at most [`STEP_MAX`].
    pub fn set_mark(&self, root: u64, step: u64) {
        debug_assert!(step <= STEP_MAX, "a step mark has {STEP_BITS} bits");
        if let Some(cell) = self.mark_cell(root) {
            let life = (root >> ROOT_BITS) << STEP_BITS;
            cell.store(life | step & STEP_MAX, Ordering::Release);
        }
    }

    fn mark_cell(&self, root: u64) -> Option<&crate::sync::AtomicU64> {
        let index = (root as u32).checked_sub(1)?;
        self.segment(PRIVATE)?.marks().get(index as usize)
    }
}
