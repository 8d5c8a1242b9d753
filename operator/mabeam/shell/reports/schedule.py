"""When each report is read: once a period, faster while an acknowledgement is awaited, and in turn when many are due."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from mabeam.shell.timer_heap import TimerHeap

# A fast delay grows by this factor with each reading, up to the period.
SLOWING: Final = 1.6


class LaneQueue:
    """Keys that wait for their turn, each in a lane: the lanes take turns, so that a full one delays only its own keys."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[str]] = {}  # the lane whose turn it is comes first
        self._waiting: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, key: str, lane: str) -> None:
        """Let the key wait in this lane; once, however often it is pushed."""
        if key not in self._waiting:
            self._waiting.add(key)
            self._lanes.setdefault(lane, deque()).append(key)

    def drop(self, key: str) -> None:
        """Let the key wait no more."""
        self._waiting.discard(key)

    def pop(self) -> str | None:
        """The key whose turn it is; None when none waits."""
        while self._lanes:
            lane = next(iter(self._lanes))
            keys = self._lanes.pop(lane)
            key = keys.popleft()
            if keys:
                self._lanes[lane] = keys  # at the end: it is the others' turn
            if key in self._waiting:
                self._waiting.discard(key)
                return key
        return None


@dataclass
class PollSchedule:
    """Keys and the times at which they are due: `concurrency` of them are read at once, each at most every `min_gap_seconds`.

    A read that has no answer after `slow_seconds` counts no more among those: up to `slow_concurrency` of them may go on beside
    the others, so that pods that do not answer delay nobody's reading.
    """

    concurrency: int
    first_fast_seconds: float
    min_gap_seconds: float = 0
    slow_seconds: float = 0.1
    slow_concurrency: int = 0
    _timers: TimerHeap[str] = field(default_factory=TimerHeap)
    _due: LaneQueue = field(default_factory=LaneQueue)
    _lane_of: dict[str, str] = field(default_factory=dict)  # key → its lane; without one the key is a lane of its own
    _running: set[asyncio.Future[None]] = field(default_factory=set)
    _slow: set[asyncio.Future[None]] = field(default_factory=set)  # of `_running`, those that take no slot
    _began: dict[str, float] = field(default_factory=dict)  # key → the loop's time at which it was last read
    _fast_delay: dict[str, float] = field(default_factory=dict)  # key → seconds until it is read again, while fast
    _awaited_generation: dict[str, int] = field(default_factory=dict)

    def schedule(self, key: str, delay: float = 0, lane: str | None = None) -> None:
        """Let the key be due after so many seconds, unless it is due sooner."""
        if lane is not None:
            self._lane_of[key] = lane
        at = asyncio.get_running_loop().time() + delay
        if key in self._began:
            at = max(at, self._began[key] + self.min_gap_seconds)
        self._timers.schedule(key, at)

    def expedite(self, key: str, awaiting: int) -> None:
        """Read the key faster while generation `awaiting` is awaited (0: none); each new generation begins fast again."""
        if awaiting and self._awaited_generation.get(key) != awaiting:
            self._awaited_generation[key] = awaiting
            self._fast_delay[key] = self.first_fast_seconds
            self.schedule(key, self.first_fast_seconds)
        elif not awaiting:
            self._awaited_generation.pop(key, None)
            self._fast_delay.pop(key, None)

    def reschedule(self, key: str, period: float) -> None:
        """Let a key that was read be due again: after its period in seconds, or sooner while it is read fast."""
        delay = period
        fast = self._fast_delay.get(key)
        if fast is not None:
            delay = min(fast, period)
            self._fast_delay[key] = min(fast * SLOWING, period)
        self.schedule(key, delay)

    def drop(self, key: str) -> None:
        """Let the key be due no more."""
        self._timers.cancel(key)
        self._due.drop(key)
        for known in (self._began, self._fast_delay, self._awaited_generation, self._lane_of):
            known.pop(key, None)

    async def run(self, read: Callable[[str], Awaitable[None]]) -> None:
        """Read every key when it is due, for ever."""
        while True:
            while (due := self._timers.pop_due()) is not None:
                self._due.push(due, self._lane_of.get(due, due))
            while self._has_slot() and (key := self._due.pop()) is not None:
                self._start(key, read)
            await self._timers.wait()

    def _has_slot(self) -> bool:
        return len(self._running) - len(self._slow) < self.concurrency

    def _start(self, key: str, read: Callable[[str], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        self._began[key] = loop.time()
        task = asyncio.ensure_future(read(key))
        self._running.add(task)
        task.add_done_callback(self._ended)
        if self.slow_concurrency:
            loop.call_later(self.slow_seconds, self._count_as_slow, task)

    def _count_as_slow(self, task: asyncio.Future[None]) -> None:
        if task in self._running and len(self._slow) < self.slow_concurrency:
            self._slow.add(task)
            self._timers.wake()

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._running.discard(task)
        self._slow.discard(task)
        self._timers.wake()
