"""The restart budget: supervisor.erl's sliding window, and the delay OTP does not have."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from mabeam.api.agent import AgentFaultTolerance
from mabeam.api.agent_status import AgentStatus, Failure, FailureCause
from mabeam.core.algorithms.otp import LEDGER_FLOOR, count_in_window

# Waiting for an image is not health, however long it took.
NEVER_RAN: Final = frozenset({FailureCause.IMAGE_ERROR, FailureCause.CONFIG_ERROR})


def counted_times(ledger: Iterable[Failure]) -> list[datetime]:
    """The times of the failures that still spend budget: counted, and not emptied out by a release."""
    return [failure.time for failure in ledger if failure.counted and not failure.released]


def failures_in_window(ledger: Iterable[Failure], at: datetime, period_seconds: int) -> int:
    """How many counted failures lie inside the window that ends at `at`."""
    return count_in_window(counted_times(ledger), at, period_seconds)


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


def new_failures(before: AgentStatus, after: AgentStatus) -> tuple[Failure, ...]:
    """The failures in the status `after` that are not in the status `before`, by (time, pod): the ledger is trimmed, so
    that neither its length nor a position in it tells which are new.
    """
    known = {(failure.time, failure.pod) for failure in before.failures}
    return tuple(failure for failure in after.failures if (failure.time, failure.pod) not in known)


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
