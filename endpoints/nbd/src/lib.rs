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
//! | [`volume`] | a volume of a node as a backend |
//! | [`device`] | the program `archip-nbd`: a volume's address, from `map` to `unmap` |
//! | [`wire`], [`handshake`], [`mod@check`], [`extents`], [`error`] | the protocol, pure |
//! | `session` | one connection without its socket |
//! | `ring`, `connection`, `event_loop` | the system calls |
//! | [`mod@fuzz`], `play` | what a client sends, as plain functions of bytes; a connection by hand |
//!
//! # What a request costs
//! System calls of the server for each request of 4 KiB, with a backend that answers from memory;
//! expected, and counted with `strace -c` under fio's nbd engine:
//!
//! | | calls | counted |
//! |---|---|---|
//! | depth 1 | 2: one `io_uring_enter` hands over the reply and the next receive, one sleeps | 2.0 |
//! | depth 32, reads | 2 for each batch: a receive brings all waiting requests, a `sendmsg` takes up to 64 replies with their data | 0.14 |
//! | depth 32, writes | the same, in batches of at most `read_ahead_bytes` | 0.26 |
//! | writes of 64 KiB and more | one receive for each header, one or more straight into the backend's buffer | |
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

mod arguments;
pub mod backends;
pub mod check;
mod connection;
pub mod control;
pub mod device;
pub mod error;
mod event_loop;
pub mod export;
pub mod extents;
pub mod fuzz;
pub mod handshake;
mod play;
mod ring;
pub mod server;
mod session;
#[cfg(test)]
mod tests;
pub mod volume;
pub mod wire;

pub use arguments::Arguments;
pub use control::{Client, Handle};
pub use export::{
    BlockSizes, BufferId, Buffers, Done, Export, Extent, Extra, Failure, Op, Token, Transfer, Turn,
};
pub use server::{Options, Server, Summary, listen};
