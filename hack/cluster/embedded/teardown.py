"""Takes a cluster away without a trace: its processes, namespaces, link, cgroups and state; the cache stays."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from embedded import cgroups, network
from embedded.cluster import Cluster, exclusive, made_mount_points
from embedded.layout import Layout, Shape
from embedded.network import Subnets
from embedded.progress import say, step

_MARK = b"\0mabeam-sandbox\0"


def down(where: Layout) -> list[str]:
    """What is left over after everything was taken away: nothing, or a line for each leftover."""
    if not where.state.exists() and not traces(where, None):
        say(f"There is no cluster '{where.name}'.")
        _remove_state(where)
        return []
    with exclusive(where), step(f"cluster '{where.name}' taken down"):
        shape = _shape(where)
        _kill_everything(where, shape)
        if shape is not None:
            network.disconnect(Subnets(shape.slot), str(where.state))
        cgroups.remove(where.cgroup)
        _remove_state(where)
        # The lock file stays: whoever waits for it would otherwise hold another file than the next who comes.
        return traces(where, shape)


def traces(where: Layout, shape: Shape | None) -> list[str]:
    """One line for everything of the cluster that can still be found on the machine."""
    found = [f"process {pid}: {_command(pid)}" for pid in sorted(_processes(where, shape))]
    found += [f"cgroup {directory}" for directory in cgroups.directories(where.cgroup)]
    if shape is not None and network.link_exists(Subnets(shape.slot).host_link, str(where.state)):
        found.append(f"network link {Subnets(shape.slot).host_link}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if line.split()[4].startswith(f"{where.state}/")]
    if where.state.exists():
        found.append(f"directory {where.state}")
    return found


def _shape(where: Layout) -> Shape | None:
    """The recorded shape; None when there is none or it is damaged, because `down` must work then too."""
    try:
        return where.read_shape()
    except Exception:
        return None


def _processes(where: Layout, shape: Shape | None) -> set[int]:
    """Every process of the cluster: recorded, in its cgroups, or keeping one of its sandboxes."""
    pids = cgroups.members(where.cgroup)
    if shape is not None:
        registry = Cluster(where, shape).registry
        pids |= {record.pid for name in registry.names() if (record := registry.alive(name))}
    return pids | _sandboxes(_MARK + f"{where.state}\0".encode())


def _sandboxes(mark: bytes) -> set[int]:
    """The processes with that mark in their arguments: found even when `up` was killed before it noted them."""
    pids = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "cmdline").read_bytes():
                    pids.add(int(entry.name))
            except OSError:
                continue
    return pids


def _kill_everything(where: Layout, shape: Shape | None) -> None:
    # Sandboxes first: the kernel then ends whatever runs inside them, also what no list knows.
    deadline = time.monotonic() + 30
    while pids := _processes(where, shape):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _remove_state(where: Layout) -> None:
    # Renamed first: a `down` that is killed here leaves no half a state that looks like a cluster.
    doomed = where.state.with_name(f".{where.name}.removed.{os.getpid()}")
    if where.state.exists():
        where.state.rename(doomed)
    for left in where.state.parent.glob(f".{where.name}.removed.*"):
        shutil.rmtree(left, ignore_errors=True)
    note = made_mount_points(where)
    # Removing a directory takes the mounts on it away in every namespace, so the last cluster removes them.
    if note.exists() and not _sandboxes(_MARK):
        for place in note.read_text().split():
            try:
                Path(place).rmdir()
            except OSError:
                continue
        note.unlink(missing_ok=True)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        return "?"
