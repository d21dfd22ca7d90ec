//! Replies on their way out: those ready, and the batch that the kernel is sending.
//!
//! Always true: while a batch is loaded, its headers, its `iovec`s and the message that names them
//! neither move nor change, because the kernel may read them; a new batch is loaded only after the
//! last byte of the one before has left. Small replies are gathered: neighbouring headers without
//! data share one `iovec`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;

use super::slots::{Outcome, Slot, Slots};
use crate::error::{NbdError, Refusal};
use crate::export::{Buffers, Failure};
use crate::wire::{
    chunk, command, command_flag, put_chunk, put_data, put_error, put_hole, put_simple,
};

/// Most replies in one message; two `iovec`s each stay far below the kernel's 1024.
const REPLIES_MAX: usize = 64;
/// A batch takes no further reply once it carries so many bytes, so that buffers are not held up
/// behind megabytes of other replies.
const BATCH_BYTES: usize = 1 << 20;

pub(super) struct Outbox {
    ready: VecDeque<u16>,
    /// Bytes of the handshake that wait to be sent.
    plain: Vec<u8>,
    heads: Vec<u8>,
    /// Where the header of each reply of the batch ends, and the data that follows it.
    parts: Vec<(usize, *const u8, usize)>,
    iovecs: Vec<libc::iovec>,
    message: Box<libc::msghdr>,
    /// Slots whose replies are in the batch.
    sending: Vec<u16>,
    /// Bytes of the batch that have not left.
    left: usize,
}

impl Outbox {
    pub(super) fn new(greeting: &[u8], slots: usize) -> Self {
        // SAFETY: msghdr is a plain C struct for which all zeros means "no name, no data".
        let message = unsafe { std::mem::zeroed() };
        Self {
            ready: VecDeque::with_capacity(slots),
            plain: greeting.to_vec(),
            heads: Vec::with_capacity(REPLIES_MAX * 32),
            parts: Vec::with_capacity(REPLIES_MAX),
            iovecs: Vec::with_capacity(REPLIES_MAX * 2),
            message: Box::new(message),
            sending: Vec::with_capacity(REPLIES_MAX),
            left: 0,
        }
    }

    pub(super) fn push(&mut self, slot: u16) {
        self.ready.push_back(slot);
    }

    pub(super) fn plain(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// Nothing is waiting and nothing is being sent.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.plain.is_empty() && self.left == 0
    }

    /// The message to send, loading a new batch if the last one is out. `None`: nothing to send.
    pub(super) fn message<B: Buffers>(
        &mut self,
        slots: &mut Slots,
        structured: bool,
        buffers: &mut B,
    ) -> Option<*const libc::msghdr> {
        if self.left == 0 && !self.load(slots, structured, buffers) {
            return None;
        }
        Some(&raw const *self.message)
    }

    /// The kernel took `count` bytes. `true`: the batch is out; take its slots with
    /// [`Outbox::next_sent`].
    pub(super) fn sent(&mut self, count: usize) -> bool {
        assert!(count <= self.left, "sent more than the batch");
        self.left -= count;
        if self.left > 0 {
            self.skip(count);
        }
        self.left == 0
    }

    /// The next slot whose reply is out.
    pub(super) fn next_sent(&mut self) -> Option<u16> {
        assert!(self.left == 0, "the batch is still being sent");
        self.sending.pop()
    }

