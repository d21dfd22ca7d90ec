//! Requests.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

use super::ok;
use crate::abi::{NO_PORT, xport, xseg_handle, xseg_request};
use crate::error::guard;
use crate::handle::find;

/// A request of `src`'s to `dst`. NULL: there are too many.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_get_request(
    xseg: *mut xseg_handle,
    src: xport,
    dst: xport,
    _flags: u32,
) -> *mut xseg_request {
    guard(null_mut(), || find(xseg)?.lock().get_request(src, dst))
}

/// Frees a request. -1: it is under way.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_put_request(
    xseg: *mut xseg_handle,
    req: *mut xseg_request,
    _portno: xport,
) -> c_int {
    guard(-1, || ok(find(xseg)?.lock().put_request(req as usize)))
}

/// Makes room for a target and data. -1: there is none.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_prep_request(
    xseg: *mut xseg_handle,
    req: *mut xseg_request,
    targetlen: u32,
    datalen: u64,
) -> c_int {
    guard(-1, || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        let (held, port) = state.own_request(req as usize)?;
        ok(held.prepare(&mut port.core, targetlen, datalen))
    })
}

/// Makes room for other lengths; target and data are lost when the buffer was too small.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_resize_request(
    xseg: *mut xseg_handle,
    req: *mut xseg_request,
    targetlen: u32,
    datalen: u64,
) -> c_int {
    guard(-1, || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        let (held, port) = state.own_request(req as usize)?;
        ok(held.resize(&mut port.core, targetlen, datalen))
    })
}

/// The request's target, 256 bytes.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_get_target(xseg: *mut xseg_handle, req: *mut xseg_request) -> *mut c_char {
    guard(null_mut(), || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        Ok(state.request(req as usize)?.target().cast())
    })
}

/// The request's data, `bufferlen` bytes; NULL when there is none.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_get_data(xseg: *mut xseg_handle, req: *mut xseg_request) -> *mut c_char {
    guard(null_mut(), || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        Ok(state.request(req as usize)?.data().cast())
    })
}

/// Ties a pointer of the program's to a request.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_set_req_data(
    xseg: *mut xseg_handle,
    req: *mut xseg_request,
    data: *mut c_void,
) -> c_int {
    guard(-1, || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        state.request(req as usize)?.user = Some(data as usize);
        Ok(0)
    })
}

/// Takes that pointer back. -1: there is none.
///
/// # Safety
/// `data` is null or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xseg_get_req_data(
    xseg: *mut xseg_handle,
    req: *mut xseg_request,
    data: *mut *mut c_void,
) -> c_int {
    guard(-1, || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        let held = state.request(req as usize)?;
        if data.is_null() {
            return Err("the place for the pointer is NULL".into());
        }
        let user = held.user.take().ok_or("nothing is tied to this request")?;
        // SAFETY: not null, and the caller promises that it is a place for a pointer.
        unsafe { data.write(user as *mut c_void) };
        Ok(0)
    })
}

/// Sends a request, and says which port to signal; `NoPort`: it was not sent.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_submit(
    xseg: *mut xseg_handle,
    req: *mut xseg_request,
    portno: xport,
    _flags: u32,
) -> xport {
    guard(NO_PORT, || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        let (held, port) = state.own_request(req as usize)?;
        if held.port != portno {
            return Err(format!("the request belongs to port {}", held.port));
        }
        held.submit(&mut port.core)
    })
}

/// The next answered request; NULL: there is none now. Never waits.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_receive(
    xseg: *mut xseg_handle,
    portno: xport,
    _flags: u32,
) -> *mut xseg_request {
    guard(null_mut(), || {
        let received = find(xseg)?.lock().receive(portno)?;
        received.ok_or_else(|| "nothing was answered".into())
    })
}
