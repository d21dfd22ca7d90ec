//! How the holder of a segment hands it out, and how a process joins.
//!
//! The holder listens on a unix socket of whole messages (SOCK_SEQPACKET). A joiner says hello
//! (who it is, which layout it knows) and gets one answer: a seat and the descriptors that belong
//! to it, or an errno and a sentence. The connection then stays open without a word: the end of
//! the joiner is the end of its connection, and so is the end of the holder.
//!
//! ```text
//!  joiner                                    holder
//!    | -- hello {kind, layout hash, name} ---> |   peer credentials decide
//!    | <-- answer {seat} + descriptors ------- |   the seat's lock is held already
//!    |            (silence)                    |
//!    X  end of file -------------------------> |   lock free? then mark dead, sweep, alarm
//!    | <------------------------- end of file  X   the node stops, or its holder crashed
//! ```
//!
//! - [`wire`]: the messages, byte by byte;
//! - [`connect`], [`observe`], [`repair`], [`recover_port`]: the joiner's side;
//! - [`Holder`]: the holder's side, driven by a poll loop of its owner's;
//! - [`Local`]: the same table inside one process, without sockets.
//!
//! Descriptors: every joiner gets one bell for each seat ([`crate::layout::SEATS`] eventfds), so
//! that ringing needs nobody's help. [`connect`] raises the soft limit of open files to 4096 (or
//! to the hard limit) when it is lower.

mod adopt;
mod connect;
mod deal;
mod holder;
mod local;
mod socket;
mod table;
pub mod wire;

pub use connect::{
    Connection, JoinError, Joined, Kind, Observed, connect, observe, recover_port, repair,
};
pub use holder::{Holder, HolderError, HolderSpec, Notice};
pub use local::Local;
