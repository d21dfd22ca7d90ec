//! Joining, ports, waiting.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use super::{ok, text};
use crate::abi::{NO_PORT, xport, xseg_handle, xseg_port};
use crate::error::{self, guard};
use crate::handle::{self, find};
use crate::node::Presence;
use crate::wait;

/// Kinds of wake-up that programs ask for; there is one, and it serves them all.
const PEER_TYPES: [&str; 3] = ["posixfd", "posix", "pthread"];

/// Prepares the library. 0.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_initialize() -> c_int {
    0
}

/// Nothing is left to be done.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_finalize() {}

/// Why the last call of this thread failed; never null.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_last_error() -> *const c_char {
    error::last()
}

/// Joins a segment; NULL: it can't be.
///
/// # Safety
/// The first three are null or strings that end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xseg_join(
    segment_type: *const c_char,
    name: *const c_char,
    peer_type: *const c_char,
    _wakeup: Option<extern "C" fn(xport)>,
) -> *mut xseg_handle {
    guard(null_mut(), || {
        // SAFETY: promised by the caller.
        let (kind, name, peer) = unsafe {
            (
                text(segment_type, "the segment's type")?,
                text(name, "the segment's name")?,
                text(peer_type, "the peer type")?,
            )
        };
        if kind != "posix" {
            return Err(format!("there are no segments of type {kind}, only posix"));
        }
        if !PEER_TYPES.contains(&peer) {
            return Err(format!("there is no peer type {peer}, only posixfd"));
        }
        handle::join(name)
    })
}

/// Leaves the segment; ports that are still bound are given back.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_leave(xseg: *mut xseg_handle) {
    guard((), || handle::leave(xseg));
}

/// 0: the node is there; 1: its holder is away, and may come back; -1: nothing will be answered
/// any more.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_check_node(xseg: *mut xseg_handle) -> c_int {
    guard(-1, || match find(xseg)?.presence() {
        Presence::Up => Ok(0),
        Presence::Away => Ok(1),
        Presence::Gone => Err("the node went away".into()),
    })
}

/// Binds the first dynamic port that nobody has.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_bind_dynport(xseg: *mut xseg_handle) -> *mut xseg_port {
    guard(null_mut(), || find(xseg)?.bind(None))
}

/// Binds a static port; `NoPort` asks for a dynamic one. The descriptor is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_bind_port(
    xseg: *mut xseg_handle,
    portno: xport,
    _signal_desc: *mut c_void,
) -> *mut xseg_port {
    let fixed = (portno != NO_PORT).then_some(portno);
    guard(null_mut(), || find(xseg)?.bind(fixed))
}

/// Gives a port back.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_leave_dynport(xseg: *mut xseg_handle, port: *mut xseg_port) -> c_int {
    guard(-1, || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        let no = state.port_of_shell(port)?;
        state.unbind(no);
        Ok(0)
    })
}

/// The same for a static port.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_leave_port(xseg: *mut xseg_handle, port: *mut xseg_port) -> c_int {
    xseg_leave_dynport(xseg, port)
}

/// 0: the port is one of this handle's.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_init_local_signal(xseg: *mut xseg_handle, portno: xport) -> c_int {
    guard(-1, || ok(find(xseg)?.lock().port(portno).map(drop)))
}

/// The port's owner waits no more.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_quit_local_signal(xseg: *mut xseg_handle, portno: xport) {
    guard((), || {
        find(xseg)?.lock().port(portno)?.cancel_wait();
        Ok(())
    });
}

/// The port's `struct posixfd_signal_desc`.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_get_signal_desc(
    xseg: *mut xseg_handle,
    port: *mut xseg_port,
) -> *mut c_void {
    guard(null_mut(), || {
        let handle = find(xseg)?;
        let mut state = handle.lock();
        let no = state.port_of_shell(port)?;
        Ok(state.port(no)?.desc.as_ptr().cast())
    })
}

/// Announces that the port's owner will look at its descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_prepare_wait(xseg: *mut xseg_handle, portno: xport) -> c_int {
    guard(-1, || {
        find(xseg)?.lock().port(portno)?.prepare_wait();
        Ok(0)
    })
}

/// Takes that back.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_cancel_wait(xseg: *mut xseg_handle, portno: xport) -> c_int {
    guard(-1, || {
        find(xseg)?.lock().port(portno)?.cancel_wait();
        Ok(0)
    })
}

/// Sleeps until something came in, at most `usec_timeout` microseconds. -1: nothing did.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_wait_signal(
    xseg: *mut xseg_handle,
    signal_desc: *mut c_void,
    usec_timeout: u32,
) -> c_int {
    guard(-1, || {
        let handle = find(xseg)?;
        let no = handle.lock().port_of_desc(signal_desc as usize)?;
        let patience = Duration::from_micros(usec_timeout.into());
        match wait::wait(&handle, no, patience)? {
            true => Ok(0),
            false => Err("nothing came in".into()),
        }
    })
}

/// Nothing has to be done: submitting rings whoever sleeps. -1: nobody serves the port.
#[unsafe(no_mangle)]
pub extern "C" fn xseg_signal(xseg: *mut xseg_handle, portno: xport) -> c_int {
    guard(-1, || {
        let handle = find(xseg)?;
        let state = handle.lock();
        let any = state.ports.values().next();
        let segment = any.and_then(|p| p.core.seat().segment(xseg::seat::PUBLIC));
        match segment.and_then(|s| s.seat_of_port(portno)) {
            Some(_) => Ok(0),
            None => Err(format!("nobody serves port {portno}")),
        }
    })
}
