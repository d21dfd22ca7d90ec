//! Operations that are not one plain read or write: creation, zeroes, truncate, copy, delete, info.
//!
//! Each is one operation of the OSD where it can be, so that it happens wholly or not at all.
//! Zeroes needs the size first: an OSD makes of a ZERO that reaches the object's end a TRUNCATE,
//! which would make it shorter. Whatever else makes an object shorter takes turns with it.

use crate::core::{Answer, Core};
use crate::sys::Steps;
use driver::{Buf, Detail, Errno, Name, Reply};
use std::ops::Range;

/// What a copy moves at once, in bytes: a whole block of a volume.
pub(crate) const PIECE: usize = 4 << 20;

/// Zeros are looked for in pieces of this, in bytes, and not written: they stay holes.
const HOLE: usize = 64 << 10;

impl Core {
    /// Reads the whole buffer; what is missing is zeros.
    pub(crate) async fn read(&self, name: &Name, offset: u64, buf: Buf) -> (Answer<Reply>, Buf) {
        if buf.is_empty() {
            return (self.stat(name).await.map(|_| Reply::bytes(0)), buf);
        }
        let len = buf.len();
        let (answer, buf) = self.read_into(name, buf, len, offset).await;
        let answer = answer.map(|count| {
            buf.zero(count..len);
            Reply::bytes(len as u64)
        });
        (answer, buf)
    }

    /// Writes that are not hot: empty ones, and the first ones of a new object.
    pub(crate) async fn write(
        &self,
        name: &Name,
        offset: u64,
        buf: Buf,
        fresh: bool,
    ) -> (Answer<Reply>, Buf) {
        let _turn = match fresh {
            true => Some(self.turns.take(name).await),
            false => None,
        };
        let mut steps = Steps::new().create(false);
        if fresh {
            steps = steps.truncate(0);
        }
        if !buf.is_empty() {
            // SAFETY: the buffer lives and is copied during the call.
            steps = unsafe { steps.write_from((buf.ptr(), buf.len()), offset) };
        }
        let answer = self.apply(name, steps).await;
        (answer.map(|()| Reply::bytes(buf.len() as u64)), buf)
    }

    pub(crate) async fn zeroes(&self, name: &Name, offset: u64, len: u64) -> Answer<Reply> {
        let _turn = self.turns.take(name).await;
        let size = match self.stat(name).await {
            Err(Errno::NOENT) => return Ok(Reply::bytes(len)),
            size => size?,
        };
        let end = (offset + len).min(size);
        if offset < end {
            match self.apply(name, clear(offset, end, size)).await {
                // Removed meanwhile.
                Err(Errno::NOENT) => {}
                answer => answer?,
            }
        }
        Ok(Reply::bytes(len))
    }

    pub(crate) async fn set_size(&self, name: &Name, size: u64, fresh: bool) -> Answer<Reply> {
        let _turn = self.turns.take(name).await;
        let steps = match fresh {
            true => Steps::new().create(false).truncate(0),
            false => Steps::new().assert_exists(),
        };
        self.apply(name, steps.truncate(size)).await?;
        Ok(Reply::default())
    }

    pub(crate) async fn delete(&self, name: &Name) -> Answer<Reply> {
        let _turn = self.turns.take(name).await;
        self.remove(name).await?;
        Ok(Reply::default())
    }

    pub(crate) async fn info(&self, name: &Name) -> Answer<Reply> {
        Ok(Detail::Size(self.stat(name).await?).into())
    }

    /// Up to a piece it is one read and one write that replaces the target; a larger object is
    /// moved piece by piece.
    pub(crate) async fn copy(&self, src: &Name, dst: &Name, max: u64) -> Answer<Reply> {
        if src == dst {
            let len = self.stat(src).await?.min(max);
            return self
                .set_size(dst, len, false)
                .await
                .map(|_| Reply::bytes(len));
        }
        let _memory = self.copies.acquire().await;
        let _turn = self.turns.take(dst).await;
        if max == 0 {
            self.stat(src).await?;
            self.apply(dst, Steps::new().create(false).truncate(0))
                .await?;
            return Ok(Reply::bytes(0));
        }
        let len = max.min(PIECE as u64) as usize;
        let (count, mut buf) = self.read_into(src, Buf::new(len), len, 0).await;
        let mut count = count?;
        let replace = Steps::new().create(false).truncate(0);
        let mut copied = count as u64;
        self.put(dst, replace, (&buf, count), 0).await?;
        while count == PIECE && copied < max {
            let len = (max - copied).min(PIECE as u64) as usize;
            let (more, back) = self.read_into(src, buf, len, copied).await;
            (count, buf) = (more?, back);
            self.put(dst, Steps::new(), (&buf, count), copied).await?;
            copied += count as u64;
        }
        Ok(Reply::bytes(copied))
    }

    /// Writes the first `count` bytes of a buffer, without what is zero; the object ends there.
    async fn put(
        &self,
        name: &Name,
        mut steps: Steps,
        (buf, count): (&Buf, usize),
        offset: u64,
    ) -> Answer<()> {
        let bytes = &buf.to_vec()[..count];
        for run in runs(bytes) {
            steps = steps.write(&bytes[run.clone()], offset + run.start as u64);
        }
        self.apply(name, steps.truncate(offset + count as u64))
            .await
    }
}

/// Zeroes `offset..end` of an object of that size, which stays. The last byte of the object is
/// written, so that the ZERO does not reach its end.
fn clear(offset: u64, end: u64, size: u64) -> Steps {
    let steps = Steps::new().assert_exists();
    if end < size {
        return steps.zero(offset, end - offset);
    }
    let steps = steps.write(&[0], end - 1);
    match end - 1 - offset {
        0 => steps,
        len => steps.zero(offset, len),
    }
}

/// The parts of `bytes` that are more than zeros.
fn runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, piece) in bytes.chunks(HOLE).enumerate() {
        if piece.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = at * HOLE;
        match runs.last_mut().filter(|run| run.end == start) {
            Some(run) => run.end += piece.len(),
            None => runs.push(start..start + piece.len()),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_no_part_of_a_run() {
        let mut bytes = vec![0; 4 * HOLE + 100];
        assert!(runs(&bytes).is_empty());
        bytes[HOLE + 5] = 1;
        bytes[2 * HOLE] = 1;
        bytes[4 * HOLE + 99] = 1;
        assert_eq!(runs(&bytes), [HOLE..3 * HOLE, 4 * HOLE..4 * HOLE + 100]);
    }
}
