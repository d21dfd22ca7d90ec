"""Volumes, as the original's `archipelago.vlmc` has them. `archipelago.common.loadrc` comes first.

Every function takes and ignores further keywords. With ``cli`` it prints what the tool `vlmc`
prints. Devices are the tool's own work: mapping and what concerns it runs `vlmc`.
"""

import json
import os
import re
import subprocess
from typing import Any, Iterator, List, NamedTuple, Optional

from xseg import xprotocol as xp

from . import common
from ._operations import Operations, Ports, Steps, T
from ._request import Name, Request, _named
from ._segment import LOOK_EVERY_US, to_bytes
from .errors import Error

MIN_NAME_LEN = 6
_RESERVED = re.compile(rb"^archip_|_lock$|_[0-9a-f]{16}", re.DOTALL)


class Volume(NamedTuple):
    """A map in storage."""

    name: str
    version: int
    header_object: str
    readonly: bool
    deleted: bool


class VlmcMapped(NamedTuple):
    """A volume that is presented as a device."""

    minor: int
    volume: str
    device: str
    pid: int
    state: str


def is_valid_name(name: Name, **_ignored: Any) -> bool:
    """Whether a name has none of the forms that objects and locks have."""
    return _RESERVED.search(to_bytes(name)) is None


def _check(name: Optional[Name], what: str = "Name") -> Name:
    if name is None or len(to_bytes(name)) < MIN_NAME_LEN:
        raise Error(f"{what} should have at least len {MIN_NAME_LEN}")
    return name


def _check_new(name: Optional[Name], what: str) -> Name:
    if not name or not is_valid_name(name):
        raise Error(f"Invalid {what}")
    return name


def _flags(assume_v0: bool) -> int:
    return xp.XF_ASSUMEV0 if assume_v0 else 0


def _port(role: str) -> int:
    if role not in common.peers:
        raise Error(f"No role {role}: call loadrc with a configuration that has it")
    return common.peers[role].portno_start


def _run(operations: Operations, steps: "Steps[T]") -> T:
    ctx = operations.ctx
    try:
        while True:
            ctx.prepare_wait()
            next(steps)
            common.xseg_wait_signal_green(ctx.ctx, ctx.signal_desc, LOOK_EVERY_US)
            ctx.check_node()
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def _ask(role: str, name: Name, op: int, failed: str, assume_v0: bool = False,
         v0_size: int = -1, **more: Any) -> bytes:
    """Sends one request, and returns the data of its answer."""
    ports = Ports(_port("vlmcd"), _port("mapperd"), _port("blockerm"))
    flags = more.pop("flags", 0) | _flags(assume_v0)
    operations = Operations(common.get_segment(), ports)
    with operations.ctx as ctx:
        request = Request(
            ctx, _port(role), name, op=op, flags=flags, v0_size=v0_size if assume_v0 else -1, **more
        )
        return _run(operations, operations.call(request, failed))


def create(
    name: Name,
    size: Optional[int] = None,
    snap: Optional[Name] = None,
    assume_v0: bool = False,
    v0_size: int = -1,
    **_ignored: Any,
) -> None:
    """Makes a volume of ``size`` MiB, blank or from a snapshot."""
    _check_new(_check(name), "volume name")
    if size is None and snap is None:
        raise Error("At least one of the size/snap args must be provided")
    data = _named(xp.xseg_request_clone, snap or b"", size=(size or 0) << 20)
    _ask("mapperd", name, xp.X_CLONE, "vlmc creation failed", assume_v0, v0_size, data=data)


def snapshot(
    name: Name,
    snap_name: Optional[Name] = None,
    cli: bool = False,
    assume_v0: bool = False,
    v0_size: int = -1,
    **_ignored: Any,
) -> None:
    """Freezes a read-only copy of a volume."""
    snap = _check_new(snap_name, "snapshot name")
    data = _named(xp.xseg_request_snapshot, snap)
    failed = "vlmc snapshot failed"
    _ask("vlmcd", _check(name), xp.X_SNAPSHOT, failed, assume_v0, v0_size, data=data)
    _say(cli, f"Snapshot name: {_text(snap)}")


def rename(
    name: Name,
    newname: Optional[Name] = None,
    cli: bool = False,
    assume_v0: bool = False,
    v0_size: int = -1,
    **_ignored: Any,
) -> None:
    """Renames a volume that is not mapped."""
    new = _check_new(_check(newname, "New name"), "new name")
    if is_mapped(_check(name)) is not None:
        raise Error("Cannot rename a mapped resource")
    data = _named(xp.xseg_request_rename, new)
    _ask("vlmcd", name, xp.X_RENAME, "vlmc rename failed", assume_v0, v0_size, data=data)
    _say(cli, f"Renamed {_text(name)} to {_text(new)}")


def hash(
    name: Name,
    cli: bool = False,
    assume_v0: bool = False,
    v0_size: int = -1,
    **_ignored: Any,
) -> str:
    """Turns a snapshot into a map of hashes, and returns its name."""
    answer = _ask(
        "mapperd", _check(name), xp.X_HASH, "vlmc hash failed", assume_v0, v0_size, datalen=260
    )
    length = int.from_bytes(answer[256:260], "little")
    found = answer[:length].decode("ascii")
    _say(cli, f"Hash name: {found}")
    return found


def remove(name: Name, assume_v0: bool = False, v0_size: int = -1, **_ignored: Any) -> None:
    """Removes a volume that is not mapped, or a snapshot."""
    for mapped in get_mapped():
        if mapped.volume == _text(name):
            raise Error(f"Volume {mapped.volume} mapped on device {mapped.device}")
    _ask("vlmcd", name, xp.X_DELETE, "vlmc removal failed", assume_v0, v0_size)


