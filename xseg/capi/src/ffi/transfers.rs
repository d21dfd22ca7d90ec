//! Transfers: reads and writes of any length. Ours; the original has nothing like it.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use client::Name;
use xseg::Request;
use xseg::protocol::Operation;

use super::ok;
use crate::abi::{xport, xseg_handle, xseg_transfer};
use crate::error::guard;
use crate::handle::find;
use crate::transfer::Memory;
use crate::wait::wait_transfer;

/// What a transfer does, and where.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct xseg_transfer_spec {
    /// `X_READ` or `X_WRITE`.
    pub op: u32,
    /// `XF_*`.
    pub flags: u32,
    /// Bytes of a volume with a v0 map; all bits set when unknown.
    pub v0_size: u64,
    /// Bytes from the start of the target.
    pub offset: u64,
    /// The port that serves it.
    pub dst: xport,
    /// Bytes of the target.
    pub targetlen: u32,
    /// The volume or object.
    pub target: *const c_char,
    /// Read from, or written to, until `xseg_transfer_end`.
    pub data: *mut c_void,
    /// Bytes of the data.
    pub datalen: u64,
}

impl xseg_transfer_spec {
    /// # Safety
    /// `target` is null or points to `targetlen` bytes.
    unsafe fn request(&self) -> Result<Request, String> {
        let op = [Operation::Read, Operation::Write]
            .into_iter()
            .find(|op| *op as u32 == self.op)
            .ok_or("a transfer is X_READ or X_WRITE")?;
        let len = self.targetlen as usize;
        if self.target.is_null() || len == 0 || len > crate::abi::TARGET_MAX {
            return Err("a transfer needs a target of 1 to 256 bytes".into());
        }
        // SAFETY: not null, of a checked length, and the caller promises that it is there.
        let target = unsafe { std::slice::from_raw_parts(self.target.cast::<u8>(), len) };
        Ok(Request {
            flags: self.flags,
            v0_size: self.v0_size,
            offset: self.offset,
            ..Request::new(op, Name::new(target).unwrap_or_default())
        })
    }
}

/// Begins a transfer from port `portno`. NULL: it can't be.
///
/// # Safety
/// `spec` is null or a valid spec; its data stays valid until `xseg_transfer_end`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xseg_transfer_start(
    xseg: *mut xseg_handle,
    portno: xport,
    spec: *const xseg_transfer_spec,
) -> *mut xseg_transfer {
    guard(null_mut(), || {
        let handle = find(xseg)?;
        // SAFETY: null or valid, as the caller promises.
        let spec = unsafe { spec.as_ref() }.ok_or("the transfer's spec is NULL")?;
        if spec.data.is_null() && spec.datalen > 0 {
            return Err("the transfer's data is NULL".into());
        }
        // SAFETY: promised by the caller.
        let (request, memory) =
            unsafe { (spec.request()?, Memory::new(spec.data.cast(), spec.datalen)) };
        handle.lock().start(portno, spec.dst, request, memory)
    })
}

/// Goes on without waiting. 1: it is over; 0: it is not; -1: this is no transfer.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_transfer_step(
    xseg: *mut xseg_handle,
    transfer: *mut xseg_transfer,
) -> c_int {
    guard(-1, || {
        find(xseg)?.lock().step(transfer as usize).map(c_int::from)
    })
}

/// Goes on and waits, at most `usec_timeout` microseconds. Returns as `xseg_transfer_step`.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_transfer_wait(
    xseg: *mut xseg_handle,
    transfer: *mut xseg_transfer,
    usec_timeout: u64,
) -> c_int {
    guard(-1, || {
        let handle = find(xseg)?;
        let patience = Duration::from_micros(usec_timeout.min(1 << 40));
        wait_transfer(&handle, transfer as usize, patience).map(c_int::from)
    })
}

/// Starts a transfer, waits at most `usec_timeout` microseconds, and ends it: what
/// `xseg_transfer_end` says. -1: it can't be, or it is not over and stands in `under_way`.
///
/// # Safety
/// As for [`xseg_transfer_start`]; `under_way` is a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xseg_transfer_run(
    xseg: *mut xseg_handle,
    portno: xport,
    spec: *const xseg_transfer_spec,
    usec_timeout: u64,
    under_way: *mut *mut xseg_transfer,
) -> c_int {
    guard(-1, || {
        if under_way.is_null() {
            return Err("the place for the transfer is NULL".into());
        }
        // SAFETY: promised by the caller.
        let transfer = unsafe {
            under_way.write(null_mut());
            xseg_transfer_start(xseg, portno, spec)
        };
        if transfer.is_null() {
            // Its reason is noted already.
            return Ok(-1);
        }
        if xseg_transfer_wait(xseg, transfer, usec_timeout) == 1 {
            return Ok(xseg_transfer_end(xseg, transfer));
        }
        // SAFETY: as above.
        unsafe { under_way.write(transfer) };
        Err("the transfer is not over".into())
    })
}

/// Nothing will be answered any more: the transfer is over, with ENOTCONN.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_transfer_abandon(xseg: *mut xseg_handle, transfer: *mut xseg_transfer) {
    guard((), || {
        find(xseg)?.lock().abandon(transfer as usize);
        Ok(())
    });
}

/// Ends a transfer, also one that is not over: its data is not touched any more. 0, or why it
/// failed (a Linux error number); -1: this is no transfer.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_transfer_end(xseg: *mut xseg_handle, transfer: *mut xseg_transfer) -> c_int {
    guard(-1, || {
        let ended = find(xseg)?.lock().end(transfer as usize);
        ok(ended.as_ref().map(|_| ()).map_err(Clone::clone))?;
        ended.map(|errno| errno as c_int)
    })
}
