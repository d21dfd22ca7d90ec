"""A request, and a builder for each operation.

The first three arguments of every builder are the context, the port that serves it, and its
target. Names are text or bytes, data is bytes (text is taken as UTF-8), or a ctypes structure.
"""

import ctypes
import struct
from ctypes import POINTER, addressof, c_void_p, cast, memmove, sizeof, string_at
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Type, Union

from xseg import xprotocol as xp
from xseg import xseg_api

from ._segment import Xseg_ctx, last_error, to_bytes
from .errors import Error

Name = Union[str, bytes]

_CREATE_HEAD = struct.Struct("=LLL")
_CREATE_ITEM = struct.Struct("=256sLL")


def _named(kind: Any, name: Name, **fields: Any) -> Any:
    """A structure with a name in it."""
    raw = to_bytes(name)
    if len(raw) > xp.XSEG_MAX_TARGETLEN:
        raise Error(f"Name is longer than {xp.XSEG_MAX_TARGETLEN} bytes")
    made = kind(targetlen=len(raw), **fields)
    # By address: ctypes lets no array of characters be set to its full length.
    memmove(addressof(made) + kind.target.offset, raw, len(raw))
    return made


def pack_create(create: Any) -> bytes:
    """`xseg_request_create` as it travels."""
    items = [_CREATE_HEAD.pack(create.cnt, create.blocksize, create.create_flags)]
    size = sizeof(xp.xseg_create_map_scatterlist)
    for index in range(create.cnt):
        at = addressof(create.segs[0]) + index * size
        item = xp.xseg_create_map_scatterlist.from_address(at)
        raw = string_at(at, xp.XSEG_MAX_TARGETLEN)
        items.append(_CREATE_ITEM.pack(raw, item.targetlen, item.flags))
    return b"".join(items)


def _bytes_of(data: Any) -> bytes:
    if isinstance(data, xp.xseg_request_create):
        return pack_create(data)
    if isinstance(data, (ctypes.Structure, ctypes.Array)):
        return string_at(addressof(data), sizeof(data))
    return to_bytes(data)


