"""Nodes and volumes under asyncio: `archipelago.volume` with ``await``.

    async with Node("archipelago.conf") as node:
        async with await node.open("webserver") as volume:
            await volume.write(b"hello", 4096)
            a, b = await asyncio.gather(volume.read(512, 0), volume.read(512, 4096))

Any number of operations of one node may be under way in its event loop.
"""

import asyncio
import os
from types import TracebackType
from typing import Any, Dict, List, Optional, Set, Type

from xseg import xprotocol as xp

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
from ._segment import Segment, to_bytes
from .errors import Error
from .volume import from_config

__all__ = ["Node", "Volume"]

# How often a waiter looks whether the node is still there, seconds.
_LOOK_EVERY = 1.0


class Node:
    """A place at a running node, for the event loop that it is used in first."""

    def __init__(
        self,
        config: Optional[str] = None,
        *,
        segment: Optional[Segment] = None,
        ports: Optional[Ports] = None,
    ) -> None:
        if segment is None or ports is None:
            segment, ports = from_config(config)
        self._operations: Optional[Operations] = Operations(segment, ports)
        self._waiters: "Set[asyncio.Future[None]]" = set()
        self._running = 0

    async def __aenter__(self) -> "Node":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the node."""
        if self._operations is not None:
            if self._running:
                self._stop_listening()
            self._operations.ctx.shutdown()
        self._operations = None
        self._wake_all()

    @property
    def operations(self) -> Operations:
        """What can be asked, for this package."""
        if self._operations is None:
            raise Error("The node was closed")
        return self._operations

    # ---- waiting ----

    def _listen(self) -> None:
        ctx = self.operations.ctx
        ctx.prepare_wait()
        asyncio.get_running_loop().add_reader(ctx.fileno(), self._rang)

    def _stop_listening(self) -> None:
        ctx = self.operations.ctx
        asyncio.get_running_loop().remove_reader(ctx.fileno())
        ctx.cancel_wait()

    def _rang(self) -> None:
        try:
            os.read(self.operations.ctx.fileno(), 8)
        except BlockingIOError:
            pass
        self._wake_all()

    def _wake_all(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        await asyncio.wait([waiter], timeout=_LOOK_EVERY)
        self._waiters.discard(waiter)
        self.operations.ctx.check_node()

    async def run(self, steps: Steps[T]) -> T:
        """Runs an operation to its end, for this package."""
        self._running += 1
        if self._running == 1:
            self._listen()
        try:
            next(steps)
            # It may have taken in what others wait for, without a ring.
            self._wake_all()
            while True:
                await self._wait()
                next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
            self._wake_all()
            self._running -= 1
            if self._running == 0 and self._operations is not None:
                self._stop_listening()

    # ---- whole volumes ----

    async def create(self, name: Name, size: int) -> None:
        """Makes a blank volume; it takes no room yet."""
        await self.run(self.operations.create(name, size))

    async def clone(self, snapshot: Name, name: Name, size: int = 0) -> None:
        """Makes a volume from a snapshot."""
        await self.run(self.operations.create(name, size, snapshot))

    async def snapshot(self, name: Name, snapshot: Name) -> None:
        """Freezes a read-only copy of a volume."""
        await self.run(self.operations.snapshot(name, snapshot))

    async def remove(self, name: Name) -> None:
        """Removes a volume or snapshot."""
        await self.run(self.operations.remove(name))

    async def rename(self, name: Name, new: Name) -> None:
        """Renames a volume."""
        await self.run(self.operations.rename(name, new))

    async def resize(self, name: Name, size: int, *, shrink: bool = False) -> None:
        """Changes a volume's size."""
        await self.run(self.operations.resize(name, size, shrink))

    async def size(self, name: Name) -> int:
        """Bytes of a volume."""
        return await self.run(self.operations.info(name))

    async def status(self, name: Name) -> Dict[str, Any]:
        """What is known of a volume."""
        return await self.run(self.operations.status(name))

    async def release(self, name: Name) -> None:
        """Gives a volume back, so that another node may take it."""
        await self.run(self.operations.release(name))

    async def list(self, *, deleted: bool = False) -> List[Entry]:
        """Volumes and snapshots in storage, by name."""
        found = await self.run(self.operations.list())
        return [entry for entry in found if deleted or not entry.deleted]

    async def open(self, name: Name) -> "Volume":
        """A handle on an existing volume."""
        return Volume(self, name, await self.size(name))


class Volume:
    """A handle on a volume; `Node.open` makes it."""

    def __init__(self, node: Node, name: Name, size: int) -> None:
        self.node = node
        self.name = name
        self.size = size
        self._target = to_bytes(name)
        self._dirty = False

    async def __aenter__(self) -> "Volume":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Flushes what was written."""
        if self._dirty:
            await self.flush()

    async def _transfer(self, op: int, offset: int, address: int, length: int, flags: int) -> None:
        operations = self.node.operations
        # One for each, for many may be under way.
        plan = Transfer(operations.ports.vlmcd, self._target)
        plan.plan(op, offset, address, length, flags)
        await self.node.run(operations.transfer(plan))

    async def read(self, length: int, offset: int = 0) -> bytes:
        """Exactly ``length`` bytes."""
        if length < 0:
            raise ValueError("the length is negative")
        data, address = new_bytes(length)
        await self._transfer(xp.X_READ, offset, address, length, 0)
        return data

    async def readinto(self, buffer: Buffer, offset: int = 0) -> int:
        """Fills a writable buffer; its bytes are copied once, from the segment."""
        kept, address, length = writable(buffer)
        await self._transfer(xp.X_READ, offset, address, length, 0)
        del kept
        return length

    async def write(self, data: Buffer, offset: int = 0, *, durable: bool = False) -> int:
        """Writes all of ``data``; it is durable after `flush`, or with ``durable`` at once."""
        kept, address, length = readable(data)
        self._dirty = True
        await self._transfer(xp.X_WRITE, offset, address, length, xp.XF_FUA if durable else 0)
        del kept
        return length

    async def flush(self) -> None:
        """Makes everything that was written durable."""
        await self.node.run(self.node.operations.flush(self.name))
        self._dirty = False

    async def block_status(self, offset: int = 0, length: Optional[int] = None) -> List[Extent]:
        """Where data is and where holes are; neighbours may be alike where windows meet."""
        end = self.size if length is None else min(self.size, offset + length)
        found: List[Extent] = []
        while offset < end:
            window = min(STATUS_WINDOW, end - offset)
            found += await self.node.run(
                self.node.operations.block_status(self.name, offset, window)
            )
            offset += window
        return found
