"""Calls of functions behind HTTPS, whose servers may be slow, hostile, or none that a user may reach.

One POST within the variable's timeout; no redirect, proxy or cookie, and none of the operator's credentials. The host must not
resolve to an address of the node itself: a variable must not become a way to what listens there.
"""

import asyncio
import base64
import binascii
import json
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from mabeam.api.names import GROUP, VERSION
from mabeam.core.functions import FunctionCall, FunctionResult
from mabeam.evaluation.results import InvalidResult, failed_result, parse_result
from mabeam.shell.kube.client import read_bounded
from mabeam.shell.kube.errors import error_text
from mabeam.shell.safe_address import is_safe

MAX_ANSWER_BYTES: Final = 256 * 1024
API_VERSION: Final = f"{GROUP}/{VERSION}"
HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "mabeam",
}

OnLookup = Callable[[Future[Any]], None]


class _Refused(OSError):
    """The host must not be called. An OSError, because aiohttp's connector passes on no other exception."""


@dataclass
class _Resolver(AbstractResolver):
    """Resolves a name by the system, and raises _Refused when one of its addresses is the node's own.

    The connection goes to an address that was checked. Names are looked up in threads of their own: a slow one must not keep the
    operator from resolving its apiserver.
    """

    threads: Executor
    allow_loopback: bool
    on_lookup: OnLookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        lookup = self.threads.submit(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        self.on_lookup(lookup)  # its thread goes on when the wait for it ends
        found = await asyncio.wrap_future(lookup)
        results: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            ip = str(address[0])
            _check(host, ip.partition("%")[0], self.allow_loopback)
            results.append(
                ResolveResult(
                    hostname=host, host=ip, port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is kept."""


def _check(host: str, ip: str, allow_loopback: bool) -> None:
    if not is_safe(ip, allow_loopback=allow_loopback):
        raise _Refused(f"{host} is {ip}, an address of the node itself, which is never asked")


@dataclass
class Webhooks:
    """Calls webhooks; `allow_loopback` is for tests, whose servers listen there."""

    threads: Executor
    allow_loopback: bool = False

    async def answer(self, ask: FunctionCall, on_lookup: OnLookup = lambda lookup: None) -> FunctionResult:
        """The webhook's result, or a failure with its reason; raises nothing. `on_lookup` gets each look-up of a name."""
        try:
            body = json.dumps({**ask.inputs, "apiVersion": API_VERSION, "kind": "CoordinationRequest"}, allow_nan=False)
            resolver = _Resolver(self.threads, self.allow_loopback, on_lookup)
            url = _address(ask.text, self.allow_loopback)
            return await self._post(url, _trust(ask.ca_bundle), body.encode(), ask, resolver)
        except TimeoutError:
            return failed_result(f"no answer within {ask.timeout_seconds:g} s", timed_out=True)
        except InvalidResult as problem:
            return failed_result(f"the answer cannot be used: {problem}")
        except aiohttp.ClientConnectorDNSError as problem:
            return failed_result(str(problem.os_error if isinstance(problem.os_error, _Refused) else problem))
        except (aiohttp.ClientError, OSError, ValueError, RecursionError) as problem:
            return failed_result(error_text(problem))

    async def _post(
        self, url: URL, trust: ssl.SSLContext, body: bytes, ask: FunctionCall, resolver: _Resolver
    ) -> FunctionResult:
        connector = aiohttp.TCPConnector(ssl=trust, resolver=resolver, use_dns_cache=False, force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=ask.timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            ) as session,
            session.post(url, data=body, headers=HEADERS, allow_redirects=False) as response,
        ):
            if 300 <= response.status < 400:
                raise InvalidResult(f"HTTP {response.status}, and no redirect is followed")
            if response.status != 200:
                raise InvalidResult(f"HTTP {response.status}, not 200")
            raw = await read_bounded(response.content, MAX_ANSWER_BYTES + 1)
            if len(raw) > MAX_ANSWER_BYTES:
                raise InvalidResult(f"it has more than {MAX_ANSWER_BYTES} bytes")
            return parse_result(raw)


def _address(text: str, allow_loopback: bool) -> URL:
    url = URL(text)
    if url.scheme != "https" or not url.host:
        raise ValueError("a webhook's URL must begin with https:// and a host")
    if url.user is not None or url.password is not None:
        raise ValueError("a webhook's URL must not carry a user or a password")
    host = url.host.rstrip(".").partition("%")[0]
    if ":" in host or host.replace(".", "").isdigit():  # an address by itself is not looked up
        _check(url.host, host, allow_loopback)
    return url


@lru_cache(maxsize=64)
def _trust(ca_bundle: str | None) -> ssl.SSLContext:
    """The TLS context that verifies the server's certificate: by the bundle alone, else by the system's authorities."""
    if ca_bundle is None:
        return ssl.create_default_context()
    pem = ca_bundle
    if "-----BEGIN" not in pem:  # base64, as in Kubernetes' own webhook configurations
        try:
            pem = base64.b64decode("".join(pem.split()), validate=True).decode("ascii")
        except (binascii.Error, ValueError):
            raise ValueError("caBundle is neither PEM nor base64 of PEM") from None
    try:
        if "-----BEGIN" not in pem:  # `ssl` takes an empty text for the system's authorities
            raise ValueError
        return ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise ValueError("caBundle holds no certificate") from None
