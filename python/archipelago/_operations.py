"""The operations of a node, each told once, for programs that wait and for those with a loop.

An operation is a generator: it yields whenever it has to wait for an answer, and returns its
result. `archipelago.volume` waits in place, `archipelago.aio` in its event loop.
"""

import ctypes
import json
from ctypes import addressof, byref, c_char, c_char_p, c_void_p, string_at
from typing import Any, Dict, Generator, List, NamedTuple, Optional, TypeVar, Union

from xseg import xprotocol as xp
from xseg import xseg_api

from ._request import Name, Request, _named
from ._segment import LOOK_EVERY_US, Segment, Xseg_ctx, last_error, to_bytes
from .errors import Error, OperationError

T = TypeVar("T")
Steps = Generator[None, None, T]
Buffer = Union[bytes, bytearray, memoryview]

UNKNOWN = 0xFFFFFFFFFFFFFFFF
# Bytes of a volume that block status asks about at once.
STATUS_WINDOW = 1 << 30
LIST_PAGE = 256


class Extent(NamedTuple):
    """A stretch of a volume, and whether anything was ever written there."""

    offset: int
    length: int
    hole: bool


class Entry(NamedTuple):
    """A map in storage."""

    name: str
    header_object: str
    version: int
    readonly: bool
    deleted: bool
    size: Optional[int]


class Ports(NamedTuple):
    """Where the roles of a node serve."""

    vlmcd: int
    mapperd: int
    blockerm: int


def unescape(text: str) -> str:
    """A name as it was before it was escaped for display."""
    raw = text.encode("ascii").decode("unicode_escape").encode("latin-1")
    return raw.decode("utf-8", "surrogateescape")


def shown(name: Name) -> str:
    """A name for a sentence."""
    return repr(to_bytes(name).decode("utf-8", "backslashreplace"))


class Operations:
    """A context at a node, and what can be asked there."""

    def __init__(self, segment: Segment, ports: Ports) -> None:
        self.ports = ports
        self.ctx = Xseg_ctx(segment)

    def collect(self) -> None:
        """Takes in what was answered."""
        while True:
            received = self.ctx.receive()
            if not received:
                return
            self.ctx.owner_of(received)

    def call(self, request: Request, what: str, serviced: bool = False) -> Steps[bytes]:
        """Sends a request, and returns the data of its answer; with ``serviced``, as much of it
        as the answer says was serviced."""
        try:
            request.submit()
            self.collect()
            while request.is_under_way():
                yield
                self.collect()
            if not request.success():
                raise OperationError(request.get_error(), what)
            length = request.get_datalen()
            if serviced:
                length = min(length, request.get_serviced())
            return string_at(request.get_data(), length) if length else b""
        finally:
            request.put()

    def _simple(self, port: int, op: int, name: Name, what: str, **more: Any) -> Steps[bytes]:
        request = Request(self.ctx, port, name, op=op, **more)
        return (yield from self.call(request, f"{what} of {shown(name)}"))

    # ---- whole volumes ----

    def create(self, name: Name, size: int, parent: Name = b"", flags: int = 0) -> Steps[None]:
        data = _named(xp.xseg_request_clone, parent, size=size)
        yield from self._simple(
            self.ports.mapperd, xp.X_CLONE, name, "creation", data=data, flags=flags
        )

    def snapshot(self, name: Name, snapshot: Name) -> Steps[None]:
        data = _named(xp.xseg_request_snapshot, snapshot)
        what = f"snapshot {shown(snapshot)}"
        yield from self._simple(self.ports.vlmcd, xp.X_SNAPSHOT, name, what, data=data)

    def remove(self, name: Name) -> Steps[None]:
        yield from self._simple(self.ports.vlmcd, xp.X_DELETE, name, "removal")

    def rename(self, name: Name, new: Name) -> Steps[None]:
        data = _named(xp.xseg_request_rename, new)
        what = f"renaming to {shown(new)}"
        yield from self._simple(self.ports.vlmcd, xp.X_RENAME, name, what, data=data)

    def resize(self, name: Name, size: int, shrink: bool) -> Steps[None]:
        flags = xp.XF_SHRINK if shrink else 0
        yield from self._simple(
            self.ports.vlmcd, xp.X_TRUNCATE, name, "resizing", offset=size, flags=flags
        )

    def acquire(self, name: Name) -> Steps[None]:
        yield from self._simple(self.ports.vlmcd, xp.X_OPEN, name, "opening")

    def release(self, name: Name) -> Steps[None]:
        yield from self._simple(self.ports.vlmcd, xp.X_CLOSE, name, "closing")

    def info(self, name: Name) -> Steps[int]:
        data = yield from self._simple(self.ports.mapperd, xp.X_INFO, name, "info", datalen=8)
        return int.from_bytes(data[:8], "little")

    def status(self, name: Name) -> Steps[Dict[str, Any]]:
        request = Request(
            self.ctx, self.ports.mapperd, name, op=xp.X_STATUS, datalen=64 << 10
        )
        data = yield from self.call(request, f"status of {shown(name)}", serviced=True)
        return dict(json.loads(data))

    def list_page(self, cursor: int, found: List[Entry]) -> Steps[int]:
        """Appends one page of what storage has, and returns the cursor of the next."""
        request = Request(
            self.ctx,
            self.ports.mapperd,
            b"",
            op=xp.X_LIST,
            offset=cursor,
            size=LIST_PAGE,
            datalen=64 << 10,
        )
        text = yield from self.call(request, "listing of the storage", serviced=True)
        lines = [json.loads(line) for line in text.split(b"\n") if line]
        for line in lines[1:]:
            found.append(
                Entry(
                    unescape(line["name"]),
                    unescape(line["object"]),
                    line["version"],
                    line["read_only"],
                    line["deleted"],
                    line["size"],
                )
            )
        return int(lines[0]["next"])

    def list(self) -> Steps[List[Entry]]:
        """Everything in storage, deleted volumes among it."""
        found: List[Entry] = []
        cursor = yield from self.list_page(0, found)
        while cursor:
            cursor = yield from self.list_page(cursor, found)
        return sorted(set(found), key=lambda entry: entry[:4])

    # ---- data ----

    def transfer(self, plan: "Transfer") -> Steps[None]:
        """Reads or writes memory, which must stay where it is until this is over."""
        ctx = self.ctx
        transfer = xseg_api.xseg_transfer_start(ctx.ctx, ctx.portno, plan.reference)
        if not transfer:
            raise Error(f"Cannot start a transfer: {last_error()}")
        yield from self._follow(plan, transfer)

    def _follow(self, plan: "Transfer", transfer: int) -> Steps[None]:
        ctx = self.ctx
        errno = 0
        try:
            while xseg_api.xseg_transfer_step(ctx.ctx, transfer) == 0:
                yield
        finally:
            errno = xseg_api.xseg_transfer_end(ctx.ctx, transfer)
        plan.check(errno)

    def transfer_in_the_library(self, plan: "Transfer") -> Optional[Steps[None]]:
        """The same at one go, asleep in the library. What is not over after a while is returned
        to be followed, so that signals are seen."""
        ctx = self.ctx
        errno = xseg_api.xseg_transfer_run(
            ctx.ctx, ctx.portno, plan.reference, LOOK_EVERY_US, plan.under_way_reference
        )
        if errno == 0:
            return None
        if errno < 0:
            transfer = plan.under_way.value
            if not transfer:
                raise Error(f"Cannot start a transfer: {last_error()}")
            return self._follow(plan, transfer)
        plan.check(errno)
        return None

    def flush(self, name: Name) -> Steps[None]:
        yield from self._simple(self.ports.vlmcd, xp.X_FLUSH, name, "flush")

    def discard(self, name: Name, offset: int, length: int, zeroes: bool) -> Steps[None]:
        op, what = (xp.X_ZEROES, "zeroing") if zeroes else (xp.X_DISCARD, "discard")
        yield from self._simple(
            self.ports.vlmcd, op, name, what, offset=offset, size=length
        )

    def block_status(self, name: Name, offset: int, length: int) -> Steps[List[Extent]]:
        """The stretches of one window."""
        data = yield from self._simple(
            self.ports.mapperd,
            xp.X_MAPR,
            name,
            "block status",
            offset=offset,
            size=length,
            flags=xp.XF_PEEK,
        )
        count = int.from_bytes(data[:4], "little")
        segments = (xp.xseg_reply_map_scatterlist * count).from_buffer_copy(data, 8)
        found: List[Extent] = []
        for segment in segments:
            hole = bool(segment.flags & xp.XF_MAPFLAG_ZERO)
            if found and found[-1].hole == hole:
                last = found.pop()
                found.append(Extent(last.offset, last.length + segment.size, hole))
            else:
                found.append(Extent(offset, segment.size, hole))
            offset += segment.size
        return found


