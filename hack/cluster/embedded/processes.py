"""Daemons: started into namespaces, recorded so that a recycled process id is never mistaken for one of them."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from embedded import cgroups, namespaces
from embedded.errors import ClusterError
from embedded.layout import write_atomically

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
_LOG_LIMIT = 50 * 1024 * 1024


@dataclass(frozen=True)
class Record:
    """What is remembered of a daemon; the start time tells it from a later process with the same id."""

    pid: int
    start: int
    argv: tuple[str, ...]

    @property
    def alive(self) -> bool:
        """True while the process runs; one that is already dying has given up its namespaces."""
        try:
            os.readlink(f"/proc/{self.pid}/ns/mnt")
        except OSError:
            return False
        return start_time(self.pid) == self.start

    def wait_gone(self, timeout: float = 20.0) -> bool:
        """True once no thread of the process is left that could hold a port, a lock or a mount."""
        deadline = time.monotonic() + timeout
        while self._lingers():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _lingers(self) -> bool:
        fields = _stat(self.pid)
        if not fields or int(fields[19]) != self.start:
            return False
        # A zombie's other threads may still be on their way out, and hold its files until then.
        return fields[0] not in ("Z", "X") or int(fields[17]) > 1

    @property
    def stopped(self) -> bool:
        """True while the daemon is halted by SIGSTOP."""
        fields = _stat(self.pid)
        return bool(fields) and fields[0] in ("T", "t")

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, uptime - self.start / os.sysconf("SC_CLK_TCK"))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command, which may itself hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def start_time(pid: int) -> int | None:
    """Clock ticks between boot and the start of the process; None when it is gone or a zombie."""
    fields = _stat(pid)
    if not fields or fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


class Registry:
    """The daemons of one cluster, each a small file in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def _file(self, component: str) -> Path:
        return self.directory / f"{component.replace('/', '@')}.json"

    def get(self, component: str) -> Record | None:
        """The record of the daemon, running or not; None when it was never started."""
        try:
            data = json.loads(self._file(component).read_text())
            return Record(int(data["pid"]), int(data["start"]), tuple(data["argv"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def alive(self, component: str) -> Record | None:
        record = self.get(component)
        return record if record and record.alive else None

    def names(self) -> list[str]:
        return sorted(file.stem.replace("@", "/") for file in self.directory.glob("*.json"))

    def write(self, component: str, pid: int, argv: Sequence[str]) -> None:
        start = start_time(pid)
        if start is not None:
            write_atomically(self._file(component), json.dumps({"pid": pid, "start": start, "argv": list(argv)}))

    def kill(self, component: str) -> None:
        """The daemon is gone and holds nothing any more; so it is when it was dying already."""
        record = self.get(component)
        if record is None:
            return
        if record.alive:
            os.kill(record.pid, signal.SIGKILL)
        if not record.wait_gone():
            raise ClusterError(f"{component} (process {record.pid}) does not die; see `ps -o stat= {record.pid}`.")


@dataclass(frozen=True)
class Daemon:
    """One program to run: where, with what, and where its words go."""

    component: str
    argv: tuple[str, ...]
    log: Path
    cgroup: str


def start(registry: Registry, daemon: Daemon, sandbox: int) -> None:
    """The daemon running in the namespaces of the process `sandbox`, and recorded."""
    _launch(
        registry,
        daemon,
        prepare=lambda: namespaces.enter(sandbox, ("pid", "net")),
        furnish=lambda: namespaces.enter(sandbox, ("mnt",)),
    )


def start_sandbox(registry: Registry, daemon: Daemon, furnish: Callable[[], None], network_of: int | None) -> None:
    """The daemon as first process of new process and mount namespaces: when it dies, all in them dies with it.

    Its network is new too, or the one of the process `network_of`.
    """

    def prepare() -> None:
        if network_of is None:
            namespaces.unshare(namespaces.NEWNET)
        else:
            namespaces.enter(network_of, ("net",))
        namespaces.unshare(namespaces.NEWPID)

    def furnish_mounts() -> None:
        namespaces.unshare(namespaces.NEWNS)
        namespaces.private_mounts()
        furnish()

    _launch(registry, daemon, prepare, furnish_mounts)


def _launch(registry: Registry, daemon: Daemon, prepare: Callable[[], None], furnish: Callable[[], None]) -> None:
    """Forks twice: the child enters the namespaces and writes the record, the grandchild becomes the daemon.

    The child does the recording because it lives on if this process is killed, so no daemon goes unrecorded.
    It never leaves the host's mounts: /proc has to show it the daemon under the process id that the host sees.
    """
    daemon.log.parent.mkdir(parents=True, exist_ok=True)
    if daemon.log.exists() and daemon.log.stat().st_size > _LOG_LIMIT:
        daemon.log.replace(daemon.log.with_suffix(".old.log"))
    registry.directory.mkdir(parents=True, exist_ok=True)
    # Both ends close on exec: a pipe that ends empty means that the daemon's program has begun.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.setsid()
            cgroups.join(daemon.cgroup)
            prepare()
            grandchild = os.fork()
            if grandchild == 0:
                furnish()
                _become(daemon)
            registry.write(daemon.component, grandchild, daemon.argv)
        except BaseException as failed:
            os.write(writer, (str(failed) or repr(failed)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as pipe:
        message = pipe.read().decode(errors="replace")
    if message:
        raise ClusterError(f"{daemon.component} could not be started: {message}")


def _become(daemon: Daemon) -> NoReturn:
    """Never returns: this process turns into the daemon."""
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(daemon.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Python ignores SIGPIPE, and a program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.umask(0o022)
    os.chdir("/")
    os.execve(daemon.argv[0], list(daemon.argv), _ENVIRONMENT)
