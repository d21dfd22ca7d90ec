//! An NBD server on a unix socket: one volume, one thread, one io_uring, any number of clients.
//!
//! ```text
//! client --socket--> event_loop (ring) --bytes--> session --Op--> Export (the volume's backend)
//! ```
//! | module | what it is |
//! |---|---|
//! | [`export`] | the seam to a backend: [`Export`], its buffers and operations |
//! | [`server`], [`control`] | [`Server`], [`Options`], [`Handle`]: run, stop, freeze, who is there |
//! | [`backends`] | a backend that does nothing and one in memory |
//! | [`wire`], [`handshake`], [`mod@check`], [`extents`], [`error`] | the protocol, pure |
//! | `session` | one connection without its socket |
//! | `ring`, `event_loop` | the system calls |
//!
//! # What a request costs
//! System calls of the server, with a backend that answers from memory (`strace -c`):
//!
//! | | calls |
//! |---|---|
//! | depth 1 | 2: `io_uring_enter` submits the reply and the next receive, another sleeps |
//! | depth 32 | about 2 for each batch: one receive brings up to `read_ahead_bytes` of requests, one `sendmsg` takes up to 64 replies with their data |
//! | write of 64 KiB and more | one receive more, straight into the backend's buffer |
//!
//! Data moves once: between the socket and the backend's buffer. Only what a receive brings along
//! behind a header (at most `read_ahead_bytes`) is copied from the read-ahead buffer, which for 4
//! KiB is cheaper than a receive of its own.
//!
//! # Protocol
//! Fixed newstyle without TLS, structured replies, `base:allocation`; `doc/proto.md` of the
//! NetworkBlockDevice project is the source. A write longer than the export's maximum is answered
//! with `EINVAL` after its payload was thrown away. Reads of zeros are answered with a hole where
//! the client negotiated that.

pub mod backends;
pub mod check;
pub mod control;
pub mod error;
mod event_loop;
pub mod export;
pub mod extents;
pub mod handshake;
mod ring;
pub mod server;
mod session;
#[cfg(test)]
mod tests;
pub mod wire;

pub use control::{Client, Handle};
pub use export::{
    BlockSizes, BufferId, Buffers, Done, Export, Extent, Extra, Failure, Op, Token, Transfer, Turn,
};
pub use server::{Options, Server, Summary, listen};
