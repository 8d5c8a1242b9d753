"""The keyed work queue: a key waits once, is worked on by one worker, comes back when it was touched meanwhile.

The rules of client-go's workqueue (dedupe, delay, rate limit), on asyncio, with one timer instead of a task per delay.
kopf logs and drops what fails in an event handler, so retry, backoff and delay live here.
"""

import asyncio
import heapq
import itertools
from collections import deque
from typing import Final

from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.snapshot import Key

FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 60.0


class WorkQueue:
    """Keys to be worked on; unbounded, as there is at most one entry per object."""

    def __init__(self) -> None:
        self._ready: deque[Key] = deque()
        self._queued: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._failures: dict[Key, int] = {}
        self._wakeup = asyncio.Event()
        self._available = asyncio.Event()
        self._closed = False

    def add(self, key: Key) -> None:
        """Work on `key` as soon as a worker is free; once, however often it is added before that."""
        self._due.pop(key, None)
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = asyncio.get_running_loop().time()
            self._ready.append(key)
            self._available.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on `key` in `seconds`; an earlier appointment stays, a later one gives way."""
        if seconds <= 0:
            self.add(key)
            return
        at = asyncio.get_running_loop().time() + seconds
        if key in self._queued or self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))
        self._wakeup.set()

    def retry(self, key: Key, at_least: float = 0.0) -> float:
        """Come back to a failed `key` after an exponential backoff; returns the delay in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = max(at_least, capped_exponential(count, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS))
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """The key succeeded: its next failure starts the backoff anew."""
        self._failures.pop(key, None)

    async def get(self) -> Key | None:
        """The next key, None once the queue is closed; every key got must be `done`."""
        while not self._ready:
            if self._closed:
                return None
            self._available.clear()
            await self._available.wait()
        if self._closed:
            return None
        key = self._ready.popleft()
        del self._queued[key]
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        """The pass over `key` is over; it goes back to the line if it was added meanwhile."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """Hand out nothing more; workers finish what they hold."""
        self._closed = True
        self._available.set()
        self._wakeup.set()

    async def keep_time(self) -> None:
        """Move keys whose delay is over into the line, for ever."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            now = loop.time()
            while self._heap and self._heap[0][0] <= now:
                at, _, key = heapq.heappop(self._heap)
                if self._due.get(key) == at:  # else the appointment was moved or kept already
                    self.add(key)
            self._wakeup.clear()
            try:  # not wait_for: up to Python 3.11 it loses a cancellation that comes with the wake-up
                async with asyncio.timeout_at(self._heap[0][0] if self._heap else None):
                    await self._wakeup.wait()
            except TimeoutError:
                continue

    def depth(self) -> int:
        """How many keys wait for a worker now."""
        return len(self._ready)

    def delayed(self) -> int:
        """How many keys wait for their time."""
        return len(self._due)

    def oldest_seconds(self) -> float:
        """How long the longest-waiting key has waited for a worker; 0 when none waits."""
        if not self._ready:
            return 0.0
        return asyncio.get_running_loop().time() - self._queued[self._ready[0]]
