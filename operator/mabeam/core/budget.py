"""The restart budget: supervisor.erl's sliding window, and the delay OTP does not have."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from mabeam.api.agent import AgentFaultTolerance, Backoff
from mabeam.api.agent_status import Failure, FailureCause

LEDGER_FLOOR: Final = 32

# Waiting for an image is not health, however long it took.
NEVER_RAN: Final = frozenset({FailureCause.IMAGE_ERROR, FailureCause.CONFIG_ERROR})


def within_budget(restarts: Iterable[datetime], at: datetime, intensity: int, period_seconds: int) -> bool:
    """Whether one more restart at `at` stays within `intensity` per `period_seconds`.

    supervisor.erl add_restart/3: keep every R with R >= Now - Period (an inclusive edge), add Now, and allow it iff
    there are no more than `intensity`. Times have whole seconds, as there; an intensity of 0 allows none.
    """
    return 1 + in_window(restarts, at, period_seconds) <= intensity


def in_window(moments: Iterable[datetime], at: datetime, period_seconds: int) -> int:
    """How many of the moments lie inside the window that ends at `at`, its edge included."""
    # The distance, not the window's edge: at the ends of the calendar there is none.
    period = timedelta(seconds=period_seconds)
    return sum(1 for moment in moments if at - moment <= period)


def counted_times(ledger: Iterable[Failure]) -> list[datetime]:
    """The times of the failures that still spend budget: counted, and not emptied out by a release."""
    return [failure.time for failure in ledger if failure.counted and not failure.released]


def failures_in_window(ledger: Iterable[Failure], at: datetime, period_seconds: int) -> int:
    """How many counted failures lie inside the window that ends at `at`."""
    return in_window(counted_times(ledger), at, period_seconds)


def trim(ledger: Sequence[Failure], tolerance: AgentFaultTolerance) -> tuple[Failure, ...]:
    """What is kept of the ledger: every failure that can still spend budget, and then the newest of the rest.

    A drain of a wide agent writes a line for each ordinal; it must not push out the failures that the budget counts.
    """
    needed = tolerance.max_failures + 1
    if len(ledger) <= max(LEDGER_FLOOR, needed):
        return tuple(ledger)
    spending = [at for at, failure in enumerate(ledger) if failure.counted and not failure.released][-needed:]
    others = sorted(set(range(len(ledger))).difference(spending))
    room = max(LEDGER_FLOOR, needed) - len(spending)
    kept = sorted((*spending, *(others[-room:] if room else ())))
    return tuple(ledger[at] for at in kept)


def streak(ledger: Sequence[Failure], ordinal: int, reset_after_seconds: float) -> int:
    """How many restarts of this ordinal came since its last healthy spell, the newest failure's own restart not included.

    A fresh start (nothing before it, or a release) counts as healthy. Disruptions count here, though never against the
    budget: a pod that is rejected over and over must not be replaced in a hot loop.
    """
    own = [failure for failure in ledger if failure.ordinal == ordinal]
    count = 0
    for index in range(len(own) - 1, 0, -1):
        failure, before = own[index], own[index - 1]
        if before.released or _ran_seconds(failure, before) >= reset_after_seconds:
            break
        count += 1
    return count


def _ran_seconds(failure: Failure, before: Failure) -> float:
    if failure.cause in NEVER_RAN:
        return 0.0
    # Without a recorded start the gap between two failures is the best bound there is on how long the second one ran.
    since = failure.start_time or before.time
    return (failure.time - since).total_seconds()


def delay_seconds(backoff: Backoff, restarts: int, seed: str) -> float:
    """The delay before a restart: 0 for the first after a healthy spell, then exponential, jittered, never above the cap.

    The jitter is derived from `seed` (`uid:ordinal:incarnation`), so a second look at the same facts gives the same time.
    """
    if restarts <= 0:
        return 0.0
    try:
        plain = backoff.initial_seconds * backoff.factor ** (restarts - 1)
    except OverflowError:
        plain = math.inf
    unit = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64
    return min(min(plain, backoff.max_seconds) * (1 + backoff.jitter * (2 * unit - 1)), backoff.max_seconds)
