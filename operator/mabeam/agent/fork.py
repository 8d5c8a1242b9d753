"""What a child made by `os.fork` inherits of an agent and must not keep: its signals, sockets, threads and locks.

A fork copies the process, not its threads. Without this, a child of `multiprocessing` would hand its SIGTERM to its parent
through the shared pipe instead of ending, keep the report's port bound, and wait for locks that a thread of the parent held.
(`subprocess`, and `multiprocessing` by spawn or forkserver, start a program anew and inherit none of it.)
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

# The signals that are held back in the forking thread until the child has let go of its parent's handlers.
HELD_BACK = (signal.SIGTERM, signal.SIGINT)

_lock = threading.Lock()
_in_child: dict[object, Callable[[], None]] = {}
_forking = threading.local()
_is_registered = False


def call_in_child(function: Callable[[], None]) -> Callable[[], None]:
    """A function that takes this registration back; until then, `function` is called in every child made by fork, at once."""
    global _is_registered
    key = object()
    with _lock:
        _in_child[key] = function
        # Hooks cannot be unregistered, so there is one set of them for all agents of the process.
        if not _is_registered and hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_before, after_in_parent=_in_parent_after, after_in_child=_in_child_after)
            _is_registered = True
    return lambda: _take_back(key)


def _take_back(key: object) -> None:
    with _lock:
        _in_child.pop(key, None)


def _before() -> None:
    # A signal between the fork and `_in_child_after` would go into the parent's pipe.
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK) if _in_child else None


def _in_parent_after() -> None:
    _restore_mask()


def _in_child_after() -> None:
    global _lock
    _lock = threading.Lock()
    functions = [*_in_child.values()]
    _in_child.clear()
    try:
        for function in functions:
            function()
    finally:
        _restore_mask()


def _restore_mask() -> None:
    mask = getattr(_forking, "mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
