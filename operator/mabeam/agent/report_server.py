"""The report server: the agent's samples as OpenMetrics text at /metrics, and whether the agent is ready at /readyz.

Whoever reaches the pod reaches this server, so it serves two paths and one method, reads no body, and bounds the time and
the number of connections. Requests are not logged: there is one every few seconds.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from mabeam.agent.connections import CONNECTION_SECONDS, MAX_CONNECTIONS, OpenConnections, close_copy
from mabeam.agent.samples import Family

# How long to wait before accepting again where the process has no descriptor left.
ACCEPT_RETRY_SECONDS = 0.2
# The operator drops a larger report whole, so its author gets a warning.
MAX_REPORT_BYTES = 64 * 1024

Families = Iterable[tuple[str, Family, list[tuple[dict[str, str], float]]]]

_TEXT = "text/plain; charset=utf-8"

log = logging.getLogger("mabeam.agent")


def exposition(families: Callable[[], Families]) -> Callable[[], bytes]:
    """A function that renders the current families as OpenMetrics text, ending with `# EOF`."""
    # A separate registry: the default one adds samples about the process, which are not part of the contract.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families))

    def render() -> bytes:
        text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
        return text

    return render


class _Collector(Collector):
    def __init__(self, families: Callable[[], Families]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, family, samples in self._families():
            metric = Metric(name, family.help, family.type)
            # OpenMetrics names a counter's sample <family>_total; the family's own name goes without.
            sample_name = f"{name}_total" if family.type == "counter" else name
            for labels, value in samples:
                metric.add_sample(sample_name, labels, value)
            yield metric


class ReportServer:
    """Serves the report and the readiness on a daemon thread, as a context manager. Port 0: any free port."""

    def __init__(self, port: int, families: Callable[[], Families], is_ready: Callable[[], bool]) -> None:
        self.port = port
        self._render = exposition(families)
        self._is_ready = is_ready

    def __enter__(self) -> ReportServer:
        """This server, listening; raises OSError when the port is taken."""
        self._server = _Server(self.port, self._render, self._is_ready)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve, name="mabeam-report", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.end()
        self._thread.join(timeout=1)

    def leave_in_child(self) -> None:
        """In a child made by fork: the parent alone serves, and the child keeps none of its sockets open."""
        self._server.leave_in_child()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # The default of 5 overflows in a small burst, and TCP retries only after a second.
    request_queue_size = 4 * MAX_CONNECTIONS

    def __init__(self, port: int, render: Callable[[], bytes], is_ready: Callable[[], bool]) -> None:
        self._render = render
        self.is_ready = is_ready
        self.connections = OpenConnections()
        self._warned = False
        self._ended = threading.Event()
        # A pod's address may be of either family: one socket for both, where the kernel has IPv6 at all.
        both = socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both else socket.AF_INET
        super().__init__(("::" if both else "0.0.0.0", port), _Request)  # noqa: S104  (scraped at the pod's IP)

    def serve(self) -> None:
        """Handle requests until `end`. Not `serve_forever`, which wakes up twice a second to check whether it has to stop."""
        while not self._ended.is_set():
            self.timeout = self.connections.seconds_to_deadline()
            self.handle_request()
            self.connections.drop_expired()
        self.server_close()

    def end(self) -> None:
        """Make `serve` return: shutting the listening socket down wakes the thread that waits for it."""
        self._ended.set()
        # Where the system refuses (macOS does), the daemon thread ends with the process.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def leave_in_child(self) -> None:
        """Close the copies that a child made by fork has; shutting them down would reach the parent's."""
        self.connections.leave_in_child()
        close_copy(self.socket)

    def report(self) -> bytes | None:
        """The current report, None when it cannot be rendered; the first one that is too large or fails is logged."""
        try:
            body = self._render()
        except Exception:
            self._warn(logging.ERROR, "the report cannot be rendered", exc_info=True)
            return None
        if len(body) > MAX_REPORT_BYTES:
            self._warn(
                logging.WARNING, "the report is %d bytes; more than %d are not read", len(body), MAX_REPORT_BYTES
            )
        return body

    def _warn(self, level: int, text: str, *values: object, exc_info: bool = False) -> None:
        if not self._warned:
            self._warned = True
            log.log(level, text, *values, exc_info=exc_info)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's: it asks DNS for the host's full name, and hangs in a pod that has no DNS.
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            # Without a free descriptor the connection stays in the queue, and the next look would find it at once.
            self._ended.wait(ACCEPT_RETRY_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.connections.remove(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.remove(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        level = logging.DEBUG if error is None or isinstance(error, OSError | ValueError) else logging.ERROR
        log.log(level, "a request for the report failed", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = CONNECTION_SECONDS

    def do_GET(self) -> None:
        self.server.connections.answering(self.connection)
        path = self.path.partition("?")[0]
        if path == "/metrics":
            if (body := self.server.report()) is None:
                self._reply(500, _TEXT, b"the report cannot be rendered; the agent's log has the reason\n")
            else:
                self._reply(200, CONTENT_TYPE_LATEST, body)
        elif path == "/readyz":
            ready = self.server.is_ready()
            self._reply(
                200 if ready else 503, _TEXT, b"ready\n" if ready else b"not ready: the agent is being set up\n"
            )
        else:
            self._reply(404, _TEXT, b"only /metrics and /readyz are served here\n")

    def _reply(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "mabeam-agent"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        pass
