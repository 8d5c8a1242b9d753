"""Report servers that mean harm, on loopback, and the operator's own reader: `python -m faults.hostile_reports CASE WAY`.

The way is `direct`, from the pod's IP, or `apiserver`, through its pod proxy, which hands on whatever a pod answers. Beside
every hostile server stands a healthy one: it must be read on, whatever the other does. Run as a process of its own, so that
the memory measured is the reader's.
"""

import asyncio
import json
import ssl
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psutil
from kubernetes.aio.client.configuration import Configuration

from mabeam.core.reports.report import MAX_PROBLEM_LENGTH, MAX_PROBLEMS, Report
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.connection import Connection
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.reports.targets import Target
from support.builders import a_pod, an_agent

WAYS: Final = ("direct", "apiserver")
PERIOD_SECONDS: Final = 0.2
RUN_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 3.0
# What must have been seen before the case is over, whatever the machine is busy with.
HOSTILE_READS: Final = 3
HEALTHY_READS: Final = 10
MAX_GROWTH_MB: Final = 24.0
MAX_LAG_SECONDS: Final = 1.0

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


# --- servers ------------------------------------------------------------------------------------------------------------


def _answer(body: bytes, *headers: str, status: str = "200 OK") -> Serve:
    async def serve(writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return serve


def _endless(head: bytes, part: bytes, pause: float = 0) -> Serve:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return serve


async def _silence(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def _cut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(b"\0" * (1 << 20)) for _ in range(200)]
    return b"".join(parts) + packer.flush()


def _head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode() + b"\r\n"


OK: Final = _head("HTTP/1.1 200 OK", "Connection: close", "")
CHUNKED: Final = _head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "")
OPEN: Final = _head("HTTP/1.1 200 OK")
BID: Final = b'mabeam_bid{variable="t"} 1\n'
NUMBERS: Final = (
    "NaN", "+Inf", "-Inf", "1e309", "-1e309", "9" * 5000, "1e" + "9" * 300, "0x1", "1_000", "١٢٣", "--1", "", "1e-999999999",
)  # fmt: skip
# What is read although it is odd: all that the other cases say is bad, and nothing of it may count.
BELIEVED: Final = frozenset({"unknown-charset", "endless-body", "length-too-long", "numbers"})


def _preferences() -> bytes:
    return "".join(f'mabeam_preference{{variable="t{i}"}} {n}\n' for i, n in enumerate(NUMBERS)).encode()


def _series(count: int) -> bytes:
    return "".join(f'mabeam_bid{{variable="{i}"}} 1\n' for i in range(count)).encode()


