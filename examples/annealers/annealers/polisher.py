"""The polisher: takes the best tour once, improves it until no 2-opt move helps, hands it back and is done.

A Transient agent: exit 0 ends it for good, anything else is a failure and is restarted.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence

from annealers import wire
from annealers.tsp import BERLIN52, Instance
from mabeam.agent import Agent

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 1.0

log = logging.getLogger("annealers.polisher")


class Polisher:
    """Works once. Without a tour to work on within its patience it fails, and the supervisor decides."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._url = wire.evaluator_url(os.environ)

    def run(self) -> None:
        tour = self._best_tour(time.monotonic() + PATIENCE_SECONDS)
        if tour is None or self._url is None:
            return
        polished = two_opt(BERLIN52, tour)
        before, after = BERLIN52.length(tour), BERLIN52.length(polished)
        wire.push(self._url, self.agent.identity.agent or "polisher", polished)
        self.agent.progress()
        self.agent.perform(BERLIN52.quality(after))
        log.info("polished a tour of length %d to %d", before, after)

    def _best_tour(self, deadline: float) -> list[int] | None:
        """The best tour, or None when asked to stop; raises TimeoutError at the deadline."""
        why = "no evaluator was told: is its Service older than this pod?"
        with self.agent.waiting(PATIENCE_SECONDS):
            while not self.agent.stopping.is_set():
                try:
                    if self._url is not None and (tour := wire.fetch_best(self._url)) is not None:
                        if BERLIN52.is_tour(tour):
                            return tour
                        why = "what the evaluator has is no tour"
                    elif self._url is not None:
                        why = "the evaluator has no tour yet"
                except (wire.Unreachable, wire.Rejected) as error:
                    why = str(error)
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"no tour to polish after {PATIENCE_SECONDS:.0f} s: {why}")
                self.agent.stopping.wait(PAUSE_SECONDS)
        return None


def two_opt(instance: Instance, tour: Sequence[int]) -> list[int]:
    """The tour, shortened until turning around no part of it would shorten it further."""
    result, distances, size = list(tour), instance.distances, len(tour)
    improved = True
    while improved:
        improved = False
        for i in range(size - 1):
            for j in range(i + 1, size):
                before, a, b, after = result[i - 1], result[i], result[j], result[(j + 1) % size]
                change = distances[before][b] + distances[a][after] - distances[before][a] - distances[b][after]
                # The whole tour turned around is the same tour: before is b, after is a, and no edge changes.
                if change < 0 and before != b:
                    result[i : j + 1] = reversed(result[i : j + 1])
                    improved = True
    return result
