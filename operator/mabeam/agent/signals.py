"""SIGTERM and SIGINT turned into one call on an ordinary thread.

A Python signal handler runs in the main thread between two instructions, perhaps while that thread holds the lock of the
event that the handler wants to set: a rare deadlock. So the handler does nothing. The interpreter's C handler writes the
signal's number into a pipe (`signal.set_wakeup_fd`), even during a long call in the main thread, and a thread that reads
the pipe makes the call.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def on_termination(callback: Callable[[], None]) -> Iterator[None]:
    """Within the block, the first SIGTERM or SIGINT calls `callback` once; a second SIGINT is KeyboardInterrupt.

    Only the main thread may receive signals in Python; entered in any other, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts = 0

    def ignore_first(number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C at a terminal: do not wait for the graceful end.
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            raise KeyboardInterrupt

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread = threading.Thread(target=_listen, args=(reading, callback), name="mabeam-termination", daemon=True)
    thread.start()
    before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, ignore_first) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        os.close(writing)
        thread.join(timeout=1)


def _listen(reading: int, callback: Callable[[], None]) -> None:
    """Call back at the first of our signals; end when the pipe is closed."""
    called = False
    with open(reading, "rb", buffering=0) as pipe:
        # Signals of other handlers, such as SIGCHLD, are written to the pipe too.
        while received := pipe.read(64):
            if not called and any(number in SIGNALS for number in received):
                called = True
                callback()