CASES: Final[Mapping[str, Serve]] = {
    "endless-body": _endless(OK, BID * 2000),
    "endless-line": _endless(OK, b"a" * 65_536),
    "endless-chunks": _endless(CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
    "endless-headers": _endless(OPEN, b"X-More: " + b"y" * 4000 + b"\r\n"),
    "endless-continue": _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "endless-chunk-extension": _endless(CHUNKED + b"1;", b"e" * 65_536),
    "slow-drip": _endless(OK, b"m", 0.05),
    "slow-headers": _endless(OPEN, b"X: y\r\n", 0.05),
    "silence": _silence,
    "cut": _cut,
    "redirect": _answer(b"", "Location: http://169.254.169.254/latest/meta-data/", status="302 Found"),
    "redirect-to-file": _answer(b"", "Location: file:///etc/passwd", status="307 Temporary Redirect"),
    "error-with-a-body": _endless(_head("HTTP/1.1 500 No", "Connection: close", ""), b"x" * 65_536),
    "length-too-long": _endless(OPEN + _head("Content-Length: 999999999999", ""), b"mabeam_bid 1\n", 0.01),
    "length-negative": _endless(OPEN + _head("Content-Length: -5", ""), b"x", 0.01),
    "lengths-that-differ": _endless(OPEN + _head("Content-Length: 5", "Content-Length: 6", ""), b"x", 0.01),
    "not-http": _endless(b"220 mail ESMTP\r\n", b"\x00\xff\r\n", 0.01),
    "compressed-bomb": _answer(_bomb(), "Content-Encoding: gzip"),
    "utf-16": _answer(BID.decode().encode("utf-16"), "Content-Type: text/plain; charset=utf-16"),
    "bytes-that-are-no-text": _answer(bytes(range(256)) * 200),
    "unknown-charset": _answer(BID, "Content-Type: text/plain; charset=klingon"),
    "numbers": _answer(_preferences()),
    "a-hundred-thousand-series": _answer(_series(100_000)),
    "many-series-in-little-room": _answer(b"mabeam_bid{} 1\n" * 4300),
    "many-labels": _answer(b"mabeam_bid{" + b'a="",' * 10_000 + b"} 1\n"),
    "backslashes": _answer(b'mabeam_bid{variable="' + b"\\" * 65_000 + b'"} 1\n'),
    "blanks": _answer(b"mabeam_bid{" + b" " * 65_000 + b"\n"),
    "empty": _answer(b""),
}
HEALTHY: Final = _answer(b'mabeam_preference{variable="t"} 0.5\nmabeam_applied_generation 1\n')


# --- reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What was measured beside one hostile server; `grown_mb` is the most that memory ever grew by."""

    outcomes: Mapping[str, int]
    connections: Mapping[str, int]
    grown_mb: float
    lag_seconds: float
    healthy: Report | None
    hostile: Report | None


@dataclass
class Bench:
    """The two servers behind one port, measured apart by what is asked for, and the reader's figures."""

    case: str
    connections: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request as the server that it names."""
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            name = "hostile" if b"hostile" in asked.partition(b"\r\n")[0] else "healthy"
            self.connections[name] += 1
            await (CASES[self.case] if name == "hostile" else HEALTHY)(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def read_enough(self) -> bool:
        """Whether both servers were read so often that the case can be judged."""
        return self.connections["hostile"] > HOSTILE_READS and self.outcomes["ok"] >= HEALTHY_READS

    def target(self, name: str) -> Target:
        """A pod to be read."""
        pod, path = f"{name}-0-1", f"/{name}"
        return Target(f"uid-of-{name}", "team", name, pod, name, "127.0.0.1", self.port, path, PERIOD_SECONDS, 0)


async def watch(case: str, way: str, seconds: float = RUN_SECONDS) -> Seen:
    """Read a hostile and a healthy server until both were read often enough, or for so many seconds."""
    bench = Bench(case)
    server = await asyncio.start_server(bench.handle, "127.0.0.1", 0)
    bench.port = server.sockets[0].getsockname()[1]
    here = f"http://127.0.0.1:{bench.port}"
    connection = Connection(here, ssl.create_default_context(), Configuration(), False, "a hostile report")
    async with Client(connection) as cluster:
        through = way == "apiserver"
        reports = ReportReader(cluster, through, lambda *_: None, lambda outcome: bench.outcomes.update([outcome]))
        for name in ("hostile", "healthy"):
            reports.follow(an_agent(name), [bench.target(name)], awaiting=0)
        reading = asyncio.create_task(reports.run())
        grown, lag = await _measured(bench, reading, seconds)
        pods = [a_pod(f"{name}-0-1", uid=name) for name in ("hostile", "healthy")]
        latest = reports.of_pods(pods)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    server.close()
    healthy, hostile = latest.get("healthy-0-1"), latest.get("hostile-0-1")
    return Seen(dict(bench.outcomes), dict(bench.connections), grown, lag, healthy, hostile)


async def _measured(bench: Bench, reading: "asyncio.Task[None]", seconds: float) -> tuple[float, float]:
    """By how many MB memory grew at most, and how long the event loop stood still at most."""
    clock, process = asyncio.get_running_loop().time, psutil.Process()
    began, before = clock(), process.memory_info().rss
    grown = lag = 0.0
    while (now := clock()) < began + seconds:
        await asyncio.sleep(0.05)
        lag = max(lag, clock() - now - 0.05)
        grown = max(grown, (process.memory_info().rss - before) / 1e6)
        if bench.read_enough and now > began + SETTLE_SECONDS:
            break
        assert not reading.done(), f"the reader ended: {reading}"
    return grown, lag


# --- judging ------------------------------------------------------------------------------------------------------------


def judged(seen: Seen, case: str) -> list[str]:
    """What is wrong with what was seen; empty when nothing is."""
    healthy, hostile = seen.healthy or Report(), seen.hostile or Report()
    asked = {name: seen.connections.get(name, 0) for name in ("hostile", "healthy")}
    long = [problem for problem in hostile.problems if len(problem) > MAX_PROBLEM_LENGTH]
    wrong = {
        f"the outcomes are {seen.outcomes}": seen.outcomes.get("ok", 0) < HEALTHY_READS,
        f"the healthy server was asked {asked['healthy']} times": asked["healthy"] < HEALTHY_READS,
        f"the healthy report is {healthy}": healthy.numbers != {"t": 0.5} or bool(healthy.problems),
        f"the hostile server was asked {asked['hostile']} times": asked["hostile"] <= HOSTILE_READS,
        f"memory grew by {seen.grown_mb:.0f} MB": seen.grown_mb > MAX_GROWTH_MB,
        f"the loop stood still for {seen.lag_seconds:.1f} s": seen.lag_seconds > MAX_LAG_SECONDS,
        "the problems outgrew their bounds": len(hostile.problems) > MAX_PROBLEMS or bool(long),
        f"believed {hostile} of {case}": case not in BELIEVED and bool(hostile.numbers or hostile.bids),
    }
    return [words for words, holds in wrong.items() if holds]


def main(case: str, way: str) -> int:
    """Print what was seen as JSON; 1 when something is wrong."""
    seen = asyncio.run(watch(case, way))
    wrong = judged(seen, case)
    measured: dict[str, Any] = {
        "wrong": wrong,
        "outcomes": seen.outcomes,
        "grownMB": seen.grown_mb,
        "lagSeconds": seen.lag_seconds,
        "problems": list(seen.hostile.problems) if seen.hostile else None,
    }
    print(json.dumps(measured))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
