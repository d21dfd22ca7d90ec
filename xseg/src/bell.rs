//! Doorbells: how a sleeping receiver is woken.
//!
//! One eventfd for each seat. The holder of the segment makes them all and hands them to whoever
//! joins, so that ringing needs nobody's help. A bell is rung only when the inbox says *asleep*.

use crate::word::SeatNo;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Wakes the process behind a seat. The simulation brings its own.
pub trait Bells: Send + Sync {
    /// Wakes whoever sleeps at `seat`; a seat that is none is ignored.
    fn ring(&self, seat: SeatNo);
    /// The descriptor that becomes readable when `seat`'s bell rings, where there is one.
    fn descriptor(&self, seat: SeatNo) -> Option<BorrowedFd<'_>>;
}

/// Real bells: eventfds.
#[derive(Debug)]
pub struct EventBells(Vec<OwnedFd>);

impl EventBells {
    /// Makes `count` bells, non-blocking and closed on exec.
    pub fn create(count: u32) -> std::io::Result<EventBells> {
        (0..count)
            .map(|_| eventfd())
            .collect::<Result<_, _>>()
            .map(EventBells)
    }

    /// Bells received from the holder, in the order of the seats.
    pub fn from_descriptors(descriptors: Vec<OwnedFd>) -> EventBells {
        EventBells(descriptors)
    }

    /// The descriptors, in the order of the seats.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.0.iter().map(|fd| fd.as_raw_fd())
    }
}

fn eventfd() -> std::io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointer.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call above succeeded, so fd is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Bells for EventBells {
    fn ring(&self, seat: SeatNo) {
        let Some(fd) = self.0.get(usize::from(seat.0)) else {
            return;
        };
        // A full counter (EAGAIN) is readable already, and nothing else can fail here.
        let _ = nix::unistd::write(fd, &1u64.to_ne_bytes());
    }

    fn descriptor(&self, seat: SeatNo) -> Option<BorrowedFd<'_>> {
        self.0.get(usize::from(seat.0)).map(|fd| fd.as_fd())
    }
}

/// Takes the ringing out of a bell's descriptor.
pub fn hush(descriptor: BorrowedFd<'_>) {
    let mut count = [0; 8];
    // EAGAIN: it was not ringing.
    let _ = nix::unistd::read(descriptor, &mut count);
}