class Transfer:
    """What a volume's transfers have in common, and the one that is planned: it is made once,
    because a structure costs more than the transfer of a page."""

    def __init__(self, port: int, name: bytes) -> None:
        self._name = name
        self.spec = xseg_api.xseg_transfer_spec(
            v0_size=UNKNOWN, dst=port, targetlen=len(name), target=name
        )
        self.reference = byref(self.spec)
        self.under_way = c_void_p()
        self.under_way_reference = byref(self.under_way)

    def plan(self, op: int, offset: int, address: int, length: int, flags: int) -> "Transfer":
        """The next one."""
        if offset < 0:
            raise ValueError("the offset is negative")
        spec = self.spec
        spec.op = op
        spec.flags = flags
        spec.offset = offset
        spec.data = address
        spec.datalen = length
        return self

    def check(self, errno: int) -> None:
        """Raises what the end of a transfer says."""
        if errno != 0:
            spec = self.spec
            what = "read" if spec.op == xp.X_READ else "write"
            text = f"{what} of {spec.datalen} bytes of {shown(self._name)} at {spec.offset}"
            raise OperationError(errno, text)


def writable(buffer: Buffer) -> "tuple[Any, int, int]":
    """What keeps a buffer where it is while it lives, its address, and its bytes."""
    view = memoryview(buffer)
    if view.readonly:
        raise ValueError("the buffer cannot be written")
    if not view.c_contiguous:
        raise ValueError("the buffer is not contiguous")
    length = view.nbytes
    if length == 0:
        return view, 0, 0
    kept = c_char.from_buffer(view if view.format == "B" else view.cast("B"))
    return kept, addressof(kept), length


def readable(buffer: Buffer) -> "tuple[Any, int, int]":
    """The same for a buffer that is only read. ctypes gives the address of bytes and of what can
    be written; others are copied once."""
    if not isinstance(buffer, bytes):
        view = memoryview(buffer)
        if not view.readonly and view.c_contiguous:
            return writable(view)
        buffer = view.tobytes()
    return buffer, address_of(buffer), len(buffer)


def address_of(data: bytes) -> int:
    """Where bytes lie."""
    return c_void_p.from_buffer(c_char_p(data)).value or 0


_make_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_make_bytes.restype = ctypes.py_object
_make_bytes.argtypes = [c_void_p, ctypes.c_ssize_t]


def new_bytes(length: int) -> "tuple[bytes, int]":
    """Bytes that nobody has seen yet, to be filled, and their address."""
    made: bytes = _make_bytes(None, length)
    return made, address_of(made)

