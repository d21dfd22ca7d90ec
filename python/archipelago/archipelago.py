"""The node, as the original's `archipelago.archipelago` has it. `archipelago.common.loadrc` comes
first.

`start`, `stop`, `restart` and `status` speak of the node that its supervisor keeps, and run the
tool `archipelago`. `start_peer` and the like speak of one peer's own program, on a segment that
`Segment.create` made.
"""

import json
import os
import subprocess
from typing import Any, Dict, Iterable, List, Optional

from . import common
from ._peers import Peer
from .errors import Error

_COLUMN = 23


def _line(cli: bool, left: str, right: str) -> None:
    if cli:
        print(left.ljust(_COLUMN) + right)


def start_peer(peer: Peer, cli: bool = False, **_ignored: Any) -> None:
    """Starts one peer's program."""
    try:
        peer.start()
    except Error:
        _line(cli, f"Starting {peer.role} ", "FAILED")
        raise
    _line(cli, f"Starting {peer.role} ", "OK")


def stop_peer(peer: Peer, cli: bool = False, **_ignored: Any) -> None:
    """Stops one peer's program; one that does not run is as good."""
    if not peer.is_running():
        _line(cli, peer.role, "Not running")
        return
    try:
        peer.stop()
    except Error:
        _line(cli, f"Stopping {peer.role} ", "FAILED")
        raise
    _line(cli, f"Stopping {peer.role} ", "OK")


def peer_running(peer: Peer, cli: bool = False, **_ignored: Any) -> bool:
    """Whether one peer's program runs."""
    if peer.is_running():
        _line(cli, peer.role, "running")
        return True
    stale = os.path.exists(peer.pidfile)
    text = "Has valid pidfile but does not seem to be active" if stale else "not running"
    _line(cli, peer.role, text)
    return False


def _each(peers: Any) -> List[Peer]:
    return list(peers.values()) if isinstance(peers, dict) else list(peers)


def start_peers(peers: "Dict[str, Peer] | Iterable[Peer]", cli: bool = False, **_i: Any) -> None:
    """Starts the programs of these peers, in their order."""
    for peer in _each(peers):
        start_peer(peer, cli)


def stop_peers(peers: "Dict[str, Peer] | Iterable[Peer]", cli: bool = False, **_i: Any) -> None:
    """Stops the programs of these peers, the last one first."""
    for peer in reversed(_each(peers)):
        stop_peer(peer, cli)


def _tool(*words: str, cli: bool = False) -> "subprocess.CompletedProcess[str]":
    if not common.config:
        raise Error("No configuration: call loadrc first")
    command = [os.path.join(common.BIN_DIR, "archipelago"), "-c", common.config["FILE"]]
    done = subprocess.run(
        command + list(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if cli:
        print(done.stdout, end="")
    return done


def _order(*words: Optional[str], cli: bool) -> None:
    done = _tool(*[word for word in words if word], cli=cli)
    if done.returncode != 0:
        raise Error(done.stderr.strip() or f"archipelago {words[0]} failed")


def start(role: Optional[str] = None, cli: bool = False, **_ignored: Any) -> None:
    """Starts the node, or one role of it."""
    _order("start", role, cli=cli)


def stop(
    role: Optional[str] = None, cli: bool = False, force: bool = False, **_ignored: Any
) -> None:
    """Stops the node, or one role of it; ``force`` freezes mapped volumes."""
    _order("stop", "--force" if force else None, role, cli=cli)


def restart(cli: bool = False, **_ignored: Any) -> None:
    """Stops and starts the node; mapped volumes wait meanwhile."""
    _order("restart", cli=cli)


def status(cli: bool = False, **_ignored: Any) -> int:
    """How many roles run and volumes are mapped."""
    if cli:
        _tool("status", cli=True)
    report = json.loads(_tool("status", "--format", "json").stdout)
    running = sum(role["state"] == "running" for role in report["roles"])
    return int(running) + len(report["mapped"])
