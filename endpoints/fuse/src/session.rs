//! The thread that serves the kernel: requests from `/dev/fuse` to the backend, and back.
//!
//! ```text
//!  /dev/fuse --readv--> head | payload, straight into a buffer of the segment
//!                        |
//!                        +--> backend --completion--> writev(head | data from the segment)
//! ```
//! What always holds:
//! - Data of reads and of large writes is copied by the kernel only, between the segment and the
//!   loop device's pages. The payload of a small write is copied once more, into a buffer of its
//!   size, so that a large one is not kept for it.
//! - When no buffer is free (and none is while the backend is frozen or its node is away), one
//!   request is put aside and no further one is read: the kernel keeps the others.
//! - Every request is answered once, except those that the protocol leaves unanswered.
//!
//! Unsafe lives here because of vectored I/O on shared memory; rule: a buffer's memory is mapped
//! for as long as the buffer lives, and only the kernel touches it here.

use crate::abi::{self, Header, Reply, opcode};
use endpoint::{Backend, Buffer, Completion, Op, State, memory};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Larger writes stay in the buffer that they were received in.
const SMALL: u64 = 64 << 10;
/// Requests under way at most.
const IN_FLIGHT: usize = 512;
/// Turns of a busy loop between two looks at what wakes sleepers.
const TURNS: u32 = 64;
/// Longest and shortest spin before a sleep.
const SPIN: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(1));

/// What the session tells its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// The backend's state changed.
    State,
    /// The kernel has let the filesystem go: nobody uses the file any more.
    Gone,
}

/// A request of the kernel that the backend has.
struct Asked {
    unique: u64,
    what: Op,
    buffer: Option<Buffer>,
}

/// The payload of a write that was just received.
enum Payload {
    /// In the buffer that was put up for it.
    Shared(Buffer),
    /// In the session's own memory.
    Private,
}

/// What can't be started for lack of a buffer.
struct Aside {
    unique: u64,
    what: Op,
    payload: Option<Payload>,
}

pub(crate) struct Session<N: Fn(News)> {
    device: OwnedFd,
    backend: Backend,
    readonly: bool,
    name: Vec<u8>,
    /// The head of a request, and behind it the payload of one that did not go to `receive`.
    bytes: Vec<u8>,
    receive: Option<Buffer>,
    aside: Option<Aside>,
    asked: Vec<Option<Asked>>,
    free: Vec<u32>,
    completions: Vec<Completion>,
    /// How long to spin before a sleep.
    spin: Duration,
    gone: bool,
    told: State,
    news: N,
}

impl<N: Fn(News)> Session<N> {
    pub(crate) fn new(device: OwnedFd, backend: Backend, readonly: bool, news: N) -> Session<N> {
        let mut bytes = vec![0; abi::WRITE_HEAD + abi::WRITE_MAX as usize];
        // Zeros alone would leave the memory to be found at the first large write.
        bytes.fill(1);
        Session {
            name: backend.name().as_bytes().to_vec(),
            told: backend.state(),
            device,
            backend,
            readonly,
            bytes,
            receive: None,
            aside: None,
            asked: (0..IN_FLIGHT).map(|_| None).collect(),
            free: (0..IN_FLIGHT as u32).rev().collect(),
            completions: Vec::with_capacity(IN_FLIGHT),
            spin: SPIN.0,
            gone: false,
            news,
        }
    }

    /// Serves until the backend has finished.
    pub(crate) fn run(mut self) {
        memory::touch_stack();
        let mut turns = 0;
        while self.backend.state() != State::Over {
            let busy = self.answer_completed() | self.take_requests();
            turns = if busy { turns + 1 } else { 0 };
            if busy && turns < TURNS {
                continue;
            }
            if !busy && !self.spin() {
                self.sleep();
            }
            turns = 0;
            self.backend.woken();
            self.follow_state();
        }
    }

    fn follow_state(&mut self) {
        let state = self.backend.state();
        if !self.may_hold_buffers()
            && let Some(buffer) = self.receive.take()
        {
            self.backend.give_back(buffer);
        }
        if state != self.told {
            self.told = state;
            (self.news)(News::State);
        }
    }

