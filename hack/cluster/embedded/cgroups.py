"""The cgroups of a cluster, on version 1, hybrid and version 2 hosts: made, listed, killed and removed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import cannot_run_here

# Where the daemons of the cluster sit. Version 2 wants processes in leaves only, so never the parent itself.
DAEMONS = "daemons"
NEEDED = frozenset({"cpu", "cpuset", "memory", "pids"})


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup hierarchy: what it controls, and where."""

    mount: Path
    version: int
    controllers: frozenset[str]


def parse_mountinfo(text: str) -> list[Hierarchy]:
    """The cgroup hierarchies in the text of /proc/self/mountinfo, each once."""
    found: dict[Path, Hierarchy] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        mount = Path(fields[4])
        if kind[0] == "cgroup2":
            found[mount] = Hierarchy(mount, 2, frozenset())
        elif kind[0] == "cgroup":
            options = frozenset(kind[2].split(",")) - {"rw", "ro", "xattr", "clone_children"}
            found[mount] = Hierarchy(mount, 1, options)
    return list(found.values())


def hierarchies() -> list[Hierarchy]:
    """The hierarchies of this machine; an error when there is none that could limit a pod."""
    found = parse_mountinfo(Path("/proc/self/mountinfo").read_text())
    if not found:
        raise cannot_run_here("No cgroup file system is mounted below /sys/fs/cgroup.")
    return found


def pure_version_2(found: Iterable[Hierarchy]) -> bool:
    return all(hierarchy.version == 2 for hierarchy in found)


def tracking(found: Iterable[Hierarchy]) -> Hierarchy:
    """The hierarchy whose membership tells which processes belong to a cluster."""
    ranked = sorted(found, key=_tracking_rank)
    return ranked[0]


def _tracking_rank(hierarchy: Hierarchy) -> int:
    # Prefer hierarchies that charge nothing: membership is bookkeeping here, not a limit.
    if hierarchy.version == 2:
        return 0
    if "name=systemd" in hierarchy.controllers:
        return 1
    return 2 if "pids" in hierarchy.controllers else 3


def create(path: str) -> None:
    """The cgroup in every hierarchy, with its controllers handed down on version 2."""
    for hierarchy in hierarchies():
        directory = hierarchy.mount
        for part in path.strip("/").split("/"):
            if hierarchy.version == 2:
                _hand_down(directory)
            directory = directory / part
            directory.mkdir(exist_ok=True)
        if hierarchy.version == 2:
            _hand_down(directory)
    if pure_version_2(hierarchies()):
        missing = NEEDED - set((directory / "cgroup.controllers").read_text().split())
        if missing:
            raise cannot_run_here(
                f"These cgroup controllers are not handed down to {directory}: {', '.join(sorted(missing))}. "
                "Inside a container, run it with a cgroup namespace of its own whose root holds no processes."
            )


def _hand_down(directory: Path) -> None:
    """Every controller the directory has, enabled for its children; one that cannot be is left out."""
    try:
        available = (directory / "cgroup.controllers").read_text().split()
    except OSError:
        return
    for controller in available:
        try:
            (directory / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            # For example `cpu` while real-time processes sit in the root: the kubelet names what it misses.
            continue


def join(path: str) -> None:
    """This process, and so its children, in the daemons' leaf below `path`."""
    leaf = tracking(hierarchies()).mount / path.strip("/") / DAEMONS
    leaf.mkdir(parents=True, exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(os.getpid()))


def directories(path: str) -> list[Path]:
    """Every directory of the cgroup in every hierarchy, children before parents."""
    found: list[Path] = []
    for hierarchy in hierarchies():
        top = hierarchy.mount / path.strip("/")
        if top.is_dir():
            found += [Path(where) for where, _, _ in os.walk(top, topdown=False)]
    return found


def members(path: str) -> set[int]:
    """The processes in the cgroup or below it, in any hierarchy."""
    pids: set[int] = set()
    for directory in directories(path):
        try:
            pids.update(int(pid) for pid in (directory / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return pids


def kill(path: str, timeout: float = 20.0) -> set[int]:
    """The processes that are still there after everything in the cgroup was killed; empty when all went well."""
    deadline = time.monotonic() + timeout
    while pids := members(path):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            return pids
        time.sleep(0.05)
    return set()


def remove(path: str, timeout: float = 10.0) -> list[Path]:
    """The directories that could not be removed; empty when the cgroup is gone."""
    deadline = time.monotonic() + timeout
    while left := directories(path):
        for directory in left:
            try:
                directory.rmdir()
            except OSError:
                continue
        if not directories(path):
            return []
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []
