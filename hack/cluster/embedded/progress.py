"""What a person sees while something takes time: one line per step, with its seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEARTBEAT_SECONDS = 20.0


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Step:
    """A running step; `tick` redraws it on a terminal, and in a plain log adds a line every twenty seconds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.note = ""
        self.began = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._told = self.began

    def tick(self, detail: str = "") -> None:
        now = time.monotonic()
        line = f"  {self.title}{': ' + detail if detail else ''} ({now - self.began:.0f} s)"
        if self._terminal:
            if now - self._told >= 0.2:
                self._told = now
                print(f"\r\033[K{line[:118]}", end="", file=sys.stderr, flush=True)
        elif now - self._told >= HEARTBEAT_SECONDS:
            self._told = now
            say(line)

    def done(self) -> None:
        line = f"  {self.title}{' - ' + self.note if self.note else ''} ({time.monotonic() - self.began:.1f} s)"
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr)
        say(line)


@contextmanager
def step(title: str) -> Iterator[Step]:
    """A step whose line is printed when its block ends well; a failure prints its own message instead."""
    running = Step(title)
    try:
        yield running
    except BaseException:
        if running._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        raise
    running.done()
