//! Two eventfds that two processes wake each other with: one write and one blocking read on each
//! side of a round trip.

use crate::case::{Trouble, Turn};
use crate::histogram::Histogram;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{read, write};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The two bells; blocking.
pub struct Pair {
    /// Rung by the side that asks.
    pub ask: OwnedFd,
    /// Rung by the side that answers.
    pub answer: OwnedFd,
}

impl Pair {
    /// New ones.
    pub fn create() -> io::Result<Pair> {
        let bell = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map(OwnedFd::from);
        Ok(Pair {
            ask: bell()?,
            answer: bell()?,
        })
    }

    /// Answers until the process is killed.
    pub fn answer(&self) -> io::Result<()> {
        loop {
            await_ring(&self.ask)?;
            ring(&self.answer)?;
        }
    }

    /// Asks for `budget`; the other side must be at work.
    pub fn ask(&self, budget: Duration) -> Result<Turn, Trouble> {
        let mut latencies = Histogram::default();
        let start = Instant::now();
        let mut before = start;
        while before - start < budget {
            let trip = ring(&self.ask).and_then(|()| await_ring(&self.answer));
            trip.map_err(Trouble::failed("eventfd"))?;
            let now = Instant::now();
            latencies.record((now - before).as_nanos() as u64);
            before = now;
        }
        Ok(Turn::timed(before - start, latencies))
    }
}

fn ring(bell: &impl AsFd) -> io::Result<()> {
    write(bell, &1u64.to_ne_bytes())?;
    Ok(())
}

fn await_ring(bell: &impl AsFd) -> io::Result<()> {
    read(bell, &mut [0; 8])?;
    Ok(())
}
