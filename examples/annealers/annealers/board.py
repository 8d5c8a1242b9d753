"""The board: judges tours and remembers the best. Believes nobody: every length on it was computed here."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from annealers.tsp import Instance

MOST_AGENTS = 64
LONGEST_NAME = 63


class Unfit(ValueError):
    """What was submitted is no tour by a known name; the message is the reason."""


@dataclass(frozen=True)
class Standing:
    """The state of the contest at one moment. Length None: nobody handed in a tour yet."""

    tour: tuple[int, ...] = ()
    length: int | None = None
    agent: str = ""
    judged: int = 0
    lengths: dict[str, int] = field(default_factory=dict)


class Board:
    """Safe to use from any thread."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._lock = threading.Lock()
        self._standing = Standing()

    @property
    def standing(self) -> Standing:
        return self._standing

    def submit(self, agent: object, candidate: object) -> int:
        """The length of the tour; raises Unfit."""
        if not isinstance(agent, str) or not 0 < len(agent) <= LONGEST_NAME:
            raise Unfit("agent must be a name")
        if not self.instance.is_tour(candidate) or not isinstance(candidate, list | tuple):
            raise Unfit(f"tour must visit each of the {len(self.instance.cities)} cities exactly once")
        length = self.instance.length(candidate)
        with self._lock:
            now = self._standing
            if agent not in now.lengths and len(now.lengths) >= MOST_AGENTS:
                raise Unfit(f"more than {MOST_AGENTS} agents")
            best = now.length is None or length < now.length
            self._standing = Standing(
                tour=tuple(candidate) if best else now.tour,
                length=length if best else now.length,
                agent=agent if best else now.agent,
                judged=now.judged + 1,
                lengths={**now.lengths, agent: min(length, now.lengths.get(agent, length))},
            )
        return length
