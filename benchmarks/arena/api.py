"""The benchmark's own way to the apiserver: many requests at once, and watches that cost little.

It runs in a process of its own, beside the operator's and the cluster's, and takes the same part in every arm.
"""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from support.async_api import JSON, MERGE_PATCH, Connection, Credentials, JsonDict, Refused

USER_AGENT: Final = "benchmark/1"
PARALLEL: Final = 32
TRIES: Final = 5
TIMEOUT_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be sent."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = JSON


def create(path: str, body: JsonDict) -> Call:
    """The POST of an object."""
    return Call("POST", path, json.dumps(body, separators=(",", ":")).encode())


def patch(path: str, body: JsonDict, content_type: str = MERGE_PATCH) -> Call:
    """A PATCH; a merge patch unless said otherwise."""
    return Call("PATCH", path, json.dumps(body, separators=(",", ":")).encode(), content_type)


class Api:
    """An open line to one apiserver, as the user of the kubeconfig."""

    def __init__(self, kubeconfig: Path, user_agent: str = USER_AGENT) -> None:
        self._credentials = Credentials.of(kubeconfig)
        self.server = self._credentials.server
        self._user_agent = user_agent
        self._open: Connection | None = None

    async def __aenter__(self) -> Self:
        session = self._credentials.session(TIMEOUT_SECONDS)
        self._open = Connection(self.server, session, self._user_agent)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.session.close()

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeError("the line is used before it is open")
        return self._open

    async def send(self, call: Call, parameters: Mapping[str, str] | None = None) -> JsonDict:
        """The apiserver's answer; raises Refused. A 429 is waited out: the load must not depend on luck."""
        for attempt in itertools.count(1):
            try:
                return await self._connection.request(call.method, call.path, call.body, call.content_type, parameters)
            except Refused as refused:
                if refused.status != 429 or attempt == TRIES:
                    raise
                wait = refused.retry_after or 1.0
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def get(self, path: str, **parameters: str) -> JsonDict:
        """An object or a list; raises Refused."""
        return await self.send(Call("GET", path), parameters)

    async def pages(self, path: str, **parameters: str) -> AsyncIterator[JsonDict]:
        """Every object of a collection, in pages."""
        going_on: dict[str, str] = {}
        while True:
            page = await self.get(path, limit="500", **parameters, **going_on)
            for item in page.get("items") or ():
                yield item
            token = page["metadata"].get("continue")
            if not token:
                return
            going_on = {"continue": token}

    async def count(self, path: str, **parameters: str) -> int:
        """How many objects a collection holds."""
        page = await self.get(path, limit="1", **parameters)
        return len(page.get("items") or ()) + int(page["metadata"].get("remainingItemCount") or 0)

    async def send_all(self, calls: Iterable[Call], parallel: int = PARALLEL) -> None:
        """All of them sent, so many at a time; the first refusal ends it."""
        rest = iter(calls)

        async def work() -> None:
            for call in rest:
                await self.send(call)

        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(work())

    async def ensure(self, call: Call) -> None:
        """The object exists, whoever made it."""
        try:
            await self.send(call)
        except Refused as problem:
            if problem.status != 409:
                raise

    async def clear(self, path: str, **parameters: str) -> None:
        """Every object of the collection was asked to go. A request gets a minute at most, so large ones take several."""
        body = json.dumps({"propagationPolicy": "Background"}).encode()
        for attempt in itertools.count(1):
            try:
                await self.send(Call("DELETE", path, body), parameters)
            except Refused as problem:
                if problem.status not in (500, 504) or attempt == TRIES:
                    raise
            else:
                return

    async def watch(self, path: str, version: str, **parameters: str) -> AsyncIterator[bytes]:
        """Each watch event as the apiserver wrote it, one JSON text without its line's end; it never ends by itself.

        The apiserver closes the stream of a watcher that cannot keep up, on a machine that is busy as it is here: then it
        is resumed after the last event that was read.
        """
        asked = {"resourceVersion": version, "timeoutSeconds": "7200", "allowWatchBookmarks": "false", **parameters}
        while True:
            async for line in self._connection.watch(path, asked):
                yield line[:-1]
                newer = _VERSION.search(line)  # the first is the object's own: it comes before all that is nested
                asked["resourceVersion"] = newer[1].decode() if newer else asked["resourceVersion"]

    async def version(self, path: str) -> str:
        """The collection's resourceVersion as it is now, to watch from."""
        page = await self.get(path, limit="1")
        return str(page["metadata"]["resourceVersion"])


_VERSION: Final = re.compile(rb'"resourceVersion":"([0-9]+)"')
