"""The work queue: each key waits once, one worker at a time has it, and it comes back when it was added meanwhile.

The rules of client-go's workqueue (dedupe, delay, rate limit), on asyncio, with one timer instead of a task for each delay.
kopf logs and drops what fails in an event handler, so delay, retry and backoff are here.
"""

import asyncio
from collections import deque
from typing import Final

from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.snapshot import Key
from mabeam.shell.timer_heap import TimerHeap

FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 60.0


class WorkQueue:
    """Keys whose objects are to be looked at; without a bound, since an object has one key."""

    def __init__(self) -> None:
        self._ready: deque[Key] = deque()
        self._queued: dict[Key, float] = {}  # key in `_ready` → the loop's time at which it was added
        self._working: set[Key] = set()
        self._again: set[Key] = set()  # keys that were added while a worker had them
        self._timers: TimerHeap[Key] = TimerHeap()
        self._failures: dict[Key, int] = {}  # key → failures in a row
        self._available = asyncio.Event()
        self._closed = False

    def add(self, key: Key) -> None:
        """Let a worker have `key` as soon as one is free: once, however often it is added before that."""
        self._timers.cancel(key)
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = asyncio.get_running_loop().time()
            self._ready.append(key)
            self._available.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Add `key` in so many seconds; an earlier time stays, a later one gives way."""
        if seconds <= 0:
            self.add(key)
        elif key not in self._queued:
            self._timers.schedule(key, asyncio.get_running_loop().time() + seconds)

    def retry(self, key: Key, at_least: float = 0.0) -> float:
        """Add a `key` whose pass failed after an exponential backoff; returns the delay in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        backoff = capped_exponential(count, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)
        delay = min(max(at_least, backoff), MAX_BACKOFF_SECONDS)
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """Let the backoff of `key` begin anew: its pass succeeded."""
        self._failures.pop(key, None)

    async def get(self) -> Key | None:
        """The next key; None once the queue is closed. Whoever gets a key calls `done` with it."""
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
        """End the pass over `key`; it is added again if it was added meanwhile."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """Give no key to a worker any more."""
        self._closed = True
        self._available.set()
        self._timers.wake()

    async def run_timers(self) -> None:
        """Add the keys whose delay is over, until the queue is closed."""
        while not self._closed:
            self.add_due()
            await self._timers.wait()

    def add_due(self) -> None:
        """Add the keys whose delay is over."""
        while (key := self._timers.pop_due()) is not None:
            self.add(key)

    def next_due(self) -> float | None:
        """The loop's time at which the next delay is over; None when there is none."""
        return self._timers.next_due()

    def depth(self) -> int:
        """The number of keys that wait for a worker."""
        return len(self._ready)

    def delayed(self) -> int:
        """The number of keys whose delay is not over yet."""
        return len(self._timers)

    def oldest_seconds(self) -> float:
        """The seconds for which the longest-waiting key has waited for a worker; 0 when none waits."""
        if not self._ready:
            return 0.0
        return asyncio.get_running_loop().time() - self._queued[self._ready[0]]
