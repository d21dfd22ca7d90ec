//! libxseg: the C API over the segment, for programs that were written against the original's
//! (`spec/qemu.md` section 2) and for the Python modules.
//!
//! Source compatibility only: names and types are the original's, offsets are ours. A library of
//! another build is refused when it joins, by the segment's layout hash.
//!
//! Reading order:
//! - [`abi`]: the structures that C code sees; `include/xseg/*.h` says the same in C, and a test
//!   compares the two;
//! - [`shared`]: memory that C code may write at any time;
//! - [`node`]: one connection for each process and node, and what a fork does to it;
//! - [`port`]: a port that a program bound: its seat and its wake-up descriptor;
//! - [`request`]: a request between `xseg_get_request` and `xseg_put_request`;
//! - [`transfer`]: reads and writes of any length, cut into pieces (ours, not the original's);
//! - [`handle`]: what `xseg_join` returns: ports, requests and transfers behind one lock;
//! - [`wait`]: waiting for answers;
//! - [`error`]: why the last call failed, as a sentence;
//! - [`ffi`]: the functions themselves.
//!
//! What always holds:
//! 1. A pointer that C hands in is looked up before it is used: handles in a table of the process,
//!    ports, requests and transfers in the tables of their handle. One that was never given out,
//!    or was given back, makes the call fail; it is not followed.
//! 2. Memory that C may write (requests, targets, data) is only read and written by raw copies, and
//!    no number in it is believed: lengths are checked against what was allocated.
//! 3. A panic ends at the function's edge as an error.
//! 4. What a dead or dropped request may still be written to stays taken until its answer is there.

pub mod abi;
pub mod error;
pub mod ffi;
pub mod handle;
pub mod node;
pub mod port;
pub mod request;
pub mod shared;
pub mod transfer;
pub mod wait;
