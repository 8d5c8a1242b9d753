"""The ring: an annealer shows its best tour to whoever asks, and asks its neighbours, one after the other, for theirs.

GET /best (JSON, as the evaluator's)    GET /directives (what the process was told, and what it has of it)

Who is next to whom, the operator says: it knows who runs, and who is parked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from annealers import wire
from mabeam.agent import Peer

PORT = 8081
SECONDS_BETWEEN_VISITS = 1.0

Page = Callable[[], Mapping[str, Any]]

log = logging.getLogger("annealers.ring")


@contextlib.contextmanager
def shown(port: int, pages: Mapping[str, Page]) -> Iterator[int]:
    """The port on which the pages are served while the block lasts; 0 when it is taken: an annealer can do without."""
    try:
        server = _Server(port, pages)
    except OSError as error:
        log.warning("nothing is shown to neighbours: port %d: %s", port, error.strerror)
        yield 0
        return
    with server:
        threading.Thread(target=server.serve_forever, args=(0.1,), name="ring", daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class Visits:
    """Whose turn it is to be asked, and when."""

    def __init__(self, port: int = PORT) -> None:
        self._port = port
        self._count = 0
        self._last = float("-inf")
        self.heard = 0

    def ask(self, peers: Sequence[Peer], now: float) -> tuple[str, list[int]] | None:
        """The next neighbour's name and best tour; None when it is not time, or nothing was to be had."""
        # Who is to wait for the other's word (`In`) asks nothing, and a peer that is not ready has no address.
        within_reach = [peer for peer in peers if peer.addresses and peer.direction != "In"]
        if not within_reach or now - self._last < SECONDS_BETWEEN_VISITS:
            return None
        self._last = now
        self._count += 1
        peer = within_reach[self._count % len(within_reach)]
        try:
            tour = wire.fetch_best(wire.url_of(peer.addresses[0], self._port))
        except (wire.Unreachable, wire.Rejected) as error:
            log.warning("no tour from %s: %s", peer.name, error)
            return None
        if tour is None:
            return None
        self.heard += 1
        return peer.name, tour


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, pages: Mapping[str, Page]) -> None:
        self.pages = pages
        super().__init__(("", port), _Request)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks DNS for the host's full name, and hangs in a pod that has no DNS.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a neighbour went away", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = 3.0

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        status, document = (200, page()) if page else (404, {"error": f"ask for {' or '.join(self.server.pages)}"})
        body = (json.dumps(document) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        pass
