"""The benchmark's own way to the apiserver: many requests at once, and watches that cost little.

It runs in a process of its own, beside the operator's and the cluster's, and takes the same part in every arm.
"""

import asyncio
import base64
import itertools
import json
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yaml

JsonDict = dict[str, Any]

USER_AGENT: Final = "benchmark/1"
PARALLEL: Final = 32
TRIES: Final = 5
TIMEOUT: Final = aiohttp.ClientTimeout(total=120, connect=20)


class Refused(Exception):
    """A refusal of the apiserver: its status code and text."""

    def __init__(self, status: int, request: str, text: str) -> None:
        super().__init__(f"{status} to {request}: {text[:300]}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be sent."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"


def create(path: str, body: JsonDict) -> Call:
    """The POST of an object."""
    return Call("POST", path, json.dumps(body, separators=(",", ":")).encode())


def patch(path: str, body: JsonDict, content_type: str = "application/merge-patch+json") -> Call:
    """A PATCH; a merge patch unless said otherwise."""
    return Call("PATCH", path, json.dumps(body, separators=(",", ":")).encode(), content_type)


class Api:
    """An open line to one apiserver, as the user of the kubeconfig."""

    def __init__(self, kubeconfig: Path, user_agent: str = USER_AGENT) -> None:
        self.server, self._tls, token = _credentials(yaml.safe_load(kubeconfig.read_text()))
        self._headers = {"User-Agent": user_agent} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._open: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
        self._open = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            raise RuntimeError("the line is used before it is open")
        return self._open

    async def send(self, call: Call, parameters: Mapping[str, str] | None = None) -> JsonDict:
        """The apiserver's answer; raises Refused. A 429 is waited out: the load must not depend on luck."""
        headers = {"Content-Type": call.content_type} if call.body else {}
        for attempt in itertools.count(1):
            async with self._session.request(
                call.method,
                self.server + call.path,
                data=call.body,
                params=parameters,
                headers=headers,
                timeout=TIMEOUT,
            ) as answer:
                raw = await answer.read()
                if answer.status < 400:
                    return json.loads(raw)  # type: ignore[no-any-return]
                if answer.status != 429 or attempt == TRIES:
                    raise Refused(answer.status, f"{call.method} {call.path}", raw.decode(errors="replace"))
                wait = float(answer.headers.get("Retry-After", 1))
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
        asked = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "7200", **parameters}
        forever = aiohttp.ClientTimeout(total=None, sock_connect=20)
        while True:
            async with self._session.get(self.server + path, params=asked, timeout=forever) as answer:
                if answer.status != 200:
                    raise Refused(answer.status, f"watch {path}", await answer.text())
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                        newer = _VERSION.search(
                            line
                        )  # the first is the object's own: it comes before all that is nested
                        asked["resourceVersion"] = newer[1].decode() if newer else asked["resourceVersion"]

    async def version(self, path: str) -> str:
        """The collection's resourceVersion as it is now, to watch from."""
        page = await self.get(path, limit="1")
        return str(page["metadata"]["resourceVersion"])


_VERSION: Final = re.compile(rb'"resourceVersion":"([0-9]+)"')


def _credentials(config: JsonDict) -> tuple[str, ssl.SSLContext, str]:
    """The server's address, the client's certificate and token (either may be missing) from a kubeconfig that has all inline."""
    chosen = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == chosen["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == chosen["user"])
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile() as pem:
            for part in ("client-certificate-data", "client-key-data"):
                pem.write(base64.b64decode(user[part]) + b"\n")
            pem.flush()
            tls.load_cert_chain(pem.name)
    return str(cluster["server"]).rstrip("/"), tls, str(user.get("token", ""))