    /// A buffer that is out keeps us at the segment.
    fn may_hold_buffers(&self) -> bool {
        matches!(
            self.backend.state(),
            State::Running | State::Failed | State::Freezing
        )
    }

    fn wants_requests(&self) -> bool {
        !self.gone && self.aside.is_none() && !self.free.is_empty()
    }

    // ---- waiting ----

    /// True: something came.
    fn spin(&mut self) -> bool {
        if self.free.len() == IN_FLIGHT {
            return false;
        }
        let start = Instant::now();
        while start.elapsed() < self.spin {
            if self.answer_completed() {
                self.spin = SPIN.0;
                return true;
            }
            std::hint::spin_loop();
        }
        self.spin = (self.spin / 2).max(SPIN.1);
        false
    }

    fn sleep(&mut self) {
        if !self.backend.doze() {
            return;
        }
        let mut fds = [
            PollFd::new(self.backend.descriptor(), PollFlags::POLLIN),
            PollFd::new(self.device.as_fd(), PollFlags::POLLIN),
        ];
        let count = if self.wants_requests() { 2 } else { 1 };
        // EINTR: look again.
        let _ = poll(&mut fds[..count], PollTimeout::NONE);
    }

    // ---- requests ----

    fn take_requests(&mut self) -> bool {
        let mut any = self.retry_aside();
        while self.wants_requests() {
            match self.receive() {
                Ok(len) => self.dispatch(len),
                Err(libc::ENODEV) => {
                    self.gone = true;
                    (self.news)(News::Gone);
                }
                // The request was given up by its sender meanwhile.
                Err(libc::ENOENT | libc::EINTR) => {}
                Err(libc::EAGAIN) => return any,
                Err(errno) => {
                    tracing::error!(errno, "can't read from /dev/fuse");
                    return any;
                }
            }
            any = true;
        }
        any
    }

    /// Reads one request: its first 80 bytes into `bytes`, what follows (the payload of a write)
    /// into the buffer that is put up, or behind them.
    fn receive(&mut self) -> Result<usize, i32> {
        if self.receive.is_none() && self.may_hold_buffers() {
            self.receive = self.backend.take(u64::from(abi::WRITE_MAX));
        }
        let (head, rest) = self.bytes.split_at_mut(abi::WRITE_HEAD);
        let payload = match &self.receive {
            Some(buffer) => buffer.as_ptr(),
            None => rest.as_mut_ptr(),
        };
        let parts = [
            libc::iovec {
                iov_base: head.as_mut_ptr().cast(),
                iov_len: head.len(),
            },
            libc::iovec {
                iov_base: payload.cast(),
                iov_len: abi::WRITE_MAX as usize,
            },
        ];
        // SAFETY: the head is 80 bytes of ours; the payload is WRITE_MAX bytes, of ours or of a
        // buffer that has as many and is mapped (rule).
        let len = unsafe { libc::readv(self.device.as_raw_fd(), parts.as_ptr(), 2) };
        usize::try_from(len).map_err(|_| nix::errno::Errno::last_raw())
    }

    fn dispatch(&mut self, len: usize) {
        let Some(header) = Header::decode(&self.bytes[..len.min(abi::WRITE_HEAD)]) else {
            return;
        };
        if header.opcode == opcode::WRITE {
            return self.write(header, len);
        }
        // What is longer than the head went to the buffer: the rest of a name, or of an INIT.
        let rest = len.saturating_sub(abi::WRITE_HEAD);
        if let Some(buffer) = &self.receive {
            buffer.copy_out(&mut self.bytes[abi::WRITE_HEAD..abi::WRITE_HEAD + rest]);
        }
        self.other(header, len);
    }

