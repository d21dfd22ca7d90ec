"""The peers' programs, started by themselves: `archip-filed` and the others on a segment that
`Segment.create` made. A node that its supervisor keeps is `archipelago start`'s."""

import grp
import os
import pwd
import select
import signal
import socket
import subprocess
from typing import Any, List, Optional

from . import common
from ._literal import literal
from .errors import Error

# How long a peer that was told to end may take, seconds.
END_WITHIN = 15


def process_name(pid: int) -> Optional[str]:
    """The name of a living process, which the kernel cuts to 15 bytes; None for one that is over,
    a zombie among them."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            name, rest = stat.read().rsplit(")", 1)
    except (OSError, ValueError):
        return None
    if rest.split()[0] in "ZX":
        return None
    return name.split("(", 1)[1]


class Peer:
    """A peer's program with its options."""

    executable = ""

    def __init__(
        self,
        role: Optional[str] = None,
        daemon: bool = True,
        nr_ops: int = 16,
        logfile: Optional[str] = None,
        pidfile: Optional[str] = None,
        portno_start: Optional[int] = None,
        portno_end: Optional[int] = None,
        log_level: int = 0,
        spec: Optional[str] = None,
        threshold: Optional[int] = None,
        user: Optional[str] = None,
        group: Optional[str] = None,
        umask: Any = "0o007",
        **_ignored: Any,
    ) -> None:
        if not self.executable:
            raise Error("A peer needs an executable")
        if not role:
            raise Error("Role was not provided")
        if portno_start is None or portno_end is None:
            raise Error(f"{role}: portno_start and portno_end must be provided")
        if not common.is_power2(nr_ops):
            raise Error(f"nr_ops of {role} is not a power of 2")
        self.role = role
        self.daemon = daemon
        self.nr_ops = nr_ops
        self.logfile = logfile or os.path.join(common.LOGS_PATH, role + ".log")
        self.pidfile = pidfile or os.path.join(common.PIDFILE_PATH, role + ".pid")
        self.portno_start = int(portno_start)
        self.portno_end = int(portno_end)
        self.log_level = log_level
        self.spec = spec
        self.threshold = threshold
        self.user = user
        self.group = group
        self.umask = literal(umask) if isinstance(umask, str) else int(umask or 0o007)
        self.cli_opts: List[str] = self._options()

    # ---- its command line ----

    def _options(self) -> List[str]:
        if not self.spec:
            raise Error(f"{self.role}: the segment's spec must be provided")
        options = ["-d"] if self.daemon else []
        options += ["-n", str(self.nr_ops), "-l", self.logfile, "--pidfile", self.pidfile]
        options += ["-sp", str(self.portno_start), "-ep", str(self.portno_end)]
        options += ["-v", str(self.log_level), "-g", self.spec]
        if self.threshold is not None:
            options += ["--threshold", str(self.threshold)]
        options += self._account("-uid", "-gid")
        return options + ["--umask", str(self.umask), "-r", self.role]

    def _account(self, uid: str, gid: str) -> List[str]:
        options = []
        if self.user:
            options += [uid, str(pwd.getpwnam(self.user).pw_uid)]
        if self.group:
            options += [gid, str(grp.getgrnam(self.group).gr_gid)]
        return options

    # ---- its process ----

    def get_pid(self) -> Optional[int]:
        """What the pid file says."""
        try:
            with open(self.pidfile, encoding="ascii") as pidfile:
                return int(pidfile.read().strip())
        except (OSError, ValueError):
            return None

    def is_running(self) -> bool:
        """Whether the process of the pid file is this program."""
        pid = self.get_pid()
        name = process_name(pid) if pid else None
        return bool(name) and self.executable.startswith(str(name)[:15])

    def start(self) -> None:
        """Starts it, and returns when it serves."""
        if self.is_running():
            raise Error(f"Cannot start peer {self.role}. Peer already running")
        self._remove_stale_pidfile()
        for path in (self.pidfile, self.logfile):
            os.makedirs(os.path.dirname(path), mode=0o770, exist_ok=True)
        command = [os.path.join(common.BIN_DIR, self.executable)] + self.cli_opts
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=common.tool_env(),
                check=False,
            )
        except OSError as why:
            raise Error(f"Cannot start {self.role}: {command[0]}: {why.strerror}") from why
        if done.returncode != 0:
            why_not = done.stderr.decode("utf-8", "replace").strip()
            raise Error(f"Couldn't start {self.role}: {why_not}")

    def _remove_stale_pidfile(self) -> None:
        if os.path.exists(self.pidfile):
            os.unlink(self.pidfile)
            print(f"{self.role}: removed the pid file of a process that is gone")

    # How it is told to end.
    _end = signal.SIGTERM

    def stop(self) -> None:
        """Tells it to end, and returns when it has."""
        pid = self.get_pid()
        if pid is None:
            raise Error(f"Peer {self.role} not running")
        if not self.is_running():
            raise Error(f"Peer {self.role} has valid pidfile but is not running")
        process = os.pidfd_open(pid)
        try:
            os.kill(pid, self._end)
            ended, _, _ = select.select([process], [], [], END_WITHIN)
        finally:
            os.close(process)
        if not ended:
            raise Error(f"Failed to stop peer {self.role}.")


