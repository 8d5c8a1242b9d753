"""The evaluator: checks every tour it is handed, keeps the best, and shows it.

POST /tour {"agent": …, "tour": […]}    GET /best (JSON)    GET /tour.svg (a picture)    GET / (a page that follows it)
"""

from __future__ import annotations

import json
import logging
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from annealers.board import Board, Unfit
from annealers.picture import svg
from annealers.tsp import BERLIN52
from mabeam.agent import Agent

PORT = 8080
LARGEST_BODY = 16 * 1024

PAGE = """<!doctype html><title>berlin52</title><meta http-equiv="refresh" content="2">
<img src="tour.svg" alt="the best tour so far" style="width:100%;max-height:95vh">
"""

log = logging.getLogger("annealers.evaluator")


class Evaluator:
    """The judge of the team. Its performance is that of the team's best tour; its progress counts the tours judged."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.board = Board(BERLIN52)
        # Not EVALUATOR_PORT: next to a Service called evaluator, Kubernetes would set that to a URL.
        self.port = int(os.environ.get("EVALUATOR_LISTEN_PORT", PORT))

    def run(self) -> None:
        with _Server(self) as server:
            self.port = server.server_address[1]
            threading.Thread(target=server.serve_forever, args=(0.1,), name="evaluator", daemon=True).start()
            log.info("judging tours of %s on port %d", BERLIN52.name, self.port)
            while not self.agent.stopping.is_set():
                # Without tours there is nothing to judge: waiting, not hanging.
                with self.agent.waiting(10):
                    self.agent.stopping.wait(5)
            server.shutdown()

    def judge(self, agent: object, candidate: object) -> int:
        """The length of a tour that was handed in; raises Unfit."""
        before = self.board.standing.length
        length = self.board.submit(agent, candidate)
        self.agent.progress()
        best = self.board.standing.length
        if best is not None and best != before:
            self.agent.perform(BERLIN52.quality(best))
            log.info("best tour: %d, by %s", best, self.board.standing.agent)
        return length

    def best(self) -> dict[str, Any]:
        """The standing, as it is served."""
        standing = self.board.standing
        return {
            "instance": BERLIN52.name,
            "optimum": BERLIN52.optimum,
            "length": standing.length,
            "agent": standing.agent or None,
            "tour": list(standing.tour) or None,
            "judged": standing.judged,
            "agents": standing.lengths,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # With the default of 5 a small burst overflows the backlog, and TCP tries again only after a second.
    request_queue_size = 64

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        super().__init__(("", evaluator.port), _Request)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks DNS for the host's full name, and hangs in a pod that has no DNS.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client went away", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = 3.0

    def do_GET(self) -> None:
        evaluator = self.server.evaluator
        path = self.path.partition("?")[0]
        if path == "/best":
            self._json(200, evaluator.best())
        elif path == "/tour.svg":
            self._reply(200, "image/svg+xml", svg(BERLIN52, evaluator.board.standing))
        elif path == "/":
            self._reply(200, "text/html; charset=utf-8", PAGE)
        else:
            self._json(404, {"error": "ask for /best or /tour.svg"})

    def do_POST(self) -> None:
        if self.path != "/tour":
            self._json(404, {"error": "tours are posted to /tour"})
            return
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > LARGEST_BODY:
            self._json(413, {"error": f"a tour has a length, and at most {LARGEST_BODY} bytes"})
            return
        try:
            body = json.loads(self.rfile.read(int(size)))
            if not isinstance(body, dict):
                raise Unfit("not a JSON object")
            length = self.server.evaluator.judge(body.get("agent"), body.get("tour"))
        except (ValueError, RecursionError) as error:
            self._json(422, {"error": str(error)})
        else:
            self._json(200, {"length": length, "best": self.server.evaluator.board.standing.length})

    def _json(self, status: int, document: dict[str, Any]) -> None:
        self._reply(status, "application/json", json.dumps(document) + "\n")

    def _reply(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        pass
