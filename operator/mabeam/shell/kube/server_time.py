"""The time of the apiserver, by the `Date` of its answers and the monotonic clock in between. Every decision uses it.

Statuses hold the times of failures, windows and backoffs, and a later leader compares them with its own present. This machine's
clock may be wrong, or be stepped between two passes, and would then empty a failure window or stretch a backoff of seconds to an
hour. It is read once, for the fraction of a second that a date in whole seconds leaves open.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# An HTTP date is cut to whole seconds.
RESOLUTION_SECONDS = 1.0


@dataclass
class ServerClock:
    """The apiserver's time, kept as its distance from the monotonic clock and the bounds that answers set to that distance."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    _ahead: float = field(init=False)
    _lower: float = float("-inf")
    _upper: float = float("inf")
    _last_date: str = ""

    def __post_init__(self) -> None:
        self._ahead = self.wall() - self.monotonic()

    def now(self) -> datetime:
        """The present; it runs evenly, and jumps only when an answer shows that the apiserver's time differs."""
        return datetime.fromtimestamp(self.monotonic() + self._ahead, UTC)

    def observe_date(self, date: str | None, asked: float, answered: float) -> None:
        """Correct the time by the `Date` of an answer; the request was sent and answered at these monotonic times (seconds)."""
        if date is None or date == self._last_date:
            return
        self._last_date = date
        try:
            stated = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        lower, upper = stated - answered, stated + RESOLUTION_SECONDS - asked
        if lower <= self._upper and self._lower <= upper:
            lower, upper = max(lower, self._lower), min(upper, self._upper)
        # Else the apiserver's clock was stepped, or this is another apiserver: the latest answer counts.
        self._lower, self._upper = lower, upper
        self._ahead = min(max(self._ahead, lower), upper)
