//! The inbox of a seat: a hint that tells the receiver which slots to look at.
//!
//! One head word. A sender links its slot to the head it saw and puts itself there by one
//! compare-and-swap; the receiver takes everything by one swap. Bit 0 of the head says *asleep*:
//! the sender that replaces such a head rings the bell.
//!
//! What always holds:
//! - The state word is set to QUEUED or ANSWERED before the push, so a sender killed before the
//!   push leaves a slot that a scan of the state words finds; one killed after it leaves a bell
//!   that was not rung, and whoever sees the death rings every bell.
//! - The chain is not believed: a walk is bounded, every index checked, and a slot that is not
//!   what the chain says makes the receiver scan.
//! - A link names the inbox that it belongs to. A sender that stalls between its change of the
//!   state word and its push may find the slot (taken meanwhile by a scan, freed and sent anew)
//!   in somebody else's chain; the link that it then overwrites tells that somebody so, and it
//!   scans. In the same inbox the surplus push makes a cycle or shows a slot that was taken
//!   before, and either makes the receiver scan.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::word::{SeatNo, SlotNo};

const ASLEEP: u64 = 1;
/// A link: index + 1 (a slot's index takes 20 bits), above it the seat (240 of them).
const LINK_BITS: u32 = 24;
const LINK_MASK: u32 = (1 << LINK_BITS) - 1;
const _: () = assert!(crate::layout::SEATS <= 256);

/// The record of a seat, 128 bytes: what senders touch in the first cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Member {
    /// Bit 0 asleep, the rest the newest slot (index + 1).
    pub head: AtomicU64,
    /// Not 0: scan the state words at the next turn.
    pub rescan: AtomicU32,
    /// 0 empty, 1 alive, 2 dead with leftovers.
    pub status: AtomicU32,
    pad: [AtomicU64; 6],
    /// For display.
    pub pid: AtomicU32,
    /// First port bound, for display.
    pub port: AtomicU32,
    /// Start time of the process in clock ticks after boot, for display.
    pub start_time: AtomicU64,
    /// Zero-padded name, for display.
    pub name: [AtomicU64; 4],
    /// Operations that a driver has for this seat, for display.
    busy: AtomicU64,
    spare: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Member>() == 128);

impl Member {
    /// Says who sits here, for display: process id, its start time (clock ticks after boot), and
    /// as much of its name as fits (32 bytes).
    pub fn describe(&self, pid: u32, start_time: u64, name: &[u8]) {
        self.pid.store(pid, Ordering::Relaxed);
        self.start_time.store(start_time, Ordering::Relaxed);
        let mut bytes = [0; 32];
        let len = name.len().min(bytes.len());
        bytes[..len].copy_from_slice(&name[..len]);
        for (cell, chunk) in self.name.iter().zip(bytes.chunks_exact(8)) {
            let word = u64::from_ne_bytes(chunk.try_into().expect("eight bytes"));
            cell.store(word, Ordering::Relaxed);
        }
    }

    /// The name, escaped; whatever is there, for a client may have written it.
    pub fn display_name(&self) -> String {
        let bytes: Vec<u8> = self
            .name
            .iter()
            .flat_map(|cell| cell.load(Ordering::Relaxed).to_ne_bytes())
            .take_while(|&b| b != 0)
            .collect();
        bytes.escape_ascii().to_string()
    }
}

impl Member {
    /// How many operations a driver has for this seat, as it last said: for display.
    pub fn busy(&self) -> u64 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Says how many operations a driver has.
    pub(crate) fn show_busy(&self, count: u64) {
        self.busy.store(count, Ordering::Relaxed);
    }
}

/// Values of [`Member::status`].
pub mod status {
    /// Nobody sits there.
    pub const EMPTY: u32 = 0;
    /// A living process sits there.
    pub const ALIVE: u32 = 1;
    /// Its process is dead; what it left is being swept up.
    pub const DEAD: u32 = 2;
}

/// Puts `slot` into the inbox of `seat`. True: the receiver sleeps, ring its bell.
pub fn push<'a>(
    head: &AtomicU64,
    seat: SeatNo,
    slot: SlotNo,
    next: impl Fn(SlotNo) -> Option<&'a AtomicU32>,
) -> bool {
    let Some(link) = next(slot) else { return false };
    let mut seen = head.load(Ordering::Relaxed);
    loop {
        let below = (seen >> 1) as u32 & LINK_MASK;
        link.store(below | u32::from(seat.0) << LINK_BITS, Ordering::Relaxed);
        // Release publishes the link (pairs with the acquire swap in `take`).
        let new = (u64::from(slot.0) + 1) << 1;
        match head.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return seen & ASLEEP != 0,
            Err(now) => seen = now,
        }
    }
}

/// How a walk of the chain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Walk {
    /// At its end.
    Whole,
    /// At an index that is no slot, at a link of another inbox, or after more steps than there
    /// are slots.
    Broken,
}

