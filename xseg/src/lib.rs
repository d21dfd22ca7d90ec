//! xseg: the shared segment over which the processes of one node exchange requests.
//!
//! Reading order:
//! - [`protocol`]: operations, flags, structures and names that travel (spec/protocol.md section 1);
//! - [`layout`]: where everything lies in a region, computed from a handful of numbers;
//! - [`word`]: the state word of a request slot, the only truth about who holds it;
//! - [`slot`]: the request record and how it is read and written;
//! - [`inbox`]: the hint that tells a receiver which slots to look at;
//! - [`buffer`]: data buffers, taken by compare-and-swap from free to their holder;
//! - [`segment`]: the mapping itself, a sealed memfd;
//! - [`bell`] and [`owner`]: how a sleeper is woken, and who is dead; [`spin`]: how long to stay
//!   awake before;
//! - [`seat`]: the safe face of all that: what a process does with its place at the table, and
//!   how a successor takes over a dead peer's;
//! - [`reclaim`]: what is done with the leftovers of the dead;
//! - [`join`]: how the holder of a segment hands it out;
//! - [`report`]: what `xseg reportall` shows;
//! - [`mod@fuzz`]: every decoder as a plain function of bytes.

pub mod bell;
pub mod buffer;
#[cfg(not(loom))]
pub mod fuzz;
pub mod inbox;
pub mod join;
pub mod layout;
#[cfg(all(test, loom))]
mod loom_models;
pub mod name;
pub mod owner;
pub mod protocol;
pub mod reclaim;
pub mod report;
pub mod seat;
pub mod segment;
pub mod slot;
pub mod spin;
pub mod sync;
pub mod word;

pub use bell::{Bells, EventBells};
pub use layout::{Layout, LayoutError, RegionSpec};
pub use name::Name;
pub use seat::{Event, Incoming, Seat, Ticket};
pub use segment::{Extent, Segment, SegmentError};
pub use slot::{Answer, Request};
pub use word::{SeatNo, SlotNo, State, Word};
