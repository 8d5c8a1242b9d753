"""One at a time: what fills the cache waits for whoever fills it already."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded.progress import step


@contextmanager
def held(path: Path, holder: str = "another build holds the cache") -> Iterator[None]:
    """The lock held; who comes second waits here and says so. The kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"{holder}: waiting for it") as running:
                while True:
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.5)
                        running.tick()
        yield
