"""What every program of the original imports: the segment, contexts, requests, the peers'
programs, the configuration, and everything of ``xseg.xseg_api`` and ``xseg.xprotocol``.

Attributes that callers may set, looked up at every use: ``BIN_DIR``, ``LOGS_PATH``,
``PIDFILE_PATH``, ``LOCK_PATH``, ``DEVICE_PREFIX``, ``RUN_DIR``, and the function
``xseg_wait_signal_green``.
"""

import os
import socket
from ctypes import (
    POINTER,
    addressof,
    cast,
    memmove,
    pointer,
    sizeof,
    string_at,
)
from typing import Any, Dict, List, Optional

from xseg.xprotocol import *
from xseg.xseg_api import *

from .errors import Error, OperationError

# Where the programs are.
BIN_DIR = os.environ.get("ARCHIPELAGO_BIN_DIR", "/usr/bin")
LOGS_PATH = "/var/log/archipelago"
LOCK_PATH = "/var/lock"
# `vlmc.map_volume` returns what follows it in the device; devices have no common prefix any more.
DEVICE_PREFIX = ""
ARCHIP_PREFIX = "archip_"
# Where the node of a host is.
HOST_RUN_DIR = "/run/archipelago"
# The run directory when a configuration named it; else the library's default.
RUN_DIR: Optional[str] = None

hostname = socket.gethostname()


def default_run_dir() -> str:
    """Where a node's sockets are when no configuration says so: as the peers have it."""
    chosen = os.environ.get("ARCHIPELAGO_RUN_DIR", "")
    if os.path.isabs(chosen):
        return chosen
    # The host's node lets its user and group write there.
    if os.geteuid() == 0 or os.access(HOST_RUN_DIR, os.W_OK | os.X_OK, effective_ids=True):
        return HOST_RUN_DIR
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        return os.path.join(runtime, "archipelago")
    return f"/tmp/archipelago-{os.geteuid()}"


PIDFILE_PATH = default_run_dir()


def set_run_dir(path: str) -> None:
    """Sockets and pid files are there from now on."""
    global RUN_DIR, PIDFILE_PATH
    RUN_DIR = PIDFILE_PATH = os.path.abspath(path)


def tool_env(run_dir: Optional[str] = None) -> Dict[str, str]:
    """The environment of the programs that this module starts."""
    environment = dict(os.environ)
    run_dir = run_dir or RUN_DIR
    if run_dir is not None:
        environment["ARCHIPELAGO_RUN_DIR"] = os.path.abspath(run_dir)
    return environment


def is_power2(number: int) -> bool:
    """Whether a number is a power of two."""
    return number > 0 and number & (number - 1) == 0


# After the attributes above, which these modules look up here.
from ._request import Request as Request
from ._segment import Segment as Segment
from ._segment import Xseg_ctx as Xseg_ctx
from ._segment import xseg_wait_signal_green as xseg_wait_signal_green
from ._peers import Filed as Filed
from ._peers import Mapperd as Mapperd
from ._peers import MTpeer as MTpeer
from ._peers import Peer as Peer
from ._peers import Poold as Poold
from ._peers import Radosd as Radosd
from ._peers import Vlmcd as Vlmcd

config: Dict[str, Any] = {}
peers: Dict[str, Peer] = {}


def segment_of(found: Dict[str, Any]) -> Segment:
    """The segment that a configuration describes."""
    segment = Segment(
        found["SEGMENT_TYPE"],
        found["SEGMENT_NAME"],
        found["SEGMENT_DYNPORTS"],
        found["SEGMENT_PORTS"],
        found["SEGMENT_SIZE"],
        found["SEGMENT_ALIGNMENT"],
    )
    segment.run_dir = found.get("RUN_DIR")
    return segment


def loadrc(rc: Optional[str] = None) -> None:
    """Reads a configuration file into ``config`` and ``peers``."""
    from . import _config

    found, made = _config.load(rc or _config.DEFAULT_FILE)
    if "RUN_DIR" in found:
        set_run_dir(found["RUN_DIR"])
    config.clear()
    config.update(found)
    peers.clear()
    peers.update(made)


def get_segment() -> Segment:
    """The configuration's segment; `loadrc` first."""
    if not config:
        raise Error("No configuration: call loadrc first")
    return segment_of(config)


def construct_peers() -> List[Peer]:
    """The configuration's peers, in the order of their start."""
    return [peers[role] for role, _ in config["roles"]]