    /// Forgets everything but the slots; take those with [`Outbox::next_dropped`]. Only when no
    /// send is in flight.
    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.left = 0;
    }

    /// The next slot whose reply will never be sent.
    pub(super) fn next_dropped(&mut self) -> Option<u16> {
        self.next_sent().or_else(|| self.ready.pop_front())
    }

    fn load<B: Buffers>(&mut self, slots: &mut Slots, structured: bool, buffers: &mut B) -> bool {
        self.heads.clear();
        self.parts.clear();
        if !self.plain.is_empty() {
            std::mem::swap(&mut self.heads, &mut self.plain);
            self.parts.push((self.heads.len(), std::ptr::null(), 0));
        }
        let mut data_bytes = 0;
        while self.parts.len() < REPLIES_MAX && data_bytes < BATCH_BYTES {
            let Some(index) = self.ready.pop_front() else {
                break;
            };
            let slot = slots.get(index);
            put_head(&mut self.heads, slot, structured);
            let (data, len) = reply_data(slot, buffers);
            self.parts.push((self.heads.len(), data, len));
            data_bytes += len;
            self.sending.push(index);
        }
        self.gather();
        self.left > 0
    }

    /// Turns the parts into `iovec`s. Runs when `heads` is complete and will not move any more.
    fn gather(&mut self) {
        self.iovecs.clear();
        let mut from = 0;
        for (index, &(head_end, data, len)) in self.parts.iter().enumerate() {
            if len == 0 && index + 1 < self.parts.len() {
                continue;
            }
            self.iovecs
                .push(iovec(self.heads[from..head_end].as_ptr(), head_end - from));
            from = head_end;
            if len > 0 {
                self.iovecs.push(iovec(data, len));
            }
        }
        self.left = self.iovecs.iter().map(|part| part.iov_len).sum();
        self.message.msg_iov = self.iovecs.as_mut_ptr();
        self.message.msg_iovlen = self.iovecs.len();
    }

    /// Moves the front of the message past `count` sent bytes.
    fn skip(&mut self, mut count: usize) {
        let past = self.iovecs.len() - self.message.msg_iovlen;
        let mut index = past;
        while count >= self.iovecs[index].iov_len {
            count -= self.iovecs[index].iov_len;
            index += 1;
        }
        let part = &mut self.iovecs[index];
        part.iov_base = part.iov_base.cast::<u8>().wrapping_add(count).cast();
        part.iov_len -= count;
        self.message.msg_iov = &raw mut *part;
        self.message.msg_iovlen = self.iovecs.len() - index;
    }
}

fn iovec(base: *const u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: base.cast_mut().cast(),
        iov_len: len,
    }
}

/// The header of a reply; the data of [`reply_data`] follows it.
fn put_head(out: &mut Vec<u8>, slot: &Slot, structured: bool) {
    let request = &slot.request;
    let (cookie, offset, len) = (request.cookie, request.offset, request.len);
    match &slot.outcome {
        Outcome::Success if structured && request.command == command::READ => match len {
            0 => put_chunk(out, chunk::NONE, cookie, 0),
            _ => put_data(out, cookie, offset, len),
        },
        Outcome::Success => put_simple(out, 0, cookie),
        Outcome::Zeroes => put_hole(out, cookie, offset, len),
        Outcome::Status(payload) => {
            put_chunk(out, chunk::BLOCK_STATUS, cookie, payload.len() as u32);
        }
        Outcome::Refused(Refusal { error, .. }) if !structured => {
            put_simple(out, error.code(), cookie);
        }
        Outcome::Refused(Refusal { error, why }) => {
            put_error(out, cookie, error.code(), why, None);
        }
        Outcome::Failed(failure) => put_failure(out, slot, failure, structured),
        Outcome::Open => unreachable!("only finished requests are pushed"),
    }
}

fn put_failure(out: &mut Vec<u8>, slot: &Slot, failure: &Failure, structured: bool) {
    let request = &slot.request;
    let fast =
        request.command == command::WRITE_ZEROES && request.flags & command_flag::FAST_ZERO != 0;
    let error = NbdError::from_errno(failure.errno, fast).code();
    if !structured {
        return put_simple(out, error, request.cookie);
    }
    let mut sentence = String::new();
    let cause = io::Error::from_raw_os_error(failure.errno);
    let _ = match request.command {
        command::FLUSH => write!(sentence, "The flush failed: {cause}."),
        kind => write!(
            sentence,
            "The {} of {} bytes at offset {} failed: {cause}.",
            noun(kind),
            request.len,
            request.offset
        ),
    };
    let range = request.offset..request.offset + u64::from(request.len);
    let offset = failure.offset.filter(|offset| range.contains(offset));
    put_error(out, request.cookie, error, &sentence, offset);
}

fn noun(kind: u16) -> &'static str {
    match kind {
        command::READ => "read",
        command::WRITE => "write",
        command::TRIM => "trim",
        command::WRITE_ZEROES => "zeroing",
        _ => "block status",
    }
}

/// The bytes behind the header of a reply.
fn reply_data<B: Buffers>(slot: &Slot, buffers: &mut B) -> (*const u8, usize) {
    match (&slot.outcome, slot.buffer) {
        (Outcome::Status(payload), _) => (payload.as_ptr(), payload.len()),
        (Outcome::Success, Some(buffer)) => (
            buffers.buffer(buffer).0.cast_const(),
            slot.request.len as usize,
        ),
        _ => (std::ptr::null(), 0),
    }
}
