"""Static ports lent by `archip-poold`, so that programs need not agree on who has which.

    with ArchipelagoPoolClient(conffile="/etc/archipelago/archipelago.conf") as client:
        ctx = client.get_port()        # an Xseg_ctx, or None when all are lent
        ...
        client.leave_port(ctx)

The end of the connection gives everything back.
"""

import os
import select
import socket
import struct
from types import TracebackType
from typing import Dict, Optional, Type

from . import common
from ._segment import Segment, Xseg_ctx
from .errors import Error

__all__ = ["ArchipelagoPoolClient", "PoolClient"]

GET_PORT = 0
LEAVE_PORT = 1
LEAVE_ALL_PORTS = 2

CONNECT_TIMEOUT = 5

_REQUEST = struct.Struct(">II")
_ANSWER = struct.Struct("=i")


def default_endpoint() -> str:
    """Where poold listens when nothing else is said."""
    return os.path.join(common.RUN_DIR or common.default_run_dir(), "poold.socket")


class PoolClient:
    """A connection to poold, which lends numbers."""

    def __init__(self, endpoint: Optional[str] = None) -> None:
        self.endpoint = endpoint or default_endpoint()
        self.socket: Optional[socket.socket] = None

    def connect(self) -> None:
        """Connects, within five seconds."""
        self.close()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(CONNECT_TIMEOUT)
        try:
            made.connect(self.endpoint)
        except OSError as why:
            made.close()
            raise Error(f"Cannot connect to poold at {self.endpoint}: {why}") from why
        made.settimeout(None)
        self.socket = made

    def _ask(self, code: int, port: int = 0) -> int:
        if self.socket is None:
            self.connect()
        assert self.socket is not None
        try:
            self.socket.sendall(_REQUEST.pack(code, port))
            answer = b""
            while len(answer) < _ANSWER.size:
                more = self.socket.recv(_ANSWER.size - len(answer))
                if not more:
                    raise ConnectionResetError("it hung up")
                answer += more
        except OSError as why:
            self.close()
            raise Error(f"Cannot ask poold at {self.endpoint}: {why}") from why
        return int(_ANSWER.unpack(answer)[0])

    def borrow(self) -> Optional[int]:
        """A port's number, or None when all are lent."""
        port = self._ask(GET_PORT)
        return None if port < 0 else port

    def give_back(self, port: int) -> bool:
        """Whether this connection had the port, which it has no more."""
        return self._ask(LEAVE_PORT, port) == 1

    def leave_all_ports(self) -> bool:
        """Gives everything back."""
        return self._ask(LEAVE_ALL_PORTS) == 1

    def alive(self) -> bool:
        """Whether poold is still there: it says nothing by itself, so what can be read is the
        end."""
        if self.socket is None:
            return False
        return not select.select([self.socket], [], [], 0)[0]

    def close(self) -> None:
        """Ends the connection, which gives everything back."""
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def __enter__(self) -> "PoolClient":
        self.connect()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


class ArchipelagoPoolClient(PoolClient):
    """A connection to poold, which lends contexts. Segment and socket are those of a
    configuration file, or as they are given."""

    def __init__(
        self,
        conffile: Optional[str] = None,
        endpoint: Optional[str] = None,
        segname: Optional[str] = None,
        segtype: Optional[str] = None,
        dynports: Optional[int] = None,
        ports: Optional[int] = None,
        segsize: Optional[int] = None,
        segalign: int = 12,
    ) -> None:
        if conffile is not None:
            segment, endpoint = _of_file(conffile, endpoint)
        else:
            if dynports is None or ports is None or segsize is None:
                raise Error("A conffile, or dynports, ports and segsize must be provided")
            segment = Segment(
                segtype or "posix", segname or "archipelago", dynports, ports, segsize, segalign
            )
        super().__init__(endpoint)
        self.segment = segment
        self._lent: Dict[int, Xseg_ctx] = {}

    def get_port(self) -> Optional[Xseg_ctx]:
        """A context on a port that is lent to this connection, or None when all are lent."""
        port = self.borrow()
        if port is None:
            return None
        try:
            ctx = Xseg_ctx(self.segment, port)
        except Error:
            self.give_back(port)
            raise
        self._lent[port] = ctx
        return ctx

    def leave_port(self, ctx: Xseg_ctx) -> bool:
        """Shuts a context down and gives its port back."""
        self._lent.pop(ctx.portno, None)
        ctx.shutdown()
        return self.give_back(ctx.portno)

    def _shut_all(self) -> None:
        while self._lent:
            self._lent.popitem()[1].shutdown()

    def leave_all_ports(self) -> bool:
        """Shuts every context down and gives every port back."""
        self._shut_all()
        return super().leave_all_ports()

    def close(self) -> None:
        """Shuts every context down and ends the connection."""
        if hasattr(self, "_lent"):
            self._shut_all()
        super().close()

    def __enter__(self) -> "ArchipelagoPoolClient":
        self.connect()
        return self


def _of_file(conffile: str, endpoint: Optional[str]) -> "tuple[Segment, Optional[str]]":
    from . import _config
    from ._peers import Poold

    found, peers = _config.load(conffile)
    lenders = [peer for peer in peers.values() if isinstance(peer, Poold)]
    if endpoint is None and lenders:
        endpoint = lenders[0].socket_path
    if endpoint is None and "RUN_DIR" in found:
        endpoint = os.path.join(found["RUN_DIR"], "poold.socket")
    return common.segment_of(found), endpoint
