"""The controllers of the arena, each a real process: the operator of this tree or of another, and the floor under both."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from benchmarks.arena.cluster import OPERATOR_NAMESPACE, ROOT
from benchmarks.arena.floor import READY

_SAMPLE: Final = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")
READY_DEADLINE: Final = 120.0

Metrics = dict[str, dict[str, float]]


def read_metrics(text: str) -> Metrics:
    """Each metric's samples by their labels, as the operator's /metrics wrote them."""
    found: Metrics = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            found.setdefault(match[1], {})[match[2] or ""] = float(match[3])
    return found


def total(metrics: Metrics, name: str, *labels: str) -> float:
    """The sum of a metric's samples whose labels hold all of these; 0 when there is none."""
    return sum(value for known, value in metrics.get(name, {}).items() if all(label in known for label in labels))


@dataclass(frozen=True)
class Usage:
    """What a process has used so far."""

    cpu: float
    rss: int


def usage(pid: int) -> Usage:
    """CPU seconds and resident bytes of a process, from /proc."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    return Usage(times.user + times.system, process.memory_info().rss)


class Operator:
    """The operator's process: `python -m mabeam run` of a checkout, cluster-wide, its settings the default ones."""

    client = "operator"  # as the audit log knows it

    def __init__(self, kubeconfig: Path, log: Path, checkout: Path = ROOT) -> None:
        self._kubeconfig, self._log, self._checkout = kubeconfig, log, checkout
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.started = 0.0
        self._log_start = 0

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The running process; an error when there is none, or none any more."""
        if self._process is None:
            raise RuntimeError("the operator was not started")
        if self._process.poll() is not None:
            raise RuntimeError(f"the operator ended with {self._process.returncode}:\n{self.text()}")
        return self._process

    @property
    def runs(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def usage(self) -> Usage:
        """What it has used so far."""
        return usage(self.process.pid)

    def start(self) -> None:
        """Start it, and return at once."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MABEAM_")}
        environment |= {
            "KUBECONFIG": str(self._kubeconfig),
            "PYTHONPATH": str(self._checkout / "operator"),
            # Where it listens and keeps its Lease, and a name that survives a restart as a container's does.
            "MABEAM_HTTP_PORT": str(self.port),
            "MABEAM_LEASE_NAMESPACE": OPERATOR_NAMESPACE,
            "MABEAM_IDENTITY": "benchmark",
        }
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                self._command(), env=environment, stdout=log, stderr=log, cwd=self._checkout
            )

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "mabeam", "run"]

    def kill(self) -> None:
        """End it as the kernel does when memory is short."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> None:
        """End it as a Deployment does."""
        if not self.runs:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    async def metrics(self) -> Metrics:
        """Its own /metrics; empty while it does not answer."""
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self.port}/metrics") as answer,
            ):
                return read_metrics(await answer.text())
        except (aiohttp.ClientError, TimeoutError):
            return {}

    async def until(self, what: str, look: Callable[[Metrics], bool], deadline: float = READY_DEADLINE) -> float:
        """The moment at which its metrics said so, to 50 ms; raises when it ends, or after so many seconds."""
        end = time.monotonic() + deadline
        while True:
            seen = await self.metrics()
            if seen and look(seen):
                return time.monotonic()
            if time.monotonic() > end or not self.runs:
                raise TimeoutError(f"not within {deadline:.0f} s: {what}; the operator's log ends:\n{self.text()}")
            await asyncio.sleep(0.05)

    async def until_leading(self) -> float:
        """The moment at which it began to decide."""
        return await self.until("the operator leads", lambda seen: total(seen, "mabeam_leader") == 1)

    def text(self) -> str:
        """The end of its log since it was started."""
        return self._log.read_bytes()[self._log_start :].decode(errors="replace")[-3000:]


class Floor(Operator):
    """The client of `floor.py`: it writes what an Agent costs and decides nothing."""

    client = "floor"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.arena.floor", str(self._kubeconfig)]

    async def until_leading(self) -> float:
        """The moment at which it watched; raises when it ends, or after two minutes."""
        end = time.monotonic() + READY_DEADLINE
        while not self.text().endswith(f"{READY}\n"):
            if time.monotonic() > end or not self.runs:
                raise TimeoutError(f"the floor does not watch; its log ends:\n{self.text()}")
            await asyncio.sleep(0.05)
        return time.monotonic()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
