//! What is wrong with the regions, finding by finding. It only looks; what can be mended is
//! mended by the holder ([`crate::join::repair`]), which alone knows which seats it is dealing.
//!
//! On a node at work a finding may be gone at the next look: the holder sweeps a dead client
//! within milliseconds, and a request is between two states for a moment.

use crate::buffer;
use crate::inbox::{self, Walk};
use crate::layout::SEATS;
use crate::reclaim::is_peer;
use crate::seat::{PRIVATE, PUBLIC};
use crate::segment::Segment;
use crate::sync::Ordering;
use crate::word::{SeatNo, SlotNo, State, Word};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Something that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// A slot's state word says nothing sensible.
    StrangeSlot {
        /// [`PUBLIC`] or [`PRIVATE`].
        region: u8,
        /// Which.
        slot: SlotNo,
    },
    /// A slot was claimed by somebody who is dead.
    OwnerDead {
        /// [`PUBLIC`] or [`PRIVATE`].
        region: u8,
        /// Which.
        slot: SlotNo,
        /// Whose.
        owner: SeatNo,
        /// What it is.
        state: State,
    },
    /// A request of the living waits for somebody who is dead.
    HolderDead {
        /// [`PUBLIC`] or [`PRIVATE`].
        region: u8,
        /// Which.
        slot: SlotNo,
        /// For whom.
        holder: SeatNo,
        /// What it is.
        state: State,
    },
    /// The dead hold buffers.
    Buffers {
        /// [`PUBLIC`] or [`PRIVATE`].
        region: u8,
        /// Who.
        seat: SeatNo,
        /// How many.
        count: u32,
    },
    /// Buffer words that say nothing sensible.
    StrangeBuffers {
        /// [`PUBLIC`] or [`PRIVATE`].
        region: u8,
        /// How many.
        count: u32,
    },
    /// An inbox whose chain does not hold together; its owner finds its requests all the same.
    Chain {
        /// [`PUBLIC`] or [`PRIVATE`].
        region: u8,
        /// Whose.
        seat: SeatNo,
    },
    /// A port that is bound to nobody who lives.
    Port {
        /// Which.
        port: u32,
        /// To whom it is bound, if there is such a seat.
        seat: Option<SeatNo>,
    },
    /// A peer's port that the public region gives to somebody else.
    StolenPort {
        /// Which.
        port: u32,
        /// Whose it is.
        seat: SeatNo,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |region: u8| {
            if region == PUBLIC {
                "public"
            } else {
                "private"
            }
        };
        match *self {
            Finding::StrangeSlot { region, slot } => {
                write!(f, "{} slot {} says nothing sensible", name(region), slot.0)
            }
            Finding::OwnerDead {
                region,
                slot,
                owner,
                state,
            } => write!(
                f,
                "{} slot {} ({state:?}) belongs to seat {}, whose owner is dead",
                name(region),
                slot.0,
                owner.0
            ),
            Finding::HolderDead {
                region,
                slot,
                holder,
                state,
            } => write!(
                f,
                "{} slot {} ({state:?}) waits for seat {}, whose owner is dead",
                name(region),
                slot.0,
                holder.0
            ),
            Finding::Buffers {
                region,
                seat,
                count,
            } => write!(
                f,
                "{count} {} buffers are held by seat {}, whose owner is dead",
                name(region),
                seat.0
            ),
            Finding::StrangeBuffers { region, count } => {
                write!(f, "{count} {} buffers say nothing sensible", name(region))
            }
            Finding::Chain { region, seat } => {
                write!(f, "the {} inbox of seat {} is broken", name(region), seat.0)
            }
            Finding::Port {
                port,
                seat: Some(seat),
            } => {
                write!(
                    f,
                    "port {port} is bound to seat {}, whose owner is dead",
                    seat.0
                )
            }
            Finding::Port { port, seat: None } => {
                write!(f, "port {port} is bound to a seat that does not exist")
            }
            Finding::StolenPort { port, seat } => {
                write!(
                    f,
                    "port {port} of seat {} is bound to somebody else",
                    seat.0
                )
            }
        }
    }
}