class Request:
    """A request; see the builders below."""

    def __init__(
        self,
        xseg_ctx: Xseg_ctx,
        dst_portno: int,
        target: Name,
        datalen: int = 0,
        size: int = 0,
        op: Optional[int] = None,
        data: Any = None,
        flags: int = 0,
        offset: int = 0,
        v0_size: int = -1,
    ) -> None:
        self.req: Any = None
        self.xseg_ctx = xseg_ctx
        self._under_way = False
        self._answered = False
        if not target and op not in (xp.X_LIST, xp.X_STATUS):
            raise Error("Cannot make a request without a target")
        raw = None if data is None else _bytes_of(data)
        self._get(dst_portno)
        try:
            self._prepare(to_bytes(target), max(datalen, len(raw or b"")))
            if raw is not None:
                self._fill(raw)
        except BaseException:
            self.put()
            raise
        self.set_op(op if op is not None else xp.X_PING)
        self.set_flags(flags)
        self.set_offset(offset)
        self.set_size(size)
        self.set_v0_size(v0_size)

    def _get(self, dst_portno: int) -> None:
        ctx = self.xseg_ctx
        got = xseg_api.xseg_get_request(ctx.ctx, ctx.portno, dst_portno, xseg_api.X_ALLOC)
        if not got:
            raise Error(f"Cannot get request: {last_error()}")
        self.req = got
        ctx._requests[addressof(got.contents)] = self

    def _prepare(self, target: bytes, datalen: int) -> None:
        ctx = self.xseg_ctx.ctx
        if xseg_api.xseg_prep_request(ctx, self.req, len(target), datalen) < 0:
            raise Error(f"Cannot prepare request: {last_error()}")
        memmove(xseg_api.xseg_get_target(ctx, self.req), target, len(target))

    def _fill(self, raw: bytes) -> None:
        if raw:
            memmove(xseg_api.xseg_get_data(self.xseg_ctx.ctx, self.req), raw, len(raw))

    def __enter__(self) -> "Request":
        if not self.req:
            raise Error("No request")
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.put()

    # ---- fields ----

    def _living(self) -> Any:
        """The request as the library knows it, which forgets it when its context leaves."""
        if not self.req or not self.xseg_ctx.ctx:
            raise Error("No request")
        return self.req

    def _field(self, name: str) -> int:
        return int(getattr(self._living().contents, name))

    def _set(self, name: str, value: int) -> None:
        setattr(self._living().contents, name, value)

    def set_op(self, op: int) -> None:
        self._set("op", op)

    def get_op(self) -> int:
        return self._field("op")

    def set_offset(self, offset: int) -> None:
        self._set("offset", offset)

    def get_offset(self) -> int:
        return self._field("offset")

    def set_size(self, size: int) -> None:
        self._set("size", size)

    def get_size(self) -> int:
        return self._field("size")

    def set_v0_size(self, size: int) -> None:
        self._set("v0_size", size)

    def get_v0_size(self) -> int:
        return self._field("v0_size")

    def set_serviced(self, serviced: int) -> None:
        self._set("serviced", serviced)

    def get_serviced(self) -> int:
        return self._field("serviced")

    def set_flags(self, flags: int) -> None:
        self._set("flags", flags)

    def get_flags(self) -> int:
        return self._field("flags")

    def set_datalen(self, datalen: int) -> None:
        self._set("datalen", datalen)

    def get_datalen(self) -> int:
        return self._field("datalen")

    def get_error(self) -> int:
        """Why it failed (a Linux error number), 0 when it did not. Not the original's."""
        return self._field("error")

    def get_target(self) -> bytes:
        """The target's bytes."""
        length = self._field("targetlen")
        return string_at(xseg_api.xseg_get_target(self.xseg_ctx.ctx, self.req), length)

    def set_target(self, target: Name) -> None:
        """Another target, no longer than the one it was made with."""
        raw = to_bytes(target)
        if len(raw) > self._field("targetlen"):
            raise Error("Cannot set a target longer than the request was made for")
        memmove(xseg_api.xseg_get_target(self.xseg_ctx.ctx, self.req), raw, len(raw))
        self._set("targetlen", len(raw))

    def get_data(self, _type: Any = None) -> Any:
        """A pointer to the data, as one to ``_type`` or to anything."""
        data = xseg_api.xseg_get_data(self.xseg_ctx.ctx, self._living())
        return cast(data, POINTER(_type) if _type is not None else c_void_p)

    def set_data(self, data: Any) -> None:
        """Copies data in; there must be room for it."""
        raw = _bytes_of(data)
        if len(raw) > self._field("bufferlen"):
            raise Error("Cannot set data that is longer than the request was made for")
        self._fill(raw)

    # ---- life ----

    def submit(self) -> None:
        """Sends it."""
        ctx = self.xseg_ctx
        port = xseg_api.xseg_submit(ctx.ctx, self._living(), ctx.portno, xseg_api.X_ALLOC)
        if port == xseg_api.NoPort:
            raise Error(f"Cannot submit request: {last_error()}")
        self._under_way, self._answered = True, False

    def wait(self) -> None:
        """Waits for its answer."""
        self._living()
        if self._under_way or self._answered:
            self.xseg_ctx.wait_requests([self])

    def is_under_way(self) -> bool:
        """Whether it was sent and not answered yet."""
        return self._under_way

    def answered(self) -> None:
        """Its answer came in (for contexts)."""
        self._under_way, self._answered = False, True

    def take_answer(self) -> bool:
        """Whether an answer came in that nobody was told of (for contexts)."""
        taken, self._answered = self._answered, False
        return taken

    def success(self) -> bool:
        """Whether it was served."""
        state = self._field("state")
        if not state & (xp.XS_SERVED | xp.XS_FAILED):
            raise Error("Request is neither served nor failed: it has no answer")
        return bool(state & xp.XS_SERVED) and not state & xp.XS_FAILED

    def put(self, force: bool = False) -> bool:
        """Frees it. False: it is under way, or was freed."""
        if not self.req:
            return False
        ctx = self.xseg_ctx
        if ctx.ctx:
            address = addressof(self.req.contents)
            if xseg_api.xseg_put_request(ctx.ctx, self.req, ctx.portno) < 0:
                return False
            if ctx._requests.get(address) is self:
                del ctx._requests[address]
        self.req = None
        return True

    def __del__(self) -> None:
        # One that is under way is freed by its context when the answer comes.
        if getattr(self, "req", None):
            self.put()

    # ---- builders ----

    @classmethod
    def get_write_request(
        cls,
        xseg: Xseg_ctx,
        dst: int,
        target: Name,
        data: Any = None,
        offset: int = 0,
        datalen: int = 0,
        flags: int = 0,
    ) -> "Request":
        """Writes data at an offset."""
        raw = b"" if data is None else _bytes_of(data)
        return cls(
            xseg,
            dst,
            target,
            op=xp.X_WRITE,
            data=raw,
            offset=offset,
            size=len(raw),
            datalen=datalen,
            flags=flags,
        )

    @classmethod
    def get_read_request(
        cls,
        xseg: Xseg_ctx,
        dst: int,
        target: Name,
        size: int = 0,
        offset: int = 0,
        datalen: int = 0,
    ) -> "Request":
        """Reads ``size`` bytes at an offset."""
        return cls(
            xseg,
            dst,
            target,
            op=xp.X_READ,
            offset=offset,
            size=size,
            datalen=datalen or size,
        )

    @classmethod
    def get_info_request(cls, xseg: Xseg_ctx, dst: int, target: Name) -> "Request":
        """Asks for the size: `xseg_reply_info`."""
        return cls(xseg, dst, target, op=xp.X_INFO, datalen=sizeof(xp.xseg_reply_info))

    @classmethod
    def get_copy_request(
        cls,
        xseg: Xseg_ctx,
        dst: int,
        target: Name,
        copy_target: Optional[Name] = None,
        size: int = 0,
        offset: int = 0,
    ) -> "Request":
        """Copies the object ``target`` to ``copy_target``."""
        if copy_target is None:
            raise Error("Cannot copy without a copy_target")
        data = _named(xp.xseg_request_copy, target)
        return cls(xseg, dst, copy_target, op=xp.X_COPY, data=data, size=size, offset=offset)

    @classmethod
    def get_acquire_request(
        cls, xseg: Xseg_ctx, dst: int, target: Name, wait: bool = False
    ) -> "Request":
        """Takes a lock, or waits for it."""
        flags = 0 if wait else xp.XF_NOSYNC
        return cls(xseg, dst, target, op=xp.X_ACQUIRE, flags=flags)

    @classmethod
    def get_release_request(
        cls, xseg: Xseg_ctx, dst: int, target: Name, force: bool = False
    ) -> "Request":
        """Gives a lock back, or breaks it."""
        flags = xp.XF_FORCE if force else 0
        return cls(xseg, dst, target, op=xp.X_RELEASE, flags=flags)

    @classmethod
    def get_delete_request(cls, xseg: Xseg_ctx, dst: int, target: Name) -> "Request":
        """Removes an object or a volume."""
        return cls(xseg, dst, target, op=xp.X_DELETE)

    @classmethod
    def get_update_request(cls, xseg: Xseg_ctx, dst: int, target: Name) -> "Request":
        """Brings a map to the current version."""
        return cls(xseg, dst, target, op=xp.X_UPDATE)

    @classmethod
    def get_clone_request(
        cls,
        xseg: Xseg_ctx,
        dst: int,
        target: Name,
        clone: Optional[Name] = None,
        clone_size: int = 0,
    ) -> "Request":
        """Makes the volume ``clone`` from the snapshot ``target``, or blank when that is empty."""
        if not clone:
            raise Error("Cannot clone without the clone's name")
        data = _named(xp.xseg_request_clone, target or b"", size=clone_size)
        return cls(xseg, dst, clone, op=xp.X_CLONE, data=data)

    @classmethod
    def get_open_request(cls, xseg: Xseg_ctx, dst: int, target: Name) -> "Request":
        """Takes a volume for this node."""
        return cls(xseg, dst, target, op=xp.X_OPEN)

    @classmethod
    def get_close_request(cls, xseg: Xseg_ctx, dst: int, target: Name) -> "Request":
        """Gives a volume back."""
        return cls(xseg, dst, target, op=xp.X_CLOSE)

    @classmethod
    def get_snapshot_request(
        cls, xseg: Xseg_ctx, dst: int, target: Name, snap: Optional[Name] = None
    ) -> "Request":
        """Freezes a read-only copy of the volume under the name ``snap``."""
        if not snap:
            raise Error("Cannot snapshot without the snapshot's name")
        return cls(
            xseg, dst, target, op=xp.X_SNAPSHOT, data=_named(xp.xseg_request_snapshot, snap)
        )

    @classmethod
    def get_mapr_request(
        cls, xseg: Xseg_ctx, dst: int, target: Name, offset: int = 0, size: int = 0
    ) -> "Request":
        """Asks for the objects of a range, to read: `xseg_reply_map`."""
        return cls(xseg, dst, target, op=xp.X_MAPR, offset=offset, size=size)

    @classmethod
    def get_mapw_request(
        cls, xseg: Xseg_ctx, dst: int, target: Name, offset: int = 0, size: int = 0
    ) -> "Request":
        """Asks for the objects of a range, made writable: `xseg_reply_map`."""
        return cls(xseg, dst, target, op=xp.X_MAPW, offset=offset, size=size)

    @classmethod
    def get_hash_request(
        cls, xseg: Xseg_ctx, dst: int, target: Name, size: int = 0, offset: int = 0
    ) -> "Request":
        """Hashes: `xseg_reply_hash`."""
        return cls(
            xseg,
            dst,
            target,
            op=xp.X_HASH,
            size=size,
            offset=offset,
            datalen=sizeof(xp.xseg_reply_hash),
        )

    @classmethod
    def get_rename_request(
        cls, xseg: Xseg_ctx, dst: int, target: Name, newname: Optional[Name] = None
    ) -> "Request":
        """Renames a volume."""
        if not newname:
            raise Error("Cannot rename without a new name")
        return cls(
            xseg, dst, target, op=xp.X_RENAME, data=_named(xp.xseg_request_rename, newname)
        )

    @classmethod
    def get_create_request(
        cls,
        xseg: Xseg_ctx,
        dst: int,
        target: Name,
        size: int = 0,
        mapflags: Optional[int] = None,
        objects: Optional[Sequence[Dict[str, Any]]] = None,
        blocksize: Optional[int] = None,
    ) -> "Request":
        """Makes a map of objects: dictionaries with ``name`` and ``flags``."""
        if not blocksize:
            raise Error("Cannot create a map without a blocksize")
        if objects is None:
            raise Error("Cannot create a map without objects")
        parts: List[bytes] = [_CREATE_HEAD.pack(len(objects), blocksize, mapflags or 0)]
        for item in objects:
            name = to_bytes(item["name"])
            if len(name) > xp.XSEG_MAX_TARGETLEN:
                raise Error(f"Name is longer than {xp.XSEG_MAX_TARGETLEN} bytes")
            parts.append(_CREATE_ITEM.pack(name, len(name), item.get("flags", 0)))
        return cls(xseg, dst, target, op=xp.X_CREATE, data=b"".join(parts), size=size)
