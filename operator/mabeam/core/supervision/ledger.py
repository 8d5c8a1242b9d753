"""The failure ledger (`status.failures`): what the budget counts, how many restarts came in a row, and what is kept."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from mabeam.api.agent import AgentFaultTolerance
from mabeam.api.agent_status import AgentStatus, Failure, FailureCause
from mabeam.core.algorithms.otp import LEDGER_FLOOR, fullest_window

# After these the process never ran: waiting for an image, however long, is no healthy period.
NEVER_RAN: Final = frozenset({FailureCause.IMAGE_ERROR, FailureCause.CONFIG_ERROR})


def counted_times(ledger: Iterable[Failure]) -> list[datetime]:
    """The times of the failures that the budget counts: counted, and not released."""
    return [failure.time for failure in ledger if failure.counted and not failure.released]


def failures_in_window(ledger: Iterable[Failure], at: datetime, period_seconds: int) -> int:
    """The number of failures that the budget counts within the fullest window that holds a failure at `at`."""
    return fullest_window(counted_times(ledger), at, period_seconds)


def new_failures(before: AgentStatus, after: AgentStatus) -> tuple[Failure, ...]:
    """The failures of the status `after` that the status `before` does not have.

    Compared by time and pod: the ledger is trimmed, so neither its length nor a position in it tells what is new.
    """
    known = {(failure.time, failure.pod) for failure in before.failures}
    return tuple(failure for failure in after.failures if (failure.time, failure.pod) not in known)


def trim(ledger: Sequence[Failure], tolerance: AgentFaultTolerance) -> tuple[Failure, ...]:
    """The entries that the status keeps: all that the budget may still count, then the newest of the rest.

    A drain of a wide agent writes an entry for each ordinal; those must not push out the failures that the budget counts.
    """
    needed = tolerance.max_failures + 1
    if len(ledger) <= max(LEDGER_FLOOR, needed):
        return tuple(ledger)
    spending = [at for at, failure in enumerate(ledger) if failure.counted and not failure.released]
    spending = sorted(spending, key=lambda at: ledger[at].time)[
        -needed:
    ]  # one that became known late is not the newest
    others = sorted(set(range(len(ledger))).difference(spending))
    room = max(LEDGER_FLOOR, needed) - len(spending)
    kept = sorted((*spending, *(others[-room:] if room else ())))
    return tuple(ledger[at] for at in kept)


def failed_starts_in_a_row(ledger: Sequence[Failure], ordinal: int) -> int:
    """The number of the ordinal's last counted failures in a row in which its process could not start."""
    own = [failure for failure in ledger if failure.ordinal == ordinal and failure.counted]
    others = (at for at, failure in enumerate(reversed(own)) if failure.released or failure.cause not in NEVER_RAN)
    return next(others, len(own))


def streak(ledger: Sequence[Failure], ordinal: int, reset_after_seconds: float) -> int:
    """The number of restarts of the ordinal since it was last healthy, without the one that the newest failure causes.

    Healthy: it ran for `reset_after_seconds`, or was released. Disruptions count here, though never against the budget: a
    pod that is rejected over and over must not be replaced without a delay.
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
    """The seconds for which the process ran before the failure; `before` is the failure before that."""
    never_ran = failure.start_time is None and (failure.container is not None or not failure.counted)
    if failure.cause in NEVER_RAN or never_ran:
        return 0.0  # an init container failed, or the kubelet rejected the pod, however long the backoff was
    # Without a recorded start, the time between the two failures is the closest upper bound that is known.
    since = failure.start_time or before.time
    return (failure.time - since).total_seconds()
