"""The functions and structures of ``libxseg.so.0`` (``xseg/xseg.h`` tells what each does).

The library is the file that ``$ARCHIPELAGO_LIBXSEG`` names, or the one that came in the wheel, or
the system's.
"""

import ctypes
import os
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Sequence

__all__ = [
    "NoPort",
    "X_ALLOC",
    "X_LOCAL",
    "X_NONBLOCK",
    "posixfd_signal_desc",
    "xport",
    "xseg_port",
    "xseg_request",
    "xseg_transfer_spec",
    "xseg_initialize",
    "xseg_finalize",
    "xseg_last_error",
    "xseg_join",
    "xseg_leave",
    "xseg_check_node",
    "xseg_bind_dynport",
    "xseg_bind_port",
    "xseg_leave_dynport",
    "xseg_leave_port",
    "xseg_init_local_signal",
    "xseg_quit_local_signal",
    "xseg_get_signal_desc",
    "xseg_prepare_wait",
    "xseg_cancel_wait",
    "xseg_wait_signal",
    "xseg_signal",
    "xseg_get_request",
    "xseg_put_request",
    "xseg_prep_request",
    "xseg_resize_request",
    "xseg_get_target",
    "xseg_get_data",
    "xseg_set_req_data",
    "xseg_get_req_data",
    "xseg_submit",
    "xseg_receive",
    "xseg_transfer_start",
    "xseg_transfer_step",
    "xseg_transfer_wait",
    "xseg_transfer_run",
    "xseg_transfer_abandon",
    "xseg_transfer_end",
]

SONAME = "libxseg.so.0"

X_ALLOC = 1 << 0
X_LOCAL = 1 << 1
X_NONBLOCK = 1 << 2

xport = c_uint32
NoPort = 0xFFFFFFFF


class xseg_port(Structure):
    """A bound port."""

    _fields_ = [("portno", xport), ("owner", c_uint32)]


class posixfd_signal_desc(Structure):
    """How a port's owner is woken: ``fd`` becomes readable."""

    _fields_ = [("signal_file", c_char * 16), ("fd", c_int), ("flag", c_int)]


class xseg_request(Structure):
    """A request."""

    _fields_ = [
        ("serial", c_uint64),
        ("offset", c_uint64),
        ("size", c_uint64),
        ("serviced", c_uint64),
        ("v0_size", c_uint64),
        ("data", c_uint64),
        ("datalen", c_uint64),
        ("target", c_uint64),
        ("targetlen", c_uint32),
        ("op", c_uint32),
        ("state", c_uint32),
        ("flags", c_uint32),
        ("src_portno", xport),
        ("transit_portno", xport),
        ("dst_portno", xport),
        ("effective_dst_portno", xport),
        ("buffer", c_uint64),
        ("bufferlen", c_uint64),
        ("task", c_uint64),
        ("priv", c_uint64),
        ("timestamp", c_uint64),
        ("elapsed", c_uint64),
        ("error", c_uint32),
        ("padding", c_uint32),
    ]


class xseg_transfer_spec(Structure):
    """What a transfer does, and where."""

    _fields_ = [
        ("op", c_uint32),
        ("flags", c_uint32),
        ("v0_size", c_uint64),
        ("offset", c_uint64),
        ("dst", xport),
        ("targetlen", c_uint32),
        ("target", c_char_p),
        ("data", c_void_p),
        ("datalen", c_uint64),
    ]


def _load() -> ctypes.CDLL:
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), SONAME)
    chosen = os.environ.get("ARCHIPELAGO_LIBXSEG")
    if chosen:
        return ctypes.CDLL(chosen)
    return ctypes.CDLL(beside if os.path.exists(beside) else SONAME)


_library = _load()


def _function(name: str, result: Any, arguments: Sequence[Any]) -> Any:
    function = getattr(_library, name)
    function.restype = result
    function.argtypes = list(arguments)
    return function


_seg = c_void_p
_port_p = POINTER(xseg_port)
_req_p = POINTER(xseg_request)
_wakeup = CFUNCTYPE(None, c_uint32)

xseg_initialize = _function("xseg_initialize", c_int, [])
xseg_finalize = _function("xseg_finalize", None, [])
xseg_last_error = _function("xseg_last_error", c_char_p, [])
xseg_join = _function("xseg_join", _seg, [c_char_p, c_char_p, c_char_p, c_void_p])
xseg_leave = _function("xseg_leave", None, [_seg])
xseg_check_node = _function("xseg_check_node", c_int, [_seg])
xseg_bind_dynport = _function("xseg_bind_dynport", _port_p, [_seg])
xseg_bind_port = _function("xseg_bind_port", _port_p, [_seg, xport, c_void_p])
xseg_leave_dynport = _function("xseg_leave_dynport", c_int, [_seg, _port_p])
xseg_leave_port = _function("xseg_leave_port", c_int, [_seg, _port_p])
xseg_init_local_signal = _function("xseg_init_local_signal", c_int, [_seg, xport])
xseg_quit_local_signal = _function("xseg_quit_local_signal", None, [_seg, xport])
xseg_get_signal_desc = _function("xseg_get_signal_desc", c_void_p, [_seg, _port_p])
xseg_prepare_wait = _function("xseg_prepare_wait", c_int, [_seg, xport])
xseg_cancel_wait = _function("xseg_cancel_wait", c_int, [_seg, xport])
xseg_wait_signal = _function("xseg_wait_signal", c_int, [_seg, c_void_p, c_uint32])
xseg_signal = _function("xseg_signal", c_int, [_seg, xport])
xseg_get_request = _function("xseg_get_request", _req_p, [_seg, xport, xport, c_uint32])
xseg_put_request = _function("xseg_put_request", c_int, [_seg, _req_p, xport])
xseg_prep_request = _function("xseg_prep_request", c_int, [_seg, _req_p, c_uint32, c_uint64])
xseg_resize_request = _function("xseg_resize_request", c_int, [_seg, _req_p, c_uint32, c_uint64])
# Addresses rather than c_char_p, which ctypes would copy up to the first NUL.
xseg_get_target = _function("xseg_get_target", c_void_p, [_seg, _req_p])
xseg_get_data = _function("xseg_get_data", c_void_p, [_seg, _req_p])
xseg_set_req_data = _function("xseg_set_req_data", c_int, [_seg, _req_p, c_void_p])
xseg_get_req_data = _function("xseg_get_req_data", c_int, [_seg, _req_p, POINTER(c_void_p)])
xseg_submit = _function("xseg_submit", xport, [_seg, _req_p, xport, c_uint32])
xseg_receive = _function("xseg_receive", _req_p, [_seg, xport, c_uint32])
xseg_transfer_start = _function(
    "xseg_transfer_start", c_void_p, [_seg, xport, POINTER(xseg_transfer_spec)]
)
xseg_transfer_step = _function("xseg_transfer_step", c_int, [_seg, c_void_p])
xseg_transfer_wait = _function("xseg_transfer_wait", c_int, [_seg, c_void_p, c_uint64])
xseg_transfer_run = _function(
    "xseg_transfer_run",
    c_int,
    [_seg, xport, POINTER(xseg_transfer_spec), c_uint64, POINTER(c_void_p)],
)
xseg_transfer_abandon = _function("xseg_transfer_abandon", None, [_seg, c_void_p])
xseg_transfer_end = _function("xseg_transfer_end", c_int, [_seg, c_void_p])
