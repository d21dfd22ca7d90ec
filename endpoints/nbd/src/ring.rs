//! The io_uring of the server: entries in, tagged completions out.
//!
//! Rule that makes it sound: whoever pushes an entry keeps the memory that it names in place until
//! the completion of its tag has been taken (sessions own their read-ahead buffer and message,
//! backends their buffers; the timespecs live in this struct). Cheapest mode first: one thread
//! submits, and completion work runs only when it asks (`DEFER_TASKRUN`, kernel 6.1).

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::{Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::session::Room;

/// Flags of `io_uring_enter`, from `linux/io_uring.h`; the crate has no names for them.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Accept,
    /// The pause after a failed accept is over.
    AcceptPause,
    Recv(u32),
    Send(u32),
    /// The backend's descriptor.
    Event,
    /// The handle's descriptor.
    Control,
    /// The grace after a stop is over.
    Grace,
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News {
    pub(crate) tag: Tag,
    /// A count, or the negated errno.
    pub(crate) result: i32,
    /// The entry stays armed and will complete again.
    pub(crate) more: bool,
}

pub(crate) struct Ring {
    ring: IoUring,
    accept_pause: Timespec,
    grace: Timespec,
}

impl Ring {
    /// # Errors
    /// That of `io_uring_setup`: no memory, or forbidden by a sandbox.
    pub(crate) fn new(entries: u32, grace: Duration) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(entries)
            .or_else(|_| IoUring::new(entries))?;
        Ok(Self {
            ring,
            accept_pause: Timespec::from(Duration::from_millis(100)),
            grace: Timespec::from(grace),
        })
    }

    pub(crate) fn accept(&mut self, listener: RawFd) {
        let entry = opcode::Accept::new(Fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.push(entry, Tag::Accept);
    }

    pub(crate) fn pause_accept(&mut self) {
        let entry = opcode::Timeout::new(&raw const self.accept_pause).build();
        self.push(entry, Tag::AcceptPause);
    }

    pub(crate) fn start_grace(&mut self) {
        let entry = opcode::Timeout::new(&raw const self.grace).build();
        self.push(entry, Tag::Grace);
    }

    /// Tells every edge of readability of `fd`.
    pub(crate) fn watch(&mut self, fd: RawFd, tag: Tag) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.push(entry, tag);
    }

    /// The room must stay in place until the completion.
    pub(crate) fn recv(&mut self, socket: RawFd, room: Room, session: u32) {
        let len = u32::try_from(room.len).unwrap_or(u32::MAX);
        let flags = if room.whole { libc::MSG_WAITALL } else { 0 };
        let entry = opcode::Recv::new(Fd(socket), room.at, len)
            .flags(flags)
            .build();
        self.push(entry, Tag::Recv(session));
    }

    /// The message and all it names must stay in place until the completion.
    pub(crate) fn send(&mut self, socket: RawFd, message: *const libc::msghdr, session: u32) {
        let flags = (libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32;
        let entry = opcode::SendMsg::new(Fd(socket), message)
            .flags(flags)
            .build();
        self.push(entry, Tag::Send(session));
    }

    fn push(&mut self, entry: squeue::Entry, tag: Tag) {
        let entry = entry.user_data(tag.encode());
        // SAFETY: the memory that the entry names stays in place until its completion (the rule at
        // the top of this file, kept by the callers of the methods above).
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.enter(0)
                .expect("a ring with a full queue takes entries");
        }
    }

    /// Hands waiting entries to the kernel and runs completion work that is due; no system call
    /// when there is neither.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        if queue.is_empty() && !queue.taskrun() {
            return Ok(());
        }
        drop(queue);
        self.enter(0)
    }

    /// The same, then sleeps until a completion is there.
    pub(crate) fn submit_and_sleep(&mut self) -> io::Result<()> {
        self.enter(1)
    }

    fn enter(&mut self, want: u32) -> io::Result<()> {
        let entered = match want > 0 && self.ring.params().is_feature_no_iowait() {
            true => self.sleep_as_idle(want),
            false => self.ring.submit_and_wait(want as usize),
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits without being counted as waiting for a disk (kernel 6.15): otherwise the cpu goes to
    /// sleep and wakes in a costlier way, and a request at depth 1 takes up to twice as long.
    fn sleep_as_idle(&mut self, want: u32) -> io::Result<usize> {
        let count = self.ring.submission().len() as u32;
        let flags = ENTER_GETEVENTS | ENTER_NO_IOWAIT;
        // SAFETY: the kernel knows both flags (its feature bit says so); no argument is passed, and
        // `count` entries are in the queue.
        unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(count, want, flags, None)
        }
    }

    /// Whether a completion is there, or would be after a [`Ring::submit`].
    pub(crate) fn has_news(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// The next completion, in order.
    pub(crate) fn next(&mut self) -> Option<News> {
        let entry = self.ring.completion().next()?;
        Some(News {
            tag: Tag::decode(entry.user_data()),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
        })
    }
}

/// A signal, or a full completion queue: go on, the loop comes by again.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
    )
}

impl Tag {
    fn encode(self) -> u64 {
        let (kind, session) = match self {
            Self::Accept => (0, 0),
            Self::AcceptPause => (1, 0),
            Self::Recv(session) => (2, session),
            Self::Send(session) => (3, session),
            Self::Event => (4, 0),
            Self::Control => (5, 0),
            Self::Grace => (6, 0),
        };
        kind << 32 | u64::from(session)
    }

    fn decode(data: u64) -> Self {
        let session = data as u32;
        match data >> 32 {
            0 => Self::Accept,
            1 => Self::AcceptPause,
            2 => Self::Recv(session),
            3 => Self::Send(session),
            4 => Self::Event,
            5 => Self::Control,
            6 => Self::Grace,
            _ => unreachable!("only tags of this enum are pushed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tag;

    #[test]
    fn every_tag_comes_back_as_it_was() {
        let all = [
            Tag::Accept,
            Tag::AcceptPause,
            Tag::Recv(0),
            Tag::Recv(u32::MAX),
            Tag::Send(7),
            Tag::Event,
            Tag::Control,
            Tag::Grace,
        ];
        for tag in all {
            assert_eq!(Tag::decode(tag.encode()), tag);
        }
    }
}
