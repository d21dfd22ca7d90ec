//! The structures and numbers that C code sees: `include/xseg/xseg.h`, told in Rust.
//!
//! Field names and types are those of `spec/protocol.md` section 1; what the original had besides
//! (path stacks, locks) is not there. `tests/header.rs` compares every offset and number with the
//! header.
#![allow(non_camel_case_types)]

use std::ffi::c_char;

/// A port number.
pub type xport = u32;
/// No port.
pub const NO_PORT: xport = u32::MAX;
/// Bytes of the longest target.
pub const TARGET_MAX: usize = 256;
/// Requests that one port may have at a time.
pub const REQUESTS_MAX: usize = 1024;

/// What `xseg_join` returns; programs hold its address and see nothing of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct xseg_handle {
    /// Nothing: it makes the address one of its own.
    pub unused: u64,
}

/// A bound port.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct xseg_port {
    /// Its number.
    pub portno: xport,
    /// The process that bound it.
    pub owner: u32,
}

/// What `xseg_get_signal_desc` points to. Programs that wait with a loop of their own read `fd`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct posixfd_signal_desc {
    /// Not used; it had the name of a FIFO.
    pub signal_file: [c_char; 16],
    /// Readable when something was answered after `xseg_prepare_wait`. Non-blocking.
    pub fd: i32,
    /// Whether the port's owner announced that it waits.
    pub flag: i32,
}

/// A request. Everything but `serial`, `data`, `target` and the lengths may be set between
/// `xseg_prep_request` and `xseg_submit`; `datalen` and `targetlen` may be made smaller.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct xseg_request {
    /// Not used.
    pub serial: u64,
    /// Bytes from the start of the target.
    pub offset: u64,
    /// Bytes (or operation specific).
    pub size: u64,
    /// Bytes done; 0 when the request failed.
    pub serviced: u64,
    /// Bytes of a volume with a v0 map; all bits set when unknown.
    pub v0_size: u64,
    /// Where the data is: use `xseg_get_data`.
    pub data: u64,
    /// Bytes of the data.
    pub datalen: u64,
    /// Where the target is: use `xseg_get_target`.
    pub target: u64,
    /// Bytes of the target.
    pub targetlen: u32,
    /// The operation, `X_*`.
    pub op: u32,
    /// `XS_*`.
    pub state: u32,
    /// `XF_*`.
    pub flags: u32,
    /// The port it comes from.
    pub src_portno: xport,
    /// The port that submitted it last.
    pub transit_portno: xport,
    /// The port it goes to.
    pub dst_portno: xport,
    /// The port it goes to.
    pub effective_dst_portno: xport,
    /// Where the data's buffer is; not to be followed.
    pub buffer: u64,
    /// Bytes of that buffer.
    pub bufferlen: u64,
    /// The program's own.
    pub task: u64,
    /// The program's own.
    pub private: u64,
    /// The program's own.
    pub timestamp: u64,
    /// The program's own.
    pub elapsed: u64,
    /// Ours: why it failed (a Linux error number), 0 when it did not.
    pub error: u32,
    /// Not used.
    pub padding: u32,
}

/// A transfer under way; programs hold its address and see nothing of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct xseg_transfer {
    /// Nothing: it makes the address one of its own.
    pub unused: u64,
}

/// State bits.
pub mod state {
    /// The request was served.
    pub const SERVED: u32 = xseg::protocol::state::SERVED;
    /// The request failed.
    pub const FAILED: u32 = xseg::protocol::state::FAILED;
}

const _: () = assert!(size_of::<xseg_request>() == 152);
const _: () = assert!(std::mem::offset_of!(posixfd_signal_desc, fd) == 16);
const _: () = assert!(size_of::<posixfd_signal_desc>() == 24);
