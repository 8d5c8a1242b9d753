"""When which report is read: every period, and in a hurry that calms down while an answer is awaited."""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Timetable:
    """Keys and the times at which they are due: at most `slots` are read at once, and none again before `gap` seconds."""

    slots: int
    first_hurry: float
    gap: float = 0
    _due: dict[str, float] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _hurry: dict[str, float] = field(default_factory=dict)
    _awaited: dict[str, int] = field(default_factory=dict)
    _heap: list[tuple[float, int, str]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)

    def schedule(self, key: str, delay: float = 0) -> None:
        """The key is due after that many seconds, unless it is due sooner."""
        at = asyncio.get_running_loop().time() + delay
        if key in self._began:
            at = max(at, self._began[key] + self.gap)
        if self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))
        self._wakeup.set()

    def hurry(self, key: str, awaiting: int) -> None:
        """Hurry until generation `awaiting` is awaited no more (0); every new one is a new hurry."""
        if awaiting and self._awaited.get(key) != awaiting:
            self._awaited[key] = awaiting
            self._hurry[key] = self.first_hurry
            self.schedule(key, self.first_hurry)
        elif not awaiting:
            self._awaited.pop(key, None)
            self._hurry.pop(key, None)

    def again(self, key: str, period: float) -> None:
        """It was read: the next time is a period from now, or sooner in a hurry."""
        delay = period
        hurry = self._hurry.get(key)
        if hurry is not None:
            delay = min(hurry, period)
            self._hurry[key] = min(hurry * 1.6, period)
        self.schedule(key, delay)

    def drop(self, key: str) -> None:
        """The key is due no more."""
        for book in (self._due, self._began, self._hurry, self._awaited):
            book.pop(key, None)

    async def run(self, read: Callable[[str], Awaitable[None]]) -> None:
        """Read every key when it is due, for ever."""
        loop = asyncio.get_running_loop()
        slots = asyncio.Semaphore(self.slots)
        running: set[asyncio.Future[None]] = set()
        while True:
            while self._heap and self._heap[0][0] <= loop.time():
                at, _, key = heapq.heappop(self._heap)
                if self._due.get(key) != at:
                    continue
                del self._due[key]
                await slots.acquire()
                self._began[key] = loop.time()
                task = asyncio.ensure_future(read(key))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda _: slots.release())
            self._wakeup.clear()
            try:  # not wait_for: up to Python 3.11 it loses a cancellation that comes with the wake-up
                async with asyncio.timeout_at(self._heap[0][0] if self._heap else None):
                    await self._wakeup.wait()
            except TimeoutError:
                continue
