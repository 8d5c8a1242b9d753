"""The straight way to the apiserver, past the proxy: what users, controllers and the invariants's observer do."""

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from support.resources import path_of

JsonDict = dict[str, Any]

MERGE: Final = "application/merge-patch+json"
TIMEOUT: Final = aiohttp.ClientTimeout(total=60)


class Refused(Exception):
    """The apiserver said no: the code, and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Credentials:
    """Where the apiserver is, and how it knows us."""

    server: str
    tls: ssl.SSLContext
    token: str | None = None

    @classmethod
    def of(cls, kubeconfig: Path) -> "Credentials":
        """The current context's, from a kubeconfig with certificates or a token."""
        document = yaml.safe_load(kubeconfig.read_text())
        context = _named(document["contexts"], document["current-context"])["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        user = _named(document["users"], context["user"])["user"]
        authority = _pem(cluster, "certificate-authority")
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
        tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
        if certificate and key:
            with tempfile.NamedTemporaryFile() as both:
                both.write(certificate + b"\n" + key)
                both.flush()
                tls.load_cert_chain(both.name)
        return cls(cluster["server"].rstrip("/"), tls, user.get("token"))

    def session(self) -> aiohttp.ClientSession:
        """A session that authenticates; decompression is left to whoever asked for compression."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connector = aiohttp.TCPConnector(limit=0, ssl=self.tls)
        return aiohttp.ClientSession(connector=connector, headers=headers, timeout=TIMEOUT)


def _named(entries: list[JsonDict], name: str) -> JsonDict:
    return next(entry for entry in entries if entry["name"] == name)


def _pem(holder: JsonDict, key: str) -> bytes:
    if f"{key}-data" in holder:
        return base64.b64decode(holder[f"{key}-data"])
    return Path(holder[key]).read_bytes() if key in holder else b""


@dataclass
class Api:
    """One namespace, as a user with every right sees it."""

    server: str
    session: aiohttp.ClientSession
    namespace: str
    user_agent: str = "faults"
    _headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._headers = {"User-Agent": self.user_agent, "Accept": "application/json"}

    def path(self, plural: str, name: str = "", sub: str = "") -> str:
        """Where a collection, an object or a subresource of the namespace is."""
        return path_of(self.namespace, plural, name, sub)

    async def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        parameters: Mapping[str, str] | None = None,
    ) -> JsonDict:
        """The apiserver's answer; raises Refused."""
        headers = self._headers | ({"Content-Type": content_type} if body is not None else {})
        data = None if body is None else json.dumps(body).encode()
        async with self.session.request(
            verb, self.server + path, data=data, headers=headers, params=parameters
        ) as response:
            raw = await response.read()
        if response.status >= 400:
            try:
                message = json.loads(raw)["message"]
            except (ValueError, KeyError, TypeError):
                message = raw[:300].decode(errors="replace")
            raise Refused(response.status, f"{verb} {path}: {message}")
        answer: JsonDict = json.loads(raw)
        return answer

    async def get(self, plural: str, name: str) -> JsonDict:
        """The object; raises Refused (404) when there is none."""
        return await self.call("GET", self.path(plural, name))

    async def find(self, plural: str, name: str) -> JsonDict | None:
        """The object, None when there is none."""
        try:
            return await self.get(plural, name)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    async def list(self, plural: str, selector: str = "") -> tuple[list[JsonDict], str]:
        """The objects of a kind, and the collection's resourceVersion."""
        found = await self.call("GET", self.path(plural), parameters={"labelSelector": selector} if selector else None)
        return list(found["items"]), found["metadata"]["resourceVersion"]

    async def create(self, plural: str, body: JsonDict) -> JsonDict:
        """The object as created."""
        return await self.call("POST", self.path(plural), body)

    async def patch(self, plural: str, name: str, body: JsonDict, sub: str = "") -> JsonDict:
        """The object after a JSON merge patch, of a subresource if one is named."""
        return await self.call("PATCH", self.path(plural, name, sub), body, MERGE)

    async def delete(self, plural: str, name: str, **options: Any) -> JsonDict:
        """What the apiserver says to a deletion."""
        return await self.call("DELETE", self.path(plural, name), options or None)

    async def watch(self, plural: str, version: str, seconds: int = 300) -> AsyncIterator[JsonDict]:
        """The events after a resourceVersion, until the apiserver ends the stream; raises Refused on an ERROR event."""
        parameters = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        quiet = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self.session.get(
            self.server + self.path(plural), params=parameters, headers=self._headers, timeout=quiet
        ) as response:
            if response.status >= 400:
                raise Refused(response.status, f"watch {plural}")
            async for line in lines_of(response.content):
                event: JsonDict = json.loads(line)
                if event["type"] == "ERROR":
                    raise Refused(int(event["object"].get("code", 500)), f"watch {plural}")
                yield event


async def lines_of(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a watch stream as they come in, whatever their length, each with its line end."""
    rest = b""
    async for part in stream.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line + b"\n"
