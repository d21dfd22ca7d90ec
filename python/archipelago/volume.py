"""Nodes and volumes, the pleasant way.

    from archipelago import Node

    with Node("/etc/archipelago/archipelago.conf") as node:
        node.create("webserver", 10 << 30)
        with node.open("webserver") as volume:
            volume.write(b"hello", offset=4096)
            volume.flush()
            volume.snapshot("webserver-monday")
        node.clone("webserver-monday", "testserver")

Names are text or bytes, sizes and offsets are bytes. What a peer refuses is an `OperationError`
with its ``errno``. A node is used by one thread (or gevent greenlet) at a time, others wait for
it; threads that are to work side by side take one each.
"""

import threading
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Type

from xseg import xprotocol as xp

from . import common
from ._operations import (
    STATUS_WINDOW,
    Buffer,
    Entry,
    Extent,
    Operations,
    Ports,
    Steps,
    T,
    Transfer,
    new_bytes,
    readable,
    writable,
)
from ._request import Name
from ._segment import LOOK_EVERY_US, Segment, to_bytes, waits_in_the_library
from .errors import Error

__all__ = ["Entry", "Extent", "Node", "Ports", "Volume"]


def from_config(path: Optional[str]) -> "tuple[Segment, Ports]":
    """The segment and the ports that a configuration file names."""
    from . import _config

    found, peers = _config.load(path or _config.DEFAULT_FILE)
    missing = [role for role in Ports._fields if role not in peers]
    if missing:
        raise Error(f"{found['FILE']}: there is no role {missing[0]}")
    ports = Ports(*(peers[role].portno_start for role in Ports._fields))
    return common.segment_of(found), ports


class Node:
    """A place at a running node: that of a configuration file (the default one when none is
    given), or that of a segment and ports."""

    def __init__(
        self,
        config: Optional[str] = None,
        *,
        segment: Optional[Segment] = None,
        ports: Optional[Ports] = None,
    ) -> None:
        if segment is None or ports is None:
            segment, ports = from_config(config)
        # Held by the thread that uses the node.
        self.lock = threading.RLock()
        self._operations: Optional[Operations] = Operations(segment, ports)

    def __enter__(self) -> "Node":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the node; its volumes can't be used any more."""
        with self.lock:
            if self._operations is not None:
                self._operations.ctx.shutdown()
            self._operations = None

    @property
    def operations(self) -> Operations:
        """What can be asked, for this package."""
        if self._operations is None:
            raise Error("The node was closed")
        return self._operations

    def run(self, steps: Steps[T]) -> T:
        """Runs an operation to its end, for this package."""
        with self.lock:
            ctx = self.operations.ctx
            ctx.prepare_wait()
            try:
                while True:
                    next(steps)
                    common.xseg_wait_signal_green(ctx.ctx, ctx.signal_desc, LOOK_EVERY_US)
                    ctx.check_node()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                steps.close()
                if ctx.ctx:
                    ctx.cancel_wait()

    def transfer(self, plan: Transfer) -> None:
        """Runs a transfer to its end, for this package, which holds `lock`."""
        operations = self.operations
        if not waits_in_the_library():
            self.run(operations.transfer(plan))
            return
        rest = operations.transfer_in_the_library(plan)
        if rest is not None:
            self.run(rest)

    def create(self, name: Name, size: int) -> None:
        """Makes a blank volume; it takes no room yet."""
        self.run(self.operations.create(name, size))

    def clone(self, snapshot: Name, name: Name, size: int = 0) -> None:
        """Makes a volume from a snapshot, at least as large; 0 is as large."""
        self.run(self.operations.create(name, size, snapshot))

    def snapshot(self, name: Name, snapshot: Name) -> None:
        """Freezes a read-only copy of a volume."""
        self.run(self.operations.snapshot(name, snapshot))

    def remove(self, name: Name) -> None:
        """Removes a volume or snapshot."""
        self.run(self.operations.remove(name))

    def rename(self, name: Name, new: Name) -> None:
        """Renames a volume."""
        self.run(self.operations.rename(name, new))

    def resize(self, name: Name, size: int, *, shrink: bool = False) -> None:
        """Changes a volume's size; ``shrink`` allows it to lose its end."""
        self.run(self.operations.resize(name, size, shrink))

    def size(self, name: Name) -> int:
        """Bytes of a volume."""
        return self.run(self.operations.info(name))

    def status(self, name: Name) -> Dict[str, Any]:
        """What is known of a volume: size, blocks, lock, as `vlmc status` prints it."""
        return self.run(self.operations.status(name))

    def acquire(self, name: Name) -> None:
        """Takes a volume for this node; writing does so by itself."""
        self.run(self.operations.acquire(name))

    def release(self, name: Name) -> None:
        """Gives a volume back, flushed, so that another node may take it."""
        self.run(self.operations.release(name))

    def list(self, *, deleted: bool = False) -> List[Entry]:
        """Volumes and snapshots in storage, by name."""
        found = self.run(self.operations.list())
        return [entry for entry in found if deleted or not entry.deleted]

    def open(self, name: Name) -> "Volume":
        """A handle on an existing volume."""
        return Volume(name, self)