    fn other(&mut self, header: Header, len: usize) {
        let request = &self.bytes[..len];
        let (unique, size, readonly) = (header.unique, self.backend.size(), self.readonly);
        let invalid = Reply::error(unique, libc::EINVAL);
        let reply = match header.opcode {
            opcode::INIT => {
                Reply::init(unique, request).unwrap_or(Reply::error(unique, libc::EPROTO))
            }
            opcode::LOOKUP if abi::name(request) == Some(&self.name) => {
                Reply::entry(unique, size, readonly)
            }
            opcode::LOOKUP => Reply::error(unique, libc::ENOENT),
            opcode::GETATTR => Reply::attributes(unique, header.node, size, readonly),
            opcode::OPEN if header.node == abi::FILE => Reply::opened(unique),
            opcode::STATFS => Reply::statistics(unique, size),
            opcode::RELEASE | opcode::FLUSH | opcode::DESTROY => Reply::empty(unique),
            opcode::FORGET | opcode::BATCH_FORGET => return,
            opcode::FSYNC => return self.start(unique, Op::Flush, None),
            opcode::READ => match abi::range(request) {
                Some(range) => return self.read(unique, range),
                None => invalid,
            },
            opcode::FALLOCATE => match abi::fallocate(request) {
                Some((offset, len, mode)) => return self.fallocate(unique, offset, len, mode),
                None => invalid,
            },
            _ => Reply::error(unique, libc::ENOSYS),
        };
        self.send(&reply);
    }

    fn read(&mut self, unique: u64, (offset, len): (u64, u32)) {
        let len = u64::from(len).min(self.backend.size().saturating_sub(offset));
        if len == 0 {
            return self.send(&Reply::empty(unique));
        }
        self.start(unique, Op::Read { offset, len }, None);
    }

    fn write(&mut self, header: Header, received: usize) {
        let unique = header.unique;
        let Some((offset, size)) = abi::range(&self.bytes) else {
            return;
        };
        let len = u64::from(size);
        let whole = received == abi::WRITE_HEAD + size as usize;
        let inside = offset
            .checked_add(len)
            .is_some_and(|end| end <= self.backend.size());
        let refused = match (self.readonly, whole, inside) {
            (true, ..) => Some(libc::EROFS),
            (_, false, _) => Some(libc::EINVAL),
            (.., false) => Some(libc::ENOSPC),
            _ => None,
        };
        if let Some(errno) = refused {
            return self.send(&Reply::error(unique, errno));
        }
        if size == 0 {
            return self.send(&Reply::written(unique, 0));
        }
        let payload = self
            .receive
            .take()
            .map_or(Payload::Private, Payload::Shared);
        self.start(
            unique,
            Op::Write {
                offset,
                len,
                fua: false,
            },
            Some(payload),
        );
    }

    /// Punching a hole and zeroing are the same: the range reads as zeros, and takes no room where
    /// that can be.
    fn fallocate(&mut self, unique: u64, offset: u64, len: u64, mode: u32) {
        let mode = mode as i32 & !libc::FALLOC_FL_KEEP_SIZE;
        let len = len.min(self.backend.size().saturating_sub(offset));
        let answer = match mode {
            _ if self.readonly => libc::EROFS,
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE if len == 0 => 0,
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE => {
                return self.start(
                    unique,
                    Op::Zeroes {
                        offset,
                        len,
                        fua: false,
                    },
                    None,
                );
            }
            _ => libc::EOPNOTSUPP,
        };
        self.send(&Reply::error(unique, answer));
    }

    /// Gives a request to the backend, or puts it aside until there is a buffer for it.
    fn start(&mut self, unique: u64, what: Op, payload: Option<Payload>) {
        self.aside = Some(Aside {
            unique,
            what,
            payload,
        });
        self.retry_aside();
    }

