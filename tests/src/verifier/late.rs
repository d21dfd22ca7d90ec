//! What the ring of a dead process could still change, kept under watch until that ring has ended.
//!
//! When a process with a driver dies, every unanswered request may be in its ring. Once the
//! successor has answered one, nothing of it may land any more. So the buffer of a read is filled
//! with a word of ours and kept, and the blocks of a write are written anew at once, with another
//! stamp, and left alone. When the ring of the dead has ended (so that nothing can come any more,
//! [`crate::ending`]) both must be as they were left: a late read shows in the buffer, a late write
//! in the blocks.

use std::ops::Range;
use xseg::Extent;

/// Something that must not change.
pub(super) enum Kept {
    /// A buffer of ours, full of this word.
    Buffer(Extent, u64),
    /// Blocks whose stamps the verifier knows.
    Blocks(Range<u64>),
}

/// What is under watch, each with the number of the death for which it is.
#[derive(Default)]
pub(super) struct Watch {
    noticed: u64,
    kept: Vec<(u64, Kept)>,
}

impl Watch {
    /// The number of the last death, if it was not noticed yet.
    pub(super) fn notice(&mut self, deaths: u64) -> Option<u64> {
        let new = deaths > self.noticed;
        self.noticed = deaths;
        new.then_some(deaths)
    }

    /// Fills a buffer and keeps it.
    pub(super) fn keep_buffer(&mut self, death: u64, buffer: Extent, word: u64) {
        buffer.fill(&word.to_le_bytes().repeat(buffer.len() as usize / 8));
        self.kept.push((death, Kept::Buffer(buffer, word)));
    }

    /// Keeps blocks that were just written.
    pub(super) fn keep_blocks(&mut self, death: u64, blocks: Range<u64>) {
        self.kept.push((death, Kept::Blocks(blocks)));
    }

    /// What is to be looked at now that the rings of the first `ended` dead have ended.
    pub(super) fn due(&mut self, ended: u64) -> Vec<Kept> {
        let due = self.kept.extract_if(.., |(death, _)| *death <= ended);
        due.map(|(_, kept)| kept).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
