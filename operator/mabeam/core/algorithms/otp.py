"""The rules of OTP's supervisor.erl: which siblings restart, whether the budget allows it, and what an exit leads to."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Final

from mabeam.api.agent import RestartStrategy, SupervisionStrategy

# supervisor.erl restart/3. Places are counted in start order.
_TAKES_ALONG: Final[Mapping[SupervisionStrategy, Callable[[int, int], bool]]] = {
    SupervisionStrategy.ONE_FOR_ONE: lambda failed, other: other == failed,
    SupervisionStrategy.REST_FOR_ONE: lambda failed, other: other >= failed,
    SupervisionStrategy.ONE_FOR_ALL: lambda _failed, _other: True,
}


def restart_group(strategy: SupervisionStrategy, failed: int, places: Iterable[int]) -> tuple[int, ...]:
    """The places that are restarted when the child or replica at place `failed` is, in start order."""
    return tuple(sorted(place for place in places if _TAKES_ALONG[strategy](failed, place)))


# The number of past restarts or failures that a status keeps at least, for its readers.
LEDGER_FLOOR: Final = 32


def within_budget(restarts: Iterable[datetime], at: datetime, intensity: int, period_seconds: int) -> bool:
    """Whether one more restart at `at` stays within `intensity` restarts per `period_seconds`.

    supervisor.erl add_restart/3: keep every R with R >= Now - Period (an inclusive edge), add Now, and allow it iff
    there are no more than `intensity`. Times have whole seconds, as there; an intensity of 0 allows none.

    A restart may become known after later ones (a node was cut off). It is allowed iff no window that holds it would have
    been too full: what add_restart/3 would have decided, had it known all restarts in the order of their times.
    """
    return fullest_window((*restarts, at), at, period_seconds) <= intensity


def fullest_window(moments: Iterable[datetime], at: datetime, period_seconds: int) -> int:
    """The largest number of moments in a window of `period_seconds`, its edges included, that holds `at` and ends there or later.

    For a newest `at` that is `count_in_window`.
    """
    period = timedelta(seconds=period_seconds)
    near = [moment for moment in moments if abs(moment - at) <= period]
    ends = (at, *(moment for moment in near if moment > at))
    return max(sum(1 for moment in near if timedelta(0) <= end - moment <= period) for end in ends)


def count_in_window(moments: Iterable[datetime], at: datetime, period_seconds: int) -> int:
    """The number of moments in the window of `period_seconds` that ends at `at`, its edges included.

    `at` is the newest moment: a later one was written by a clock that has been set back since, and counts.
    """
    # Differences, not the window's start: at the ends of the calendar that would overflow.
    period = timedelta(seconds=period_seconds)
    return sum(1 for moment in moments if at - moment <= period)


class ExitKind(StrEnum):
    """How a process ended: the rows of POLICY (docs/supervision.md, "One agent"). Stops by the operator are not exits."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    DISRUPTION = "disruption"


class ExitAction(Enum):
    """What an exit leads to; the value is for people."""

    RESTART = "restart, counted"
    REPLACE = "replace, not counted"
    DONE = "done"
    END = "ended by a disruption"
    FAIL = "failed, never restarted"


# Exit and restart strategy → action. Normal and abnormal exits as supervisor.erl do_restart/3; OTP knows no disruptions.
POLICY: Final[Mapping[tuple[ExitKind, RestartStrategy], ExitAction]] = {
    (ExitKind.NORMAL, RestartStrategy.PERMANENT): ExitAction.RESTART,
    (ExitKind.NORMAL, RestartStrategy.TRANSIENT): ExitAction.DONE,
    (ExitKind.NORMAL, RestartStrategy.TEMPORARY): ExitAction.DONE,
    (ExitKind.ABNORMAL, RestartStrategy.PERMANENT): ExitAction.RESTART,
    (ExitKind.ABNORMAL, RestartStrategy.TRANSIENT): ExitAction.RESTART,
    (ExitKind.ABNORMAL, RestartStrategy.TEMPORARY): ExitAction.FAIL,
    (ExitKind.DISRUPTION, RestartStrategy.PERMANENT): ExitAction.REPLACE,
    (ExitKind.DISRUPTION, RestartStrategy.TRANSIENT): ExitAction.REPLACE,
    (ExitKind.DISRUPTION, RestartStrategy.TEMPORARY): ExitAction.END,
}
