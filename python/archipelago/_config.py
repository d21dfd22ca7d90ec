"""The configuration file, as the original's tools read it.

Only what Python callers look at is checked here, with the original's sentences; the programs check
the whole file when they start.
"""

import configparser
import grp
import os
import pwd
from typing import Any, Dict, List, Tuple

from . import common
from ._literal import literal
from ._peers import Filed, Mapperd, Peer, Poold, Radosd, Vlmcd
from .errors import Error

DEFAULT_FILE = "/etc/archipelago/archipelago.conf"

_INTS = ("SEGMENT_PORTS", "SEGMENT_DYNPORTS", "SEGMENT_SIZE", "VTOOL_START", "VTOOL_END")
_MANDATORY = ("SEGMENT_PORTS", "SEGMENT_DYNPORTS", "SEGMENT_SIZE", "VTOOL_START", "VTOOL_END")
_DEFAULTS = {"SEGMENT_TYPE": "posix", "SEGMENT_NAME": "archipelago", "SEGMENT_ALIGNMENT": 12}

Section = configparser.SectionProxy
Range = Tuple[int, int]


class File:
    """A file that was read."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            with open(self.path, encoding="utf-8") as opened:
                self.parser.read_file(opened)
        except (OSError, configparser.Error, UnicodeDecodeError) as why:
            raise Error(f"Cannot read config file: {why}") from why

    def section(self, name: str) -> Section:
        if not self.parser.has_section(name):
            raise Error(f"No config found for {name}")
        return self.parser[name]

    def path_of(self, text: str) -> str:
        """Paths are relative to the file."""
        return os.path.join(os.path.dirname(self.path), text)

    def number(self, section: Section, key: str, default: Any = None) -> Any:
        text = section.get(key)
        if text is None:
            return default
        try:
            return literal(text)
        except ValueError as why:
            raise Error(f"{section.name}: {key} is not a number: {text}") from why


def _common_keys(file: File) -> Dict[str, Any]:
    found: Dict[str, Any] = dict(_DEFAULTS)
    for name in ("ARCHIPELAGO", "XSEG", "PEERS"):
        section = file.section(name)
        for key in section:
            found[key.upper()] = section[key]
        for key in _INTS + ("SEGMENT_ALIGNMENT",):
            if key in section:
                found[key] = file.number(section, key)
    for key in _MANDATORY:
        if key not in found:
            raise Error(f"XSEG: {key} is missing")
    node = file.section("ARCHIPELAGO")
    found["BLKTAP_ENABLED"] = node.getboolean("BLKTAP_ENABLED", fallback=False)
    found["UMASK"] = file.number(node, "UMASK", 0o007)
    return found


def _check_account(user: Any, group: Any) -> None:
    if user is not None:
        try:
            pwd.getpwnam(user)
        except KeyError as why:
            raise Error(f"User '{user}' does not exist") from why
    if group is not None:
        try:
            grp.getgrnam(group)
        except KeyError as why:
            raise Error(f"Group '{group}' does not exist") from why


def _check_range(new: Range, taken: List[Range], ports: int) -> None:
    for port in new:
        if not 0 <= port < ports:
            raise Error(f"Portno {port} out of range")
    if new[0] > new[1]:
        raise Error(f"Port range {new} ends before it begins")
    for old in taken:
        if old[0] <= new[1] and new[0] <= old[1]:
            raise Error(f"Port range conflict: {new} conflicts with {old}")
    taken.append(new)


def _arguments(file: File, name: str, section: Section, found: Dict[str, Any]) -> Dict[str, Any]:
    """What every peer is made with."""
    log_dir = file.path_of(found.get("LOG_DIR", common.LOGS_PATH))
    logfile = section.get("logfile")
    pid_dir = found.get("RUN_DIR") or common.PIDFILE_PATH
    return {
        "role": name,
        "nr_ops": file.number(section, "nr_ops", 16),
        "logfile": file.path_of(logfile) if logfile else os.path.join(log_dir, name + ".log"),
        "pidfile": os.path.join(pid_dir, name + ".pid"),
        "portno_start": file.number(section, "portno_start"),
        "portno_end": file.number(section, "portno_end"),
        "log_level": file.number(section, "log_level", 0),
        "threshold": file.number(section, "threshold"),
        "umask": section.get("umask") or "0o007",
        "user": found.get("USER"),
        "group": found.get("GROUP"),
    }


def _filed(file: File, section: Section) -> Dict[str, Any]:
    lock_dir = section.get("lock_dir")
    return {
        "archip_dir": file.path_of(section["archip_dir"]),
        "fdcache": file.number(section, "fdcache"),
        "unique_str": section.get("unique_str"),
        "nr_threads": file.number(section, "nr_threads", 1),
        "direct": section.getboolean("direct", fallback=True),
        "pithos_migrate": section.getboolean("pithos_migrate", fallback=False),
        "lock_dir": file.path_of(lock_dir) if lock_dir else None,
    }


def _make(file: File, name: str, kind: str, found: Dict[str, Any], spec: str) -> Peer:
    section = file.section(name)
    arguments = _arguments(file, name, section, found)

    def port(key: str) -> Any:
        return file.number(section, key)

    try:
        if kind == "file_blocker":
            return Filed(spec=spec, **_filed(file, section), **arguments)
        if kind == "rados_blocker":
            return Radosd(
                spec=spec,
                pool=section["pool"],
                cephx_id=section.get("cephx_id"),
                nr_threads=file.number(section, "nr_threads", 1),
                ceph_conf=section.get("ceph_conf"),
                **arguments,
            )
        if kind == "mapperd":
            blockers = {key: port(key) for key in ("blockerm_port", "blockerb_port")}
            return Mapperd(spec=spec, **blockers, **arguments)
        if kind == "vlmcd":
            others = {key: port(key) for key in ("blocker_port", "mapper_port")}
            return Vlmcd(spec=spec, **others, **arguments)
        if kind == "poold":
            socket = section.get("socket_path")
            arguments["pidfile"] = file.path_of(section.get("pidfile", arguments["pidfile"]))
            return Poold(
                socket_path=file.path_of(socket) if socket else None,
                logging_conf=section.get("logging_conf"),
                **arguments,
            )
    except KeyError as why:
        raise Error(f"{name}: {why.args[0]} is missing") from why
    raise Error(f"{kind} is not a valid role")


def load(path: str) -> Tuple[Dict[str, Any], Dict[str, Peer]]:
    """The keys, upper case, and the peers by role."""
    file = File(path)
    found = _common_keys(file)
    found["FILE"] = file.path
    if "RUN_DIR" in found:
        found["RUN_DIR"] = file.path_of(found["RUN_DIR"])
    segment = common.segment_of(found)
    roles = str(found.get("ROLES", "")).split()
    if not roles:
        raise Error("Roles setup must be provided")
    _check_account(found.get("USER"), found.get("GROUP"))
    found["roles"] = [(role, file.section(role).get("type", "")) for role in roles]
    peers: Dict[str, Peer] = {}
    taken: List[Range] = []
    for role, kind in found["roles"]:
        peer = _make(file, role, kind, found, segment.get_spec())
        _check_range((peer.portno_start, peer.portno_end), taken, segment.ports)
        peers[role] = peer
    _check_range((found["VTOOL_START"], found["VTOOL_END"]), taken, segment.ports)
    return found, peers
