//! How a new holder gets the segment of one that crashed: a living peer offers it.

use super::holder::{HELLO_MAX, HELLO_WITHIN, HolderSpec};
use super::socket;
use super::table::Table;
use super::wire::{Hello, Wish};
use crate::layout::Layout;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A hello that came before there was a table.
pub(super) type Early = Vec<u8>;

/// Waits for the first valid offer; whatever else is said meanwhile is kept for later.
pub(super) fn await_offer(
    spec: &HolderSpec,
    listener: BorrowedFd<'_>,
    within: Duration,
) -> (Option<Table>, Vec<(OwnedFd, Early)>) {
    let until = Instant::now() + within;
    let mut early = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || !socket::wait(listener, left) {
            return (None, early);
        }
        let Ok(Some(guest)) = socket::accept(listener) else {
            continue;
        };
        let left = until.saturating_duration_since(Instant::now());
        if !socket::wait(guest.as_fd(), left.min(HELLO_WITHIN)) {
            continue;
        }
        let Ok((message, offer)) = socket::receive(guest.as_fd(), HELLO_MAX) else {
            continue;
        };
        let table = offered(spec, guest.as_fd(), &message, offer);
        early.push((guest, message));
        if table.is_some() {
            return (table, early);
        }
    }
}

fn offered(
    spec: &HolderSpec,
    guest: BorrowedFd<'_>,
    message: &[u8],
    offer: Vec<OwnedFd>,
) -> Option<Table> {
    let who = socket::credentials(guest).ok()?;
    let ours = who.uid == 0 || who.uid == nix::unistd::geteuid().as_raw();
    let hello = Hello::decode(message).ok()?;
    let returns = hello.wish == Wish::Return && hello.layout_hash == Layout::hash();
    (ours && returns)
        .then(|| Table::adopt(&spec.region, hello.generation, offer))
        .flatten()
}