class Volume:
    """A handle on a volume: of ``node``, or of the configuration file's (its own connection
    then, which `close` ends)."""

    def __init__(
        self, name: Name, node: Optional[Node] = None, *, config: Optional[str] = None
    ) -> None:
        self._owned = node is None
        self.node = Node(config) if node is None else node
        self.name = name
        self._plan = Transfer(self.node.operations.ports.vlmcd, to_bytes(name))
        self._dirty = False
        try:
            self._size = self.node.size(name)
        except BaseException:
            if self._owned:
                self.node.close()
            raise

    def __enter__(self) -> "Volume":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flushes what was written. The volume stays this node's; `release` gives it back."""
        try:
            if self._dirty:
                self.flush()
        finally:
            if self._owned:
                self.node.close()

    @property
    def size(self) -> int:
        """Bytes, as they were when the handle was made or `resize` was called."""
        return self._size

    def __len__(self) -> int:
        return self._size

    def _transfer(self, op: int, offset: int, address: int, length: int, flags: int) -> None:
        with self.node.lock:
            self.node.transfer(self._plan.plan(op, offset, address, length, flags))

    def read(self, length: int, offset: int = 0) -> bytes:
        """Exactly ``length`` bytes; a range past the end is an error."""
        if length < 0:
            raise ValueError("the length is negative")
        data, address = new_bytes(length)
        self._transfer(xp.X_READ, offset, address, length, 0)
        return data

    def readinto(self, buffer: Buffer, offset: int = 0) -> int:
        """Fills a writable buffer; its bytes are copied once, from the segment."""
        kept, address, length = writable(buffer)
        self._transfer(xp.X_READ, offset, address, length, 0)
        del kept
        return length

    def write(self, data: Buffer, offset: int = 0, *, durable: bool = False) -> int:
        """Writes all of ``data``; it is durable after `flush`, or with ``durable`` at once."""
        kept, address, length = readable(data)
        self._dirty = True
        self._transfer(xp.X_WRITE, offset, address, length, xp.XF_FUA if durable else 0)
        del kept
        return length

    def flush(self) -> None:
        """Makes everything that was written durable."""
        self.node.run(self.node.operations.flush(self.name))
        self._dirty = False

    def discard(self, offset: int, length: int) -> None:
        """Gives a range back to the storage: it reads as zeros afterwards, or as before."""
        self.node.run(self.node.operations.discard(self.name, offset, length, False))

    def write_zeroes(self, offset: int, length: int) -> None:
        """Makes a range read as zeros."""
        self._dirty = True
        self.node.run(self.node.operations.discard(self.name, offset, length, True))

    def snapshot(self, snapshot: Name) -> None:
        """Freezes a read-only copy under another name."""
        self.node.snapshot(self.name, snapshot)

    def clone(self, snapshot: Name, name: Name) -> "Volume":
        """Freezes a copy as ``snapshot``, and makes the volume ``name`` from it."""
        self.node.snapshot(self.name, snapshot)
        self.node.clone(snapshot, name)
        return Volume(name, self.node)

    def resize(self, size: int, *, shrink: bool = False) -> None:
        """Changes the size; ``shrink`` allows the volume to lose its end."""
        self.node.resize(self.name, size, shrink=shrink)
        self._size = size

    def release(self) -> None:
        """Gives the volume back, flushed, so that another node may take it."""
        self.node.release(self.name)
        self._dirty = False

    def block_status(self, offset: int = 0, length: Optional[int] = None) -> Iterator[Extent]:
        """Where data is and where holes are, in order."""
        end = self._size if length is None else min(self._size, offset + length)
        held: Optional[Extent] = None
        while offset < end:
            window = min(STATUS_WINDOW, end - offset)
            operation = self.node.operations.block_status(self.name, offset, window)
            for extent in self.node.run(operation):
                if held is not None and held.hole == extent.hole:
                    held = Extent(held.offset, held.length + extent.length, held.hole)
                    continue
                if held is not None:
                    yield held
                held = extent
            offset += window
        if held is not None:
            yield held
