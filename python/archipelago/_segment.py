"""The segment, a context (one bound port), and waiting.

A context is used by one thread, greenlet or task at a time.
"""

import os
import select
import subprocess
import weakref
from ctypes import POINTER, addressof, c_uint32, cast
from types import BuiltinFunctionType, TracebackType
from typing import TYPE_CHECKING, Any, Iterable, List, Optional, Type

from xseg import xseg_api
from xseg.xseg_api import posixfd_signal_desc

from . import common
from .errors import Error

if TYPE_CHECKING:
    from ._request import Request

# How long one wait may take before the context looks whether the node is still there,
# microseconds.
LOOK_EVERY_US = 1_000_000


def to_bytes(name: Any) -> bytes:
    """A name as it travels: text is UTF-8."""
    if isinstance(name, str):
        return name.encode("utf-8", "surrogateescape")
    return bytes(name)


def last_error() -> str:
    """Why the last call of the library failed."""
    return (xseg_api.xseg_last_error() or b"").decode("utf-8", "replace")


class Segment:
    """A segment: what it is called, and how large it is."""

    def __init__(
        self, type: str, name: str, dynports: int, ports: int, size: int, align: int = 12
    ) -> None:
        xseg_api.xseg_initialize()
        if type not in ("posix",):
            raise Error("Segment type not valid")
        if int(align) != 12:
            raise Error("Wrong alignemt")
        if int(dynports) >= int(ports):
            raise Error("Dynports >= max ports")
        self.type = type
        self.name = name
        self.dynports = int(dynports)
        self.ports = int(ports)
        self.size = int(size)
        self.align = int(align)
        # Where its holder listens, when that is not where everybody looks.
        self.run_dir: Optional[str] = None

    def get_spec(self) -> str:
        """TYPE:NAME:DYNPORTS:PORTS:SIZE:ALIGN"""
        numbers = [self.dynports, self.ports, self.size, self.align]
        return ":".join([self.type, self.name] + [str(number) for number in numbers])

    def _tool(self, word: str) -> "subprocess.CompletedProcess[str]":
        command = [os.path.join(common.BIN_DIR, "xseg"), self.get_spec(), word]
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=common.tool_env(self.run_dir),
            check=False,
        )

    def create(self) -> None:
        """Makes the segment: a small process holds it until `destroy`."""
        done = self._tool("create")
        if done.returncode != 0:
            raise Error(f"Cannot create segment '{self.name}': {done.stderr.strip()}")

    def destroy(self) -> None:
        """Ends the segment; one that is not there is as good."""
        self._tool("destroy")

    def join(self) -> int:
        """A handle for the functions of ``xseg.xseg_api``."""
        place = self.name
        run_dir = self.run_dir or common.RUN_DIR
        if run_dir is not None:
            place = os.path.join(os.path.abspath(run_dir), self.name + ".sock")
        handle = xseg_api.xseg_join(to_bytes(self.type), to_bytes(place), b"posixfd", None)
        if not handle:
            raise Error(f"Cannot join segment '{self.name}': {last_error()}")
        return int(handle)


def is_select_patched() -> bool:
    """Whether somebody (gevent) put a `select` of his own in place: a Python function, whenever
    that was done."""
    return not isinstance(select.select, BuiltinFunctionType)


def waits_in_the_library() -> bool:
    """Whether a wait may sleep in the library: nobody asked for another way."""
    return common.xseg_wait_signal_green is xseg_wait_signal_green and not is_select_patched()


def xseg_wait_signal_green(ctx: Any, sd: Any, timeout: int) -> None:
    """Sleeps until the wake-up descriptor ``sd`` rings, at most ``timeout`` microseconds.

    ``archipelago.common.xseg_wait_signal_green`` is looked up at every wait, so that a program
    may put its own in its place. This one lets other greenlets run when gevent has patched
    ``select``, and else sleeps in the library.
    """
    if not is_select_patched():
        xseg_api.xseg_wait_signal(ctx, sd, min(timeout, 0xFFFFFFFF))
        return
    fd = cast(sd, POINTER(posixfd_signal_desc)).contents.fd
    select.select([fd], [], [], timeout / 1e6)
    while True:
        try:
            os.read(fd, 512)
        except BlockingIOError:
            return


