"""What requests say: operations, flags, and the structures that travel as their data.

The numbers and layouts of ``xseg/protocol.h``, which the tests compare with these. Names in
structures do not end with a NUL: the length beside them counts, and what lies behind is not
defined. ``segs`` of the two structures that end with an array is declared as a pointer, as old
programs expect: its *address* is that of the array's first element.
"""

from ctypes import POINTER, Structure, c_char, c_uint32, c_uint64

XSEG_MAX_TARGETLEN = 256

X_PING = 0
X_READ = 1
X_WRITE = 2
X_SYNC = 3
X_TRUNCATE = 4
X_DELETE = 5
X_ACQUIRE = 6
X_RELEASE = 7
X_COPY = 8
X_CLONE = 9
X_COMMIT = 10
X_INFO = 11
X_MAPR = 12
X_MAPW = 13
X_OPEN = 14
X_CLOSE = 15
X_SNAPSHOT = 16
X_HASH = 17
X_CREATE = 18
X_RENAME = 19
X_FLUSH = 20
X_UPDATE = 21
# Not the original's.
X_DISCARD = 64
X_ZEROES = 65
X_LIST = 66
X_STATUS = 67
X_LOCKINFO = 68

XF_NOSYNC = 1 << 0
XF_FLUSH = 1 << 1
XF_FUA = 1 << 2
XF_FORCE = 1 << 3
XF_ASSUMEV0 = 1 << 4
# Not the original's.
XF_SHRINK = 1 << 11
XF_PEEK = 1 << 13

XS_SERVED = 1
XS_FAILED = 2

XF_MAPFLAG_READONLY = 1
XF_MAPFLAG_ZERO = 2


class xseg_reply_info(Structure):
    """INFO: bytes of an object or a volume."""

    _fields_ = [("size", c_uint64)]


class xseg_reply_map_scatterlist(Structure):
    """MAPR, MAPW: a part of one object."""

    _fields_ = [
        ("target", c_char * XSEG_MAX_TARGETLEN),
        ("flags", c_uint32),
        ("targetlen", c_uint32),
        ("offset", c_uint64),
        ("size", c_uint64),
    ]


class xseg_reply_map(Structure):
    """MAPR, MAPW: the objects of a range."""

    _fields_ = [("cnt", c_uint32), ("segs", POINTER(xseg_reply_map_scatterlist))]


class xseg_create_map_scatterlist(Structure):
    """CREATE: one object."""

    _fields_ = [
        ("target", c_char * XSEG_MAX_TARGETLEN),
        ("targetlen", c_uint32),
        ("flags", c_uint32),
    ]


class xseg_request_create(Structure):
    """CREATE; it is packed before it is sent (``archipelago.common.Request.set_data``)."""

    _fields_ = [
        ("cnt", c_uint32),
        ("blocksize", c_uint32),
        ("create_flags", c_uint32),
        ("segs", POINTER(xseg_create_map_scatterlist)),
    ]


class xseg_request_clone(Structure):
    """CLONE: the parent of the request's target."""

    _fields_ = [
        ("target", c_char * XSEG_MAX_TARGETLEN),
        ("targetlen", c_uint32),
        ("size", c_uint64),
    ]


class _Name(Structure):
    _fields_ = [("target", c_char * XSEG_MAX_TARGETLEN), ("targetlen", c_uint32)]


class xseg_request_copy(_Name):
    """COPY: the source of the request's target."""


class xseg_request_snapshot(_Name):
    """SNAPSHOT: the snapshot of the request's target."""


class xseg_request_rename(_Name):
    """RENAME: the new name of the request's target."""


class xseg_reply_hash(_Name):
    """HASH: the name of what was made."""
