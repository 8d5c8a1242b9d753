"""When which report is read: every period, and in a hurry that calms down while an answer is awaited."""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class PollSchedule:
    """Keys and the times at which they are due: at most `slots` are read at once, and none again before `gap` seconds."""

    concurrency: int
    first_fast_seconds: float
    min_gap_seconds: float = 0
    _due: dict[str, float] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _fast_delay: dict[str, float] = field(default_factory=dict)
    _awaited_generation: dict[str, int] = field(default_factory=dict)
    _heap: list[tuple[float, int, str]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)

    def schedule(self, key: str, delay: float = 0) -> None:
        """The key is due after that many seconds, unless it is due sooner."""
        at = asyncio.get_running_loop().time() + delay
        if key in self._began:
            at = max(at, self._began[key] + self.min_gap_seconds)
        if self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))
        self._wakeup.set()

    def expedite(self, key: str, awaiting: int) -> None:
        """Hurry until generation `awaiting` is awaited no more (0); every new one is a new hurry."""
        if awaiting and self._awaited_generation.get(key) != awaiting:
            self._awaited_generation[key] = awaiting
            self._fast_delay[key] = self.first_fast_seconds
            self.schedule(key, self.first_fast_seconds)
        elif not awaiting:
            self._awaited_generation.pop(key, None)
            self._fast_delay.pop(key, None)

    def reschedule(self, key: str, period: float) -> None:
        """It was read: the next time is a period from now, or sooner in a hurry."""
        delay = period
        expedite = self._fast_delay.get(key)
        if expedite is not None:
            delay = min(expedite, period)
            self._fast_delay[key] = min(expedite * 1.6, period)
        self.schedule(key, delay)

    def drop(self, key: str) -> None:
        """The key is due no more."""
        for book in (self._due, self._began, self._fast_delay, self._awaited_generation):
            book.pop(key, None)

    async def run(self, read: Callable[[str], Awaitable[None]]) -> None:
        """Read every key when it is due, for ever."""
        loop = asyncio.get_running_loop()
        concurrency = asyncio.Semaphore(self.concurrency)
        running: set[asyncio.Future[None]] = set()
        while True:
            while self._heap and self._heap[0][0] <= loop.time():
                at, _, key = heapq.heappop(self._heap)
                if self._due.get(key) != at:
                    continue
                del self._due[key]
                await concurrency.acquire()
                self._began[key] = loop.time()
                task = asyncio.ensure_future(read(key))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda _: concurrency.release())
            self._wakeup.clear()
            try:  # not wait_for: up to Python 3.11 it loses a cancellation that comes with the wake-up
                async with asyncio.timeout_at(self._heap[0][0] if self._heap else None):
                    await self._wakeup.wait()
            except TimeoutError:
                continue