class Xseg_ctx:
    """A bound port of a segment: dynamic, or the static port ``portno``, which is taken over from
    a dead process but not from a living one."""

    def __init__(self, segment: Segment, portno: Optional[int] = None) -> None:
        self.ctx: Optional[int] = segment.join()
        if portno is None:
            port = xseg_api.xseg_bind_dynport(self.ctx)
        else:
            port = xseg_api.xseg_bind_port(self.ctx, c_uint32(portno), None)
        if not port:
            why = last_error()
            xseg_api.xseg_leave(self.ctx)
            self.ctx = None
            which = "a dynamic port" if portno is None else f"port {portno}"
            raise Error(f"Cannot bind {which}: {why}")
        self.port = port
        self.portno: int = port.contents.portno
        self.dynalloc = portno is None
        xseg_api.xseg_init_local_signal(self.ctx, self.portno)
        self.signal_desc = xseg_api.xseg_get_signal_desc(self.ctx, self.port)
        self._requests: "weakref.WeakValueDictionary[int, Request]" = weakref.WeakValueDictionary()

    def __enter__(self) -> "Xseg_ctx":
        if not self.ctx:
            raise Error("No segment")
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Gives the port back and leaves the segment."""
        if self.ctx:
            xseg_api.xseg_quit_local_signal(self.ctx, self.portno)
            xseg_api.xseg_leave_dynport(self.ctx, self.port)
            xseg_api.xseg_leave(self.ctx)
        self.ctx = None

    def fileno(self) -> int:
        """The descriptor that becomes readable when something is answered after
        `prepare_wait`."""
        return int(cast(self.signal_desc, POINTER(posixfd_signal_desc)).contents.fd)

    def prepare_wait(self) -> None:
        """Whoever answers from now on rings."""
        xseg_api.xseg_prepare_wait(self.ctx, self.portno)

    def cancel_wait(self) -> None:
        """Nobody need ring any more."""
        xseg_api.xseg_cancel_wait(self.ctx, self.portno)

    def receive(self) -> Any:
        """The next answered request as a pointer that may be NULL."""
        return xseg_api.xseg_receive(self.ctx, self.portno, xseg_api.X_NONBLOCK)

    def check_node(self) -> None:
        """Raises when nothing will be answered any more."""
        if xseg_api.xseg_check_node(self.ctx) < 0:
            raise Error(f"Cannot wait for an answer: {last_error()}")

    def _next(self) -> Any:
        """Waits for the next answered request."""
        while True:
            self.prepare_wait()
            try:
                received = self.receive()
                if received:
                    return received
                common.xseg_wait_signal_green(self.ctx, self.signal_desc, LOOK_EVERY_US)
            finally:
                self.cancel_wait()
            received = self.receive()
            if received:
                return received
            self.check_node()

    def owner_of(self, received: Any) -> "Optional[Request]":
        """The Request behind a received pointer, told that it is answered. One that nobody holds
        is freed."""
        owner = self._requests.get(addressof(received.contents))
        if owner is None:
            xseg_api.xseg_put_request(self.ctx, received, self.portno)
        else:
            owner.answered()
        return owner

    def wait_request(self) -> Any:
        """Waits for any answer, and returns the request as the library knows it."""
        received = self._next()
        owner = self._requests.get(addressof(received.contents))
        if owner is not None:
            owner.answered()
            owner.take_answer()
        return received

    def wait_requests(self, requests: "Iterable[Request]") -> "Request":
        """Waits for the first answer to one of these, and returns that request. Other answers
        are kept for whoever holds their request, or freed."""
        wanted: "List[Request]" = list(requests)
        while True:
            for request in wanted:
                if request.take_answer():
                    return request
            if not any(request.is_under_way() for request in wanted):
                raise Error("Cannot wait: none of these requests is under way")
            self.owner_of(self._next())