    fn retry_aside(&mut self) -> bool {
        let Some(aside) = self.aside.take() else {
            return false;
        };
        let buffer = match self.buffer_for(&aside) {
            Ok(buffer) => buffer,
            Err(()) => {
                self.aside = Some(aside);
                return false;
            }
        };
        let kept = match (aside.payload, buffer) {
            (Some(Payload::Shared(whole)), None) => Some(whole),
            (Some(Payload::Shared(whole)), small) => {
                self.receive = Some(whole);
                small
            }
            (_, buffer) => buffer,
        };
        let index = self
            .free
            .pop()
            .expect("requests are read only while a place is free");
        self.backend
            .submit(u64::from(index), aside.what, kept.as_ref());
        let asked = Asked {
            unique: aside.unique,
            what: aside.what,
            buffer: kept,
        };
        self.asked[index as usize] = Some(asked);
        true
    }

    /// A buffer of its own for a request that needs one, with its payload.
    fn buffer_for(&mut self, aside: &Aside) -> Result<Option<Buffer>, ()> {
        let (Op::Read { len, .. } | Op::Write { len, .. }) = aside.what else {
            return Ok(None);
        };
        if len > SMALL && matches!(aside.payload, Some(Payload::Shared(_))) {
            return Ok(None);
        }
        let Some(buffer) = self.backend.take(len) else {
            // Its own large buffer will do.
            let shared = matches!(aside.payload, Some(Payload::Shared(_)));
            return if shared { Ok(None) } else { Err(()) };
        };
        match &aside.payload {
            Some(Payload::Shared(whole)) => buffer.copy_from(whole, len),
            Some(Payload::Private) => {
                let payload = &self.bytes[abi::WRITE_HEAD..abi::WRITE_HEAD + len as usize];
                buffer.fill(payload);
            }
            None => {}
        }
        Ok(Some(buffer))
    }

    // ---- replies ----

    fn answer_completed(&mut self) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        self.backend.poll(&mut completions);
        let any = !completions.is_empty();
        for completion in completions.drain(..) {
            self.answer(completion);
        }
        self.completions = completions;
        any
    }

    fn answer(&mut self, completion: Completion) {
        let index = completion.token as u32;
        let Some(asked) = self.asked[index as usize].take() else {
            return;
        };
        self.free.push(index);
        match (completion.result, asked.what, &asked.buffer) {
            (Err(errno), ..) => self.send(&Reply::error(asked.unique, for_kernel(errno))),
            (Ok(_), Op::Read { len, .. }, Some(buffer)) => {
                self.send_data(asked.unique, buffer, len as usize);
            }
            (Ok(_), Op::Write { len, .. }, _) => {
                self.send(&Reply::written(asked.unique, len as u32));
            }
            _ => self.send(&Reply::empty(asked.unique)),
        }
        if let Some(buffer) = asked.buffer {
            self.backend.give_back(buffer);
        }
    }

    fn send(&self, reply: &Reply) {
        let sent = nix::unistd::write(&self.device, reply.bytes());
        self.check(sent.map_err(io::Error::from).map(drop));
    }

    fn send_data(&self, unique: u64, buffer: &Buffer, len: usize) {
        let head = Reply::header(unique, len);
        let parts = [
            libc::iovec {
                iov_base: head.as_ptr().cast_mut().cast(),
                iov_len: head.len(),
            },
            libc::iovec {
                iov_base: buffer.as_ptr().cast(),
                iov_len: len,
            },
        ];
        // SAFETY: the kernel reads the head, which is ours, and `len` bytes of the buffer, which
        // was taken with that length and is mapped (rule).
        let sent = unsafe { libc::writev(self.device.as_raw_fd(), parts.as_ptr(), 2) };
        self.check(if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        });
    }

    fn check(&self, sent: io::Result<()>) {
        match sent {
            // ENOENT: nobody waits for it any more. ENODEV: the filesystem is gone.
            Err(why) if !matches!(why.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                tracing::error!(%why, "the kernel did not take a reply");
            }
            _ => {}
        }
    }
}

/// What a block device may say; everything that has no meaning there is EIO.
fn for_kernel(errno: i32) -> i32 {
    match errno {
        libc::ENOSPC | libc::EDQUOT => libc::ENOSPC,
        libc::EROFS | libc::EINVAL | libc::EOPNOTSUPP => errno,
        _ => libc::EIO,
    }
}
