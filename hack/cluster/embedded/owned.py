"""Children that never outlive their parent, however the parent ends: what a build starts must not go on without it.

A signal handler is not enough: SIGKILL runs none, and a time limit of `subprocess.run` sends just that. So each child is watched
by a guardian, this file run as a program: its standard input is a pipe that only the parent holds open. When the kernel closes
the pipe, the guardian ends the child and all that descends from it. Process groups alone would miss those (apt, dpkg) that
make a group of their own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1


@contextmanager
def owned(
    command: Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The started command; when the block or this process ends, nothing of the command or its descendants is left."""
    guardian = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )
        assert guardian.stdin is not None
        guardian.stdin.write(f"{process.pid}\n".encode())
        guardian.stdin.flush()
        try:
            yield process
        finally:
            if process.poll() is None:
                end_tree(process.pid)
            process.wait()
    finally:
        # Before the pipe closes: a guardian that outlived a normal end could meet a recycled process id.
        guardian.kill()
        guardian.wait()
        if guardian.stdin is not None:
            with suppress(BrokenPipeError):
                guardian.stdin.close()


def end_tree(pid: int) -> None:
    """SIGKILL for a process and its descendants, until none is left; each is stopped first, so that it starts no more."""
    seen: set[int] = set()
    while fresh := _tree(pid) - seen:
        for one in fresh:
            _signal(one, signal.SIGSTOP)
        seen |= fresh
    for one in seen:
        _signal(one, signal.SIGKILL)


def die_with_parent() -> None:
    """From now on this process gets SIGTERM when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _tree(root: int) -> set[int]:
    parents = dict(_parents())
    found = {root} if root in parents else set()
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in ("Z", "X"):
                    yield int(entry.name), int(fields[1])


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _guard() -> None:
    line = sys.stdin.buffer.readline()
    sys.stdin.buffer.read()
    if line.strip():
        pid = int(line)
        end_tree(pid)
        # The child is nobody's now; init reaps it. What a killed compiler was writing is closed only then.
        while _tree(pid):
            time.sleep(0.02)


if __name__ == "__main__":
    _guard()
