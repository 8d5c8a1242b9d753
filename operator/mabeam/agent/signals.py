"""SIGTERM and SIGINT turned into one call on an ordinary thread.

A Python signal handler runs in the main thread between two instructions, perhaps while that thread holds the lock of the
event that the handler wants to set: a rare deadlock. So the handler only writes the signal's number into a pipe, and a thread
that reads the pipe makes the call. The interpreter's C handler writes there too (`signal.set_wakeup_fd`), which works even
during a long call in the main thread. There is one such descriptor in a process, and event loops take it for themselves
(asyncio's `add_signal_handler`, uvloop always); then the Python handler is the way that is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TerminationSignals(contextlib.AbstractContextManager["TerminationSignals"]):
    """Within the block, the first SIGTERM or SIGINT calls `callback` once; a second SIGINT is KeyboardInterrupt.

    Only the main thread may receive signals in Python; entered in any other, this does nothing.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._interrupts = 0
        self._pipe: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._fd_before = -1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        reading, writing = self._pipe = os.pipe()
        os.set_blocking(writing, False)
        self._thread = threading.Thread(target=self._listen, args=(reading,), name="mabeam-termination", daemon=True)
        self._thread.start()
        self._fd_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pipe is None or self._thread is None:
            return
        _, writing = self._pipe
        self._restore_handlers(lambda number: signal.getsignal(number) == self._handle)
        _replace_wakeup_fd(writing, self._fd_before)
        self._pipe = None
        os.close(writing)
        self._thread.join(timeout=1)

    def leave_in_child(self) -> None:
        """In a child made by fork: signals mean what they meant before, and nothing reaches the parent's pipe any more."""
        if self._pipe is None:
            return
        self._restore_handlers(lambda number: signal.getsignal(number) == self._handle or _is_of_an_event_loop(number))
        # Whoever's it is, an event loop's included: it leads into the parent, and its reader is not in this process.
        signal.set_wakeup_fd(-1)
        for fd in self._pipe:
            os.close(fd)
        self._pipe = None

    def _restore_handlers(self, is_replaceable: Callable[[int], bool]) -> None:
        """Put back the handlers that ours replaced, unless somebody has replaced ours since."""
        for number, handler in self._before.items():
            if is_replaceable(number):
                # None: a handler that was not set by Python, and that Python cannot set again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._pipe is None:
            self._handle_as_before(number, frame)
            return
        # A full pipe holds a signal already.
        with contextlib.suppress(OSError):
            os.write(self._pipe[1], bytes([number]))
        # A second Ctrl-C at a terminal: do not wait for the graceful end.
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt

    def _handle_as_before(self, number: int, frame: FrameType | None) -> None:
        """In a child: what a handler that calls the one before it (which is ours) expects: the signal's old effect."""
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        elif before is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _listen(self, reading: int) -> None:
        """Call back at the first of our signals; end when the pipe is closed."""
        called = False
        # Signals of other handlers, such as SIGCHLD, are written to the pipe too.
        while received := _read(reading):
            if not called and any(number in SIGNALS for number in received):
                called = True
                self._callback()
        # A raw descriptor rather than a file object: a child's copy of an object would close it once more, whatever it is then.
        os.close(reading)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 64)
    except OSError:  # closed by the process, which closes everything
        return b""


def _is_of_an_event_loop(number: int) -> bool:
    """Whether the signal's handler is asyncio's placeholder, which does nothing: its loop reads the wakeup descriptor instead."""
    return getattr(signal.getsignal(number), "__module__", None) == "asyncio.unix_events"


def _replace_wakeup_fd(ours: int, before: int) -> None:
    """Put the earlier wakeup descriptor back, unless somebody has replaced ours since."""
    current = signal.set_wakeup_fd(-1)
    # It may be closed by now: then there is none.
    with contextlib.suppress(OSError, ValueError):
        signal.set_wakeup_fd(before if current == ours else current)