class MTpeer(Peer):
    """A peer that once had threads."""

    def __init__(self, nr_threads: int = 1, **kwargs: Any) -> None:
        self.nr_threads = nr_threads
        super().__init__(**kwargs)

    def _options(self) -> List[str]:
        return super()._options() + ["-t", str(self.nr_threads)]


class Filed(MTpeer):
    """A blocker over files."""

    executable = "archip-filed"

    def __init__(
        self,
        archip_dir: Optional[str] = None,
        prefix: Optional[str] = None,
        fdcache: Optional[int] = None,
        unique_str: Optional[str] = None,
        nr_threads: int = 1,
        direct: bool = True,
        pithos_migrate: bool = False,
        lock_dir: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        role = kwargs.get("role")
        if not archip_dir:
            raise Error(f"{role}: Archip dir must be set")
        if not os.path.isdir(archip_dir):
            raise Error(f"{role}: Archip dir invalid")
        if lock_dir and not os.path.isdir(lock_dir):
            raise Error(f"{role}: Lock dir invalid")
        smallest = 2 * int(kwargs.get("nr_ops", 16))
        if fdcache is not None and fdcache < smallest:
            raise Error("Fdcache should be greater than 2*nr_threads")
        self.archip_dir = archip_dir
        self.prefix = prefix or common.ARCHIP_PREFIX
        self.fdcache = fdcache or smallest
        self.unique_str = unique_str or f"{socket.gethostname()}_{kwargs.get('portno_start')}"
        self.direct = direct
        self.pithos_migrate = pithos_migrate
        self.lock_dir = lock_dir
        super().__init__(nr_threads=nr_threads, **kwargs)

    def _options(self) -> List[str]:
        options = super()._options() + ["--uniquestr", self.unique_str]
        options += ["--fdcache", str(self.fdcache), "--archip", self.archip_dir]
        options += ["--prefix", self.prefix]
        options += ["--directio"] if self.direct else []
        options += ["--pithos-migrate"] if self.pithos_migrate else []
        return options + (["--lockdir", self.lock_dir] if self.lock_dir else [])


class Radosd(MTpeer):
    """A blocker over a pool of RADOS."""

    executable = "archip-radosd"

    def __init__(
        self,
        pool: Optional[str] = None,
        cephx_id: Optional[str] = None,
        nr_threads: int = 1,
        ceph_conf: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        if not pool:
            raise Error(f"{kwargs.get('role')}: Pool must be set")
        self.pool = pool
        self.cephx_id = cephx_id
        self.ceph_conf = ceph_conf
        super().__init__(nr_threads=nr_threads, **kwargs)

    def _options(self) -> List[str]:
        options = super()._options() + ["--pool", self.pool]
        options += ["--cephx-id", self.cephx_id] if self.cephx_id else []
        return options + (["--ceph-conf", self.ceph_conf] if self.ceph_conf else [])


class Mapperd(Peer):
    """The keeper of maps."""

    executable = "archip-mapperd"

    def __init__(
        self,
        blockerm_port: Optional[int] = None,
        blockerb_port: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        if blockerm_port is None or blockerb_port is None:
            raise Error(f"{kwargs.get('role')}: blockerm_port and blockerb_port must be provided")
        self.blockerm_port = blockerm_port
        self.blockerb_port = blockerb_port
        super().__init__(**kwargs)

    def _options(self) -> List[str]:
        ports = ["-mbp", str(self.blockerm_port), "-bp", str(self.blockerb_port)]
        return super()._options() + ports


class Vlmcd(Peer):
    """The composer of volumes."""

    executable = "archip-vlmcd"

    def __init__(
        self,
        blocker_port: Optional[int] = None,
        mapper_port: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        if blocker_port is None or mapper_port is None:
            raise Error(f"{kwargs.get('role')}: blocker_port and mapper_port must be provided")
        self.blocker_port = blocker_port
        self.mapper_port = mapper_port
        super().__init__(**kwargs)

    def _options(self) -> List[str]:
        ports = ["-bp", str(self.blocker_port), "-mp", str(self.mapper_port)]
        return super()._options() + ports


class Poold(Peer):
    """The lender of static ports."""

    executable = "archip-poold"
    _end = signal.SIGQUIT

    def __init__(
        self,
        socket_path: Optional[str] = None,
        logging_conf: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        self.socket_path = socket_path
        self.logging_conf = logging_conf
        super().__init__(**kwargs)

    def _options(self) -> List[str]:
        options = ["-d"] if self.daemon else []
        options += ["-c", self.logging_conf] if self.logging_conf else []
        options += ["-i", self.pidfile]
        options += ["-s", str(self.portno_start), "-e", str(self.portno_end)]
        options += self._account("-u", "-g") + ["-m", str(self.umask)]
        return options + (["-p", self.socket_path] if self.socket_path else [])
