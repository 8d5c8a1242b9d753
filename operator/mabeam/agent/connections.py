"""The open connections of the report server: how many there may be, for how long, and which one gives way to a new one."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_CONNECTIONS = 8
# From accepting to the last byte. The operator allows one second for a read. A slower client is not the operator.
CONNECTION_SECONDS = 3.0


@dataclass(slots=True)
class _Connection:
    deadline: float
    is_answering: bool = False  # its request has been read


class OpenConnections:
    """The open connections, oldest first. Safe to use from any thread.

    A connection that is dropped is shut down rather than closed: that wakes the thread that reads from it, and the thread
    closes it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[socket.socket, _Connection] = {}

    def add(self, connection: socket.socket) -> None:
        """Add a connection. Where there are too many, the oldest gives way, first of those that have sent no request yet.

        So clients that say nothing, or a byte now and then, keep nobody out.
        """
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                silent = (one for one, state in self._open.items() if not state.is_answering)
                self._drop(next(silent, next(iter(self._open))))
            self._open[connection] = _Connection(self._clock() + CONNECTION_SECONDS)

    def answering(self, connection: socket.socket) -> None:
        """Note that the connection's request has been read."""
        with self._lock:
            if connection in self._open:
                self._open[connection].is_answering = True

    def remove(self, connection: socket.socket) -> None:
        """Forget a connection that ended by itself."""
        with self._lock:
            self._open.pop(connection, None)

    def drop_expired(self) -> None:
        """Drop every connection whose time is over, however busily it sends."""
        with self._lock:
            now = self._clock()
            for connection in [one for one, state in self._open.items() if state.deadline <= now]:
                self._drop(connection)

    def seconds_to_deadline(self) -> float | None:
        """How long until the first connection's time is over; None while there is none."""
        with self._lock:
            deadline = min((state.deadline for state in self._open.values()), default=None)
        return None if deadline is None else max(0.0, deadline - self._clock())

    def leave_in_child(self) -> None:
        """In a child made by fork: close its copies without a word to the clients, who talk to the parent."""
        connections, self._open, self._lock = [*self._open], {}, threading.Lock()
        for connection in connections:
            close_copy(connection)

    def _drop(self, connection: socket.socket) -> None:
        del self._open[connection]
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def close_copy(inherited: socket.socket) -> None:
    """Close this process's descriptor of an inherited socket, at once and though files were made of it."""
    if (fd := inherited.detach()) >= 0:
        os.close(fd)
