"""Who asked what of the apiserver: its audit log, read by user agent or user."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
STREAMS: Final = frozenset({"watch", "connect"})
_SERVICE_ACCOUNT: Final = b'"username":"system:serviceaccount:kube-system:%s"'

# How each client is recognised in a line of the log, before it is parsed.
CLIENTS: Final = {
    "operator": b'"userAgent":"mabeam/',
    "floor": b'"userAgent":"floor/',
    "benchmark": b'"userAgent":"benchmark/',
    "job controller": _SERVICE_ACCOUNT % b"job-controller",
    "replicaset controller": _SERVICE_ACCOUNT % b"replicaset-controller",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request."""

    verb: str
    resource: str
    code: int
    received: float
    answered: float
    name: str = ""

    @property
    def writes(self) -> bool:
        """Whether it could change something."""
        return self.verb in WRITES


def parse(line: bytes) -> Request | None:
    """The request of a line of the log; None for one that is not about an answer to a request for an object."""
    entry = json.loads(line)
    place = entry.get("objectRef")
    if entry["stage"] != "ResponseComplete" or not place:
        return None
    return Request(
        verb=entry["verb"],
        resource="/".join(part for part in (place["resource"], place.get("subresource")) if part),
        code=int((entry.get("responseStatus") or {}).get("code") or 0),
        received=_seconds(entry["requestReceivedTimestamp"]),
        answered=_seconds(entry["stageTimestamp"]),
        name=place.get("name") or "",
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def tally(requests: Iterable[Request], *, apart: Iterable[str] = ()) -> dict[str, int]:
    """How often each `verb resource` was a write, without those to the resources `apart`."""
    left_out = set(apart)
    kept = (one for one in requests if one.writes and one.resource.split("/")[0] not in left_out)
    return dict(sorted(Counter(f"{one.verb} {one.resource}" for one in kept).items()))


def most_at_once(requests: Iterable[Request]) -> int:
    """The most requests that were in the apiserver's hands at the same instant, streams apart."""
    edges = [edge for one in requests if one.verb not in STREAMS for edge in ((one.received, 1), (one.answered, -1))]
    flying = most = 0
    for _, step in sorted(edges):
        flying += step
        most = max(most, flying)
    return most


def busiest(moments: Iterable[float], seconds: float = 1.0) -> int:
    """The most moments within any span of so many seconds."""
    ordered = sorted(moments)
    first = most = 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def _at_a_line(opened: BinaryIO, position: int) -> int:
    """The file's position, moved on to the next line when a line was being written as the mark was made."""
    opened.seek(max(0, position - 1))
    if position:
        opened.readline()
    return opened.tell()


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the log: in which file, after how many bytes."""

    inode: int
    offset: int


class AuditLog:
    """The log's file, and the ones it was rotated into."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> Mark:
        """The log's end as it is now."""
        status = self.path.stat()
        return Mark(status.st_ino, status.st_size)

    def lines(self, since: Mark, until: Mark | None = None) -> Iterator[bytes]:
        """Every whole line between two marks, through rotations in between."""
        files = sorted(
            self.path.parent.glob(f"{self.path.stem}*{self.path.suffix}"), key=lambda file: file.stat().st_mtime
        )
        inodes = [file.stat().st_ino for file in files]
        if since.inode not in inodes:
            raise RuntimeError("the audit log was rotated away: it keeps too few old files for this measurement")
        for file, inode in list(zip(files, inodes, strict=True))[inodes.index(since.inode) :]:
            position = since.offset if inode == since.inode else 0
            with file.open("rb") as opened:
                position = _at_a_line(opened, position)
                for line in opened:
                    position += len(line)
                    over = until is not None and inode == until.inode and position > until.offset
                    if over or not line.endswith(b"\n"):
                        return
                    yield line

    def requests(self, client: str, since: Mark, until: Mark | None = None) -> list[Request]:
        """What that client (a key of CLIENTS) asked between two marks."""
        needle = CLIENTS[client]
        found = (parse(line) for line in self.lines(since, until) if needle in line)
        return [request for request in found if request is not None]

    async def until_idle(self, *clients: str, seconds: float = 2.0, deadline: float = 120.0) -> None:
        """Returns once none of the clients wrote anything, Leases apart, for so long."""
        end = time.monotonic() + deadline
        mark, last = self.mark(), time.monotonic()
        while time.monotonic() - last < seconds:
            if time.monotonic() > end:
                raise TimeoutError(f"{', '.join(clients)} did not come to rest within {deadline:.0f} s")
            await asyncio.sleep(0.2)
            now = self.mark()
            for client in clients:
                if tally(self.requests(client, mark, now), apart=("leases",)):
                    last = time.monotonic()
            mark = now