/// Looks for everything that is wrong. `alive` says whose owners live.
pub fn verify(
    public: &Segment,
    private: Option<&Segment>,
    alive: &dyn Fn(SeatNo) -> bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let private_region = private.map(|segment| (PRIVATE, segment));
    for (region, segment) in std::iter::once((PUBLIC, public)).chain(private_region) {
        slots(region, segment, alive, &mut found);
        buffers(region, segment, alive, &mut found);
        chains(region, segment, alive, &mut found);
    }
    ports(public, private, alive, &mut found);
    found
}

fn slots(region: u8, segment: &Segment, alive: &dyn Fn(SeatNo) -> bool, out: &mut Vec<Finding>) {
    for (index, cell) in segment.slots().iter().enumerate() {
        let slot = SlotNo(index as u32);
        let Some(word) = Word::decode_checked(cell.state.bits()) else {
            out.push(Finding::StrangeSlot { region, slot });
            continue;
        };
        let Word {
            state,
            owner,
            holder,
            ..
        } = word;
        if state == State::Free {
            continue;
        }
        if !alive(owner) {
            out.push(Finding::OwnerDead {
                region,
                slot,
                owner,
                state,
            });
        } else if matches!(state, State::Queued | State::Serving) && !alive(holder) {
            out.push(Finding::HolderDead {
                region,
                slot,
                holder,
                state,
            });
        }
    }
}

fn buffers(region: u8, segment: &Segment, alive: &dyn Fn(SeatNo) -> bool, out: &mut Vec<Finding>) {
    let mut dead: BTreeMap<SeatNo, u32> = BTreeMap::new();
    buffer::holders(segment.layout(), segment.words(), |seat, _| {
        if u32::from(seat.0) < SEATS && !alive(seat) {
            *dead.entry(seat).or_default() += 1;
        }
    });
    out.extend(dead.into_iter().map(|(seat, count)| Finding::Buffers {
        region,
        seat,
        count,
    }));
    let count = buffer::count_strange(segment.words());
    if count > 0 {
        out.push(Finding::StrangeBuffers { region, count });
    }
}

fn chains(region: u8, segment: &Segment, alive: &dyn Fn(SeatNo) -> bool, out: &mut Vec<Finding>) {
    for seat in (0..SEATS as u16).map(SeatNo).filter(|&s| alive(s)) {
        let Some(member) = segment.member(seat) else {
            continue;
        };
        let before = member.head.load(Ordering::Acquire);
        let slots = segment.layout().spec.slots;
        let walk = inbox::inspect(before, seat, slots, |s| segment.slot(s).map(|x| &x.next));
        // A chain that was taken meanwhile proves nothing.
        if walk == Walk::Broken && member.head.load(Ordering::Acquire) == before {
            out.push(Finding::Chain { region, seat });
        }
    }
}

fn ports(
    public: &Segment,
    private: Option<&Segment>,
    alive: &dyn Fn(SeatNo) -> bool,
    out: &mut Vec<Finding>,
) {
    for port in 0..public.layout().spec.ports {
        let seat = public.seat_of_port(port);
        let owner = private.and_then(|segment| segment.seat_of_port(port));
        let bound = public.ports()[port as usize].load(Ordering::Acquire) != 0;
        match (owner, seat) {
            (Some(owner), seat) if seat != Some(owner) => {
                out.push(Finding::StolenPort { port, seat: owner });
            }
            (_, None) if bound => out.push(Finding::Port { port, seat: None }),
            // A dead peer's ports stay bound: requests wait there for its successor.
            (_, Some(seat)) if !is_peer(seat) && !alive(seat) => {
                out.push(Finding::Port {
                    port,
                    seat: Some(seat),
                });
            }
            _ => {}
        }
    }
}
