//! The runtime of the peers: what turns events of the segment into calls of a peer, and a peer's
//! calls into requests.
//!
//! - [`desk`]: one peer's place: its seat, the requests it waits for, its buffers;
//! - [`peer`]: what a peer is;
//! - [`host`]: runs one or more peers on one reactor, first through their recovery;
//! - [`tag`]: volume tags and leases, which every peer computes alike.

pub mod desk;
pub mod host;
pub mod peer;
pub mod tag;

pub use desk::{Desk, Scratch};
pub use host::Host;
pub use peer::Peer;
pub use tag::{LeaseTerm, volume_tag};
