"""An HTTPS server at home, with an authority of its own: what a webhook is in the tests."""

import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and a server's certificate by it for localhost and 127.0.0.1."""

    ca: str
    certificate: Path
    key: Path

    @property
    def context(self) -> ssl.SSLContext:
        """What a server needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def an_authority(folder: Path) -> Authority:
    """A new one, made by openssl; its files are in the folder."""
    ca, ca_key, certificate, key = (folder / name for name in ("ca.crt", "ca.key", "tls.crt", "tls.key"))
    request, extensions = folder / "tls.csr", folder / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    constraint = ["-addext", "keyUsage=critical,keyCertSign"]
    _openssl(
        "req",
        "-x509",
        *new,
        "-days",
        "2",
        "-subj",
        "/CN=a test's authority",
        *constraint,
        "-keyout",
        ca_key,
        "-out",
        ca,
    )
    _openssl("req", *new, "-subj", "/CN=localhost", "-keyout", key, "-out", request)
    signed = ["-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate]
    _openssl("x509", "-req", "-in", request, *signed)
    return Authority(ca.read_text(), certificate, key)


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


@asynccontextmanager
async def a_server(authority: Authority, handler: Handler) -> AsyncIterator[int]:
    """The port of a server that answers everything by the handler."""
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.context).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
