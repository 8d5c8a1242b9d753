"""The asynchronous client of the apiserver that fault campaigns and benchmarks share: credentials, one request, one watch stream.

What a namespace of a campaign (`faults.apiserver`) or the load of a benchmark (`benchmarks.arena.api`) asks is built on it.
Tests that may block use `support.kube`; hack/cluster has its own, because it must not import the operator's tests.
"""

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

JsonDict = dict[str, Any]

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
# A watch is quiet for as long as nothing happens.
WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=20)
_TEXT_CHARACTERS: Final = 300


class Refused(Exception):
    """The apiserver refused a request: the status code, its message, and the seconds of Retry-After (0 without one)."""

    def __init__(self, status: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True)
class Credentials:
    """The address of the apiserver, and the certificate or the token of a user."""

    server: str
    tls: ssl.SSLContext
    token: str | None = None

    @classmethod
    def of(cls, kubeconfig: Path) -> "Credentials":
        """The credentials of a kubeconfig's current context, inline or in files."""
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

    def session(self, timeout_seconds: float = 60) -> aiohttp.ClientSession:
        """A session that authenticates, with any number of connections; a request may take `timeout_seconds`."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connector = aiohttp.TCPConnector(limit=0, ssl=self.tls)
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=20)
        return aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)


def _named(entries: list[JsonDict], name: str) -> JsonDict:
    return next(entry for entry in entries if entry["name"] == name)


def _pem(holder: JsonDict, key: str) -> bytes:
    if f"{key}-data" in holder:
        return base64.b64decode(holder[f"{key}-data"])
    return Path(holder[key]).read_bytes() if key in holder else b""


@dataclass(frozen=True)
class Connection:
    """A session to one apiserver under a user agent, which the audit log tells clients apart by."""

    server: str
    session: aiohttp.ClientSession
    user_agent: str

    async def request(
        self,
        verb: str,
        path: str,
        data: bytes | None = None,
        content_type: str = JSON,
        parameters: Mapping[str, str] | None = None,
    ) -> JsonDict:
        """The decoded answer to one request; raises Refused."""
        headers = {"User-Agent": self.user_agent, "Accept": JSON} | (
            {} if data is None else {"Content-Type": content_type}
        )
        async with self.session.request(
            verb, self.server + path, data=data, headers=headers, params=parameters
        ) as response:
            raw = await response.read()
            if response.status >= 400:
                retry_after = float(response.headers.get("Retry-After", 0))
                raise Refused(response.status, f"{verb} {path}: {_message(raw)}", retry_after)
        answer: JsonDict = json.loads(raw)
        return answer

    async def watch(self, path: str, parameters: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The lines of one watch, each with its line end, until the apiserver ends the stream; raises Refused."""
        headers = {"User-Agent": self.user_agent, "Accept": JSON}
        asked = {"watch": "1", "allowWatchBookmarks": "true", **parameters}
        async with self.session.get(
            self.server + path, params=asked, headers=headers, timeout=WATCH_TIMEOUT
        ) as response:
            if response.status >= 400:
                raise Refused(response.status, f"watch {path}: {_message(await response.read())}")
            async for line in lines_of(response.content):
                yield line


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        return raw[:_TEXT_CHARACTERS].decode(errors="replace")


async def lines_of(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a watch stream as they come in, whatever their length, each with its line end."""
    rest = b""
    async for part in stream.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line + b"\n"
