"""Keys and the time at which each is due: a heap with lazy deletion, and one wait for the earliest of them."""

import asyncio
import heapq
import itertools
from typing import Final, Generic, TypeVar

K = TypeVar("K")

# Entries of the heap that are out of date are dropped once there are so many more of them than keys.
SLACK: Final = 64


class TimerHeap(Generic[K]):
    """The next time of each key, in seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()  # keys need not be comparable
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, key: K, at: float) -> None:
        """Let the key be due at `at`; an earlier time stays, a later one gives way."""
        if self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))
        if len(self._heap) > 2 * len(self._due) + SLACK:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        self._changed.set()

    def cancel(self, key: K) -> None:
        """Let the key be due no more."""
        self._due.pop(key, None)

    def pop_due(self) -> K | None:
        """The earliest key whose time has come, taken off; None when none is due yet."""
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:  # else its time was moved, or it was cancelled
                del self._due[key]
                return key
        return None

    def next_due(self) -> float | None:
        """The time at which the earliest key is due; None without keys."""
        return min(self._due.values(), default=None)

    async def wait(self) -> None:
        """Return when the earliest key may be due, or after `schedule` or `wake`."""
        self._changed.clear()
        try:  # not wait_for: up to Python 3.11 it loses a cancellation that comes with the wake-up
            async with asyncio.timeout_at(self._heap[0][0] if self._heap else None):
                await self._changed.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        """End a `wait` now."""
        self._changed.set()