/// Takes everything out of the inbox of `seat` and appends it to `out`, oldest first; the receiver counts
/// as awake from here on. `slots` bounds the walk.
pub fn take<'a>(
    head: &AtomicU64,
    seat: SeatNo,
    slots: u32,
    next: impl Fn(SlotNo) -> Option<&'a AtomicU32>,
    out: &mut Vec<SlotNo>,
) -> Walk {
    if head.load(Ordering::Relaxed) == 0 {
        return Walk::Whole;
    }
    // Acquire: pairs with the release of `push`, so the links are there.
    let taken = head.swap(0, Ordering::AcqRel);
    let first = out.len();
    let walk = follow(taken, seat, slots, next, |slot| out.push(slot));
    out[first..].reverse();
    walk
}

/// Follows the chain that starts at a head without taking anything.
pub fn inspect<'a>(
    head: u64,
    seat: SeatNo,
    slots: u32,
    next: impl Fn(SlotNo) -> Option<&'a AtomicU32>,
) -> Walk {
    follow(head, seat, slots, next, |_| {})
}

fn follow<'a>(
    head: u64,
    seat: SeatNo,
    slots: u32,
    next: impl Fn(SlotNo) -> Option<&'a AtomicU32>,
    mut each: impl FnMut(SlotNo),
) -> Walk {
    let mut at = head >> 1;
    let mut left = slots;
    while at != 0 {
        let slot = SlotNo((at - 1).min(u64::from(u32::MAX)) as u32);
        let (Some(link), true) = (next(slot), left > 0) else {
            return Walk::Broken;
        };
        left -= 1;
        each(slot);
        let link = link.load(Ordering::Relaxed);
        if link >> LINK_BITS != u32::from(seat.0) {
            return Walk::Broken;
        }
        at = u64::from(link & LINK_MASK);
    }
    Walk::Whole
}

/// Says that the receiver goes to sleep. False: something is there, do not sleep.
pub fn doze(head: &AtomicU64) -> bool {
    match head.compare_exchange(0, ASLEEP, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => true,
        Err(now) => now == ASLEEP,
    }
}

/// Says that the receiver is awake again, whatever woke it.
pub fn wake(head: &AtomicU64) {
    let _ = head.compare_exchange(ASLEEP, 0, Ordering::AcqRel, Ordering::Acquire);
}

/// Whether something is there to take.
pub fn has_mail(head: &AtomicU64) -> bool {
    head.load(Ordering::Acquire) > ASLEEP
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ME: SeatNo = SeatNo(20);

    fn links() -> Vec<AtomicU32> {
        (0..8).map(|_| AtomicU32::new(0)).collect()
    }

    fn taken(head: &AtomicU64, links: &[AtomicU32]) -> (Vec<u32>, Walk) {
        let mut out = Vec::new();
        let link = |s: SlotNo| links.get(s.0 as usize);
        let walk = take(head, ME, links.len() as u32, link, &mut out);
        (out.into_iter().map(|s| s.0).collect(), walk)
    }

    fn pushed(slots: &[u32]) -> (AtomicU64, Vec<AtomicU32>) {
        let (head, links) = (AtomicU64::new(0), links());
        for &slot in slots {
            push(&head, ME, SlotNo(slot), |s| links.get(s.0 as usize));
        }
        (head, links)
    }

    #[test]
    fn the_oldest_comes_first_and_once() {
        let (head, links) = pushed(&[3, 0, 7]);
        assert_eq!(taken(&head, &links), (vec![3, 0, 7], Walk::Whole));
        assert_eq!(taken(&head, &links), (vec![], Walk::Whole));
    }

    #[test]
    fn the_first_push_after_a_doze_rings() {
        let (head, links) = pushed(&[]);
        assert!(doze(&head));
        let link = |s: SlotNo| links.get(s.0 as usize);
        assert!(push(&head, ME, SlotNo(1), link));
        assert!(!push(&head, ME, SlotNo(2), link));
        assert!(!doze(&head), "there is mail");
        assert_eq!(taken(&head, &links).0, [1, 2]);
    }

    /// A sender stalled between its state word and its push; a scan served the slot meanwhile,
    /// and it was sent anew, to us. Now the sender goes on and links it for its own receiver.
    #[test]
    fn a_link_of_another_inbox_breaks_the_chain_instead_of_ending_it() {
        let (head, links) = pushed(&[4, 5]);
        let theirs = AtomicU64::new(0);
        push(&theirs, SeatNo(21), SlotNo(5), |s| links.get(s.0 as usize));
        assert_eq!(taken(&head, &links), (vec![5], Walk::Broken));
    }

    #[test]
    fn a_cycle_and_a_wild_index_end_the_walk() {
        let (head, links) = pushed(&[1, 2, 1]);
        assert_eq!(taken(&head, &links).1, Walk::Broken);
        let head = AtomicU64::new(u64::MAX - 1);
        assert_eq!(taken(&head, &links), (vec![], Walk::Broken));
    }
}
