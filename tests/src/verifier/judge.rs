//! What an answer says, and whether it may say so.

use super::BLOCK;
use super::late::Kept;
use super::worker::{Asked, Flight, Worker};
use client::Done;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use xseg::Extent;

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Worker<'_> {
    /// What the rings of the dead, which have ended, must have left alone.
    pub(super) fn look_at_what_is_due(&mut self) -> Result<(), String> {
        let mut wrong = Ok(());
        for kept in self.watch.due(self.tally.ended.load(Relaxed)) {
            match kept {
                Kept::Blocks(blocks) => self.late.push_back(blocks),
                Kept::Buffer(buffer, word) => {
                    count(&self.tally.late_buffers_checked);
                    if let Some(seen) = other_word(&buffer.to_vec(), word) {
                        count(&self.tally.late);
                        let load = &self.load;
                        wrong = Err(format!("{load:?}: a buffer of ours shows {seen} late"));
                    }
                    self.core.give_buffer_back(&buffer);
                }
            }
        }
        wrong
    }

    /// Judges an answer, and gives back or keeps what it came with.
    pub(super) fn settle(&mut self, done: Done) -> Result<(), String> {
        let flight = self.flights.remove(&done.token);
        let Flight { asked, death } = flight.ok_or("an answer to nothing")?;
        let bytes = done.data.as_ref().map(Extent::to_vec).unwrap_or_default();
        let reads = matches!(asked, Asked::Read { .. } | Asked::Late { .. });
        for buffer in done.data.into_iter().chain(done.larger) {
            match death {
                Some(death) if reads => self.watch.keep_buffer(death, buffer, !done.token),
                _ => self.core.give_buffer_back(&buffer),
            }
        }
        if let Err(errno) = done.answer.result() {
            count(&self.tally.errors);
            let load = &self.load;
            return Err(format!("{load:?}: a request failed with errno {errno}"));
        }
        count(&self.tally.served);
        if !matches!(asked, Asked::Question) {
            count(&self.tally.moved);
        }
        self.judge(asked, death, &bytes)
    }

    fn judge(&mut self, asked: Asked, death: Option<u64>, bytes: &[u8]) -> Result<(), String> {
        match asked {
            Asked::Question => Ok(()),
            Asked::Write { blocks, stamp } => {
                self.stamped(&blocks, stamp);
                match death {
                    Some(death) => self.anew.push_back((death, blocks)),
                    None => self.let_go(&blocks),
                }
                Ok(())
            }
            Asked::Anew {
                blocks,
                stamp,
                death: first,
            } => {
                self.stamped(&blocks, stamp);
                match death {
                    Some(death) => self.anew.push_back((death, blocks)),
                    None => self.watch.keep_blocks(first, blocks),
                }
                Ok(())
            }
            Asked::Read { blocks } => {
                self.let_go(&blocks);
                self.compare(blocks, bytes, &self.tally.wrong)
            }
            Asked::Late { blocks } => {
                self.let_go(&blocks);
                let checked = &self.tally.late_blocks_checked;
                checked.fetch_add(blocks.end - blocks.start, Relaxed);
                self.compare(blocks, bytes, &self.tally.late)
            }
        }
    }

    fn stamped(&mut self, blocks: &Range<u64>, stamp: u64) {
        let all = blocks.clone().map(|block| (block, stamp));
        self.stamps.extend(all);
    }

    fn let_go(&mut self, blocks: &Range<u64>) {
        for block in blocks.clone() {
            self.busy.remove(&block);
        }
    }

    fn compare(&self, blocks: Range<u64>, data: &[u8], wrong: &AtomicU64) -> Result<(), String> {
        for (block, bytes) in blocks.zip(data.chunks_exact(BLOCK as usize)) {
            let expected = self.stamps.get(&block).copied().unwrap_or(0);
            if let Some(seen) = other_word(bytes, expected) {
                count(wrong);
                let load = &self.load;
                return Err(format!(
                    "{load:?} block {block}: {seen} instead of {expected}"
                ));
            }
        }
        Ok(())
    }
}

/// The first word that is not `expected`.
fn other_word(bytes: &[u8], expected: u64) -> Option<u64> {
    let words = bytes.chunks_exact(8);
    let mut words = words.map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    words.find(|word| *word != expected)
}
