"""What several test processes use together: the first of them sets it up, the last takes it away."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared(count: Path, setup: Callable[[], object], teardown: Callable[[], object]) -> Iterator[None]:
    """One user's time with it; the file `count` holds how many there are now, and is locked while that changes.

    A `setup` that raises has made no user: the next one tries again.
    """
    with _locked(count) as users:
        if users == 0:
            setup()
        count.write_text(str(users + 1))
    try:
        yield
    finally:
        with _locked(count) as users:
            count.write_text(str(users - 1))
            if users == 1:
                teardown()


@contextmanager
def _locked(count: Path) -> Iterator[int]:
    """The number in the file, 0 where there is none, while nobody else may look."""
    with count.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield int(count.read_text()) if count.exists() else 0
