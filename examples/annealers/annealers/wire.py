"""The way of a tour: where the evaluator is, and the two things one says to it. Neighbours in the ring are asked alike.

Tours are pushed to the evaluator: an executor knows its Service's address, and the evaluator need not know who anneals.
"""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Kubernetes puts the address of every Service that exists before the pod into its environment, under the Service's
# name: no DNS needed.
SERVICE = "ANNEALERS_EVALUATOR_SERVICE"

CALL_SECONDS = 1.0
LARGEST_ANSWER = 64 * 1024

# A better tour is worth telling at once, but not more often than this; and the best one is told again now and then,
# because an evaluator that was restarted remembers nothing.
FEWEST_SECONDS_BETWEEN_PUSHES = 1.0
MOST_SECONDS_BETWEEN_PUSHES = 10.0


class Unreachable(Exception):
    """Nobody answered, or not in a way that makes sense."""


class Rejected(Exception):
    """The answer was no; the message is its reason."""


def evaluator_url(environ: Mapping[str, str]) -> str | None:
    """Where the evaluator is, or None when nobody said."""
    if url := environ.get("EVALUATOR_URL"):
        return url.rstrip("/")
    host = environ.get(f"{SERVICE}_HOST")
    if not host:
        return None
    return url_of(host, environ.get(f"{SERVICE}_PORT", "8080"))


def url_of(address: str, port: int | str) -> str:
    """The URL of an address of either family."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def push(url: str, agent: str, tour: Sequence[int]) -> None:
    """Hand a tour to the evaluator; raises Unreachable or Rejected."""
    _call(url, "POST", "/tour", {"agent": agent, "tour": list(tour)})


def fetch_best(url: str) -> list[int] | None:
    """The best tour that the evaluator, or a neighbour, has; None while it has none; raises Unreachable or Rejected."""
    tour = _call(url, "GET", "/best", None).get("tour")
    return tour if isinstance(tour, list) else None


def _call(url: str, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=CALL_SECONDS)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read(LARGEST_ANSWER))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"{url}: {error}") from error
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise Unreachable(f"{url}: the answer is no JSON object")
    if response.status >= 400:
        raise Rejected(str(answer.get("error", response.status)))
    return answer


@dataclass
class Schedule:
    """When a tour is due to be pushed."""

    told: int | None = None
    pushed_at: float = float("-inf")

    def due(self, length: int, now: float) -> bool:
        """Whether to push a tour of this length now."""
        better = self.told is None or length < self.told
        since = now - self.pushed_at
        return since >= (FEWEST_SECONDS_BETWEEN_PUSHES if better else MOST_SECONDS_BETWEEN_PUSHES)

    def pushed(self, length: int, now: float) -> None:
        """Remember that the evaluator has this one."""
        self.told, self.pushed_at = length, now

    def failed(self, now: float) -> None:
        """Remember that the evaluator knows nothing, and try again after the longer while."""
        # The longer one also while tours get better: an evaluator that is down is not helped by being asked more.
        self.told, self.pushed_at = 0, now