def update_volume(
    name: Name, assume_v0: bool = False, v0_size: int = -1, **_ignored: Any
) -> None:
    """Brings a map to the current version."""
    _ask("mapperd", name, xp.X_UPDATE, "vlmc update failed", assume_v0, v0_size)


def open_volume(
    name: Name,
    cli: bool = False,
    assume_v0: bool = False,
    v0_size: int = -1,
    **_ignored: Any,
) -> None:
    """Takes a volume for this node."""
    _ask("vlmcd", _check(name), xp.X_OPEN, "vlmc open failed", assume_v0, v0_size)
    _say(cli, "Volume opened")


def close_volume(
    name: Name,
    cli: bool = False,
    assume_v0: bool = False,
    v0_size: int = -1,
    **_ignored: Any,
) -> None:
    """Gives a volume back."""
    _ask("vlmcd", _check(name), xp.X_CLOSE, "vlmc close failed", assume_v0, v0_size)
    _say(cli, "Volume closed")


def lock(name: Name, cli: bool = False, **_ignored: Any) -> None:
    """Takes the lock of a volume, straight from the blocker."""
    _ask("blockerm", _check(name), xp.X_ACQUIRE, "vlmc lock failed", flags=xp.XF_NOSYNC)
    _say(cli, "Volume locked")


def unlock(name: Name, force: bool = False, cli: bool = False, **_ignored: Any) -> None:
    """Gives that lock back; ``force`` breaks whoever holds it."""
    flags = xp.XF_FORCE if force else 0
    _ask("blockerm", _check(name), xp.X_RELEASE, "vlmc unlock failed", flags=flags)
    _say(cli, "Volume unlocked")


def info(
    name: Name,
    cli: bool = False,
    assume_v0: bool = False,
    v0_size: int = -1,
    **_ignored: Any,
) -> int:
    """Bytes of a volume."""
    answer = _ask(
        "mapperd", _check(name), xp.X_INFO, "vlmc info failed", assume_v0, v0_size, datalen=8
    )
    size = int.from_bytes(answer[:8], "little")
    _say(cli, f"Volume {_text(name)}: size: {size}")
    return size


def resize(name: Name, size: int, **_ignored: Any) -> None:
    """Grows a volume to ``size`` MiB."""
    _ask("vlmcd", _check(name), xp.X_TRUNCATE, "vlmc resize failed", offset=size << 20)


def list_volumes(cli: bool = False, **_ignored: Any) -> Iterator[Volume]:
    """Every map in storage, those of deleted volumes among them."""
    ports = Ports(_port("vlmcd"), _port("mapperd"), _port("blockerm"))
    operations = Operations(common.get_segment(), ports)
    with operations.ctx:
        found = _run(operations, operations.list())
    for entry in found:
        _say(cli and not entry.deleted, entry.name)
    return iter(
        [
            Volume(entry.name, entry.version, entry.header_object, entry.readonly, entry.deleted)
            for entry in found
        ]
    )


# ---- devices ----


def _tool(*words: Any) -> str:
    """Runs `vlmc`, and returns what it prints."""
    command = [os.path.join(common.BIN_DIR, "vlmc"), "-c", common.config.get("FILE", "")]
    command += [os.fsdecode(word) for word in words]
    environment = dict(common.tool_env(), NO_COLOR="1")
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise Error(done.stderr.decode("utf-8", "replace").strip())
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def get_mapped(**_ignored: Any) -> List[VlmcMapped]:
    """The volumes that are presented as devices; none where that is switched off."""
    if not common.config:
        raise Error("No configuration: call loadrc first")
    if not common.config["BLKTAP_ENABLED"]:
        return []
    return [
        VlmcMapped(one["id"], one["volume"], one["device"], one["pid"], one["state"])
        for one in json.loads(_tool("showmapped", "--format", "json"))
    ]


def showmapped(**_ignored: Any) -> int:
    """Prints the mapped volumes, and returns how many there are."""
    mapped = get_mapped()
    if not mapped:
        print("No volumes mapped\n")
        return 0
    print("id\timage\t\tdevice")
    for one in mapped:
        print(f"{one.minor}\t{one.volume}\t{one.device}")
    return len(mapped)


def is_mapped(volume: Name, **_ignored: Any) -> Optional[int]:
    """The minor of a volume's device."""
    found = (one.minor for one in get_mapped() if one.volume == _text(volume))
    return next(found, None)


def is_device_mapped(device: Name, **_ignored: Any) -> Optional[int]:
    """The minor of a device, if a volume is behind it."""
    found = (one.minor for one in get_mapped() if one.device == _text(device))
    return next(found, None)


def map_volume(
    name: Name,
    assume_v0: bool = False,
    v0_size: int = -1,
    readonly: bool = False,
    **_ignored: Any,
) -> str:
    """Presents a volume as a device, and returns what follows DEVICE_PREFIX in its path."""
    words: List[Any] = ["map", name]
    words += ["--readonly"] if readonly else []
    if assume_v0:
        words += ["--assume_v0", "--v0_size", str(v0_size)]
    device = _tool(*words)
    if not device.startswith(common.DEVICE_PREFIX):
        raise Error(f"{device} does not begin with DEVICE_PREFIX ({common.DEVICE_PREFIX})")
    return device[len(common.DEVICE_PREFIX):]


def unmap_volume(name: Name, **_ignored: Any) -> None:
    """Takes a device away."""
    _tool("unmap", name)


def _text(name: Name) -> str:
    return os.fsdecode(name)


def _say(cli: bool, text: str) -> None:
    if cli:
        print(text)
