"""When each report is read: once a period, and faster while an acknowledgement is awaited."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from mabeam.shell.timer_heap import TimerHeap

# A fast delay grows by this factor with each reading, up to the period.
SLOWING: Final = 1.6


@dataclass
class PollSchedule:
    """Keys and the times at which they are due: `concurrency` of them are read at once, each at most every `min_gap_seconds`."""

    concurrency: int
    first_fast_seconds: float
    min_gap_seconds: float = 0
    _timers: TimerHeap[str] = field(default_factory=TimerHeap)
    _began: dict[str, float] = field(default_factory=dict)  # key → the loop's time at which it was last read
    _fast_delay: dict[str, float] = field(default_factory=dict)  # key → seconds until it is read again, while fast
    _awaited_generation: dict[str, int] = field(default_factory=dict)

    def schedule(self, key: str, delay: float = 0) -> None:
        """Let the key be due after so many seconds, unless it is due sooner."""
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
        for known in (self._began, self._fast_delay, self._awaited_generation):
            known.pop(key, None)

    async def run(self, read: Callable[[str], Awaitable[None]]) -> None:
        """Read every key when it is due, for ever."""
        slots = asyncio.Semaphore(self.concurrency)
        running: set[asyncio.Future[None]] = set()
        while True:
            while (key := self._timers.pop_due()) is not None:
                await slots.acquire()
                self._began[key] = asyncio.get_running_loop().time()
                task = asyncio.ensure_future(read(key))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda _: slots.release())
            await self._timers.wait()
