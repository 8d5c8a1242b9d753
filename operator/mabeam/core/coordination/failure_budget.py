"""The failure budget of a variable: failures counted in a sliding window, and what follows when there are too many."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_blocks import VariableEscalation, VariableFaultTolerance, VariableRecovery
from mabeam.api.variable_status import CoordinationFailure, OrchestrationVariableStatus
from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.algorithms.otp import count_in_window
from mabeam.core.conventions.conditions import KStatus, find_condition
from mabeam.core.conventions.metadata import release_command, released_by
from mabeam.core.decision import Event
from mabeam.core.directives.suspension import is_released

LEDGER_LENGTH: Final = 64
FIRST_RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 60.0


@dataclass(frozen=True)
class FailureBudgetUpdate:
    """The status after this pass's failure, if there was one, was counted."""

    status: OrchestrationVariableStatus
    kstatus: KStatus
    events: tuple[Event, ...] = ()
    requeue: float | None = None  # seconds until a failed decision is tried again


def update_failure_budget(
    variable: OrchestrationVariable,
    status: OrchestrationVariableStatus,
    kstatus: KStatus,
    *,
    now: datetime,
    undecided: bool,
    attempted: bool,
) -> FailureBudgetUpdate:
    """The failures and `frozenAt` that follow from this pass's kstatus; neither without `spec.faultTolerance`.

    `undecided`: the decision itself failed, so that another attempt may help. `attempted`: this pass made an attempt.
    """
    tolerance = variable.spec.fault_tolerance
    if tolerance is None:
        return FailureBudgetUpdate(_with_ledger(variable, status, _Ledger((), None)), kstatus)
    ledger = _after_release(variable)
    # Without an attempt a recorded failure is the old one, also for a variable that was just released.
    fails = kstatus.reason in FAILURES and (attempted or not undecided)
    if fails and ledger.frozen_at is None and _is_new_failure(variable, ledger, kstatus, now=now, undecided=undecided):
        ledger = _with_failure(variable, ledger, kstatus, now)
    requeue = None
    if undecided and ledger.frozen_at is None and tolerance.recovery_strategy is VariableRecovery.RETRY:
        # A retry that is already due waits for something else than time.
        requeue = retry_in(ledger.failures, tolerance, now) or None
    if ledger.frozen_at is not None and tolerance.escalation_policy is not VariableEscalation.ALERT:
        message = _exhausted_message(variable, tolerance, ledger.failures)
        reason = Reason.FAILURE_BUDGET_EXHAUSTED
        kstatus = KStatus(False, reason, message, stalled=True, accepted=kstatus.accepted)
    elif not _is_exhausted(ledger.failures, tolerance, now):
        ledger = replace(ledger, frozen_at=None)  # an alert ends with its window
    return FailureBudgetUpdate(_with_ledger(variable, status, ledger), kstatus, ledger.events, requeue)


@dataclass(frozen=True)
class _Ledger:
    """The failures that are kept, and whether they exhaust the budget."""

    failures: tuple[CoordinationFailure, ...]  # oldest first
    frozen_at: datetime | None  # since when the budget is exhausted
    events: tuple[Event, ...] = ()


def _with_ledger(
    variable: OrchestrationVariable, status: OrchestrationVariableStatus, ledger: _Ledger
) -> OrchestrationVariableStatus:
    release = released_by(variable.metadata, variable.status.released_by)
    return status.model_copy(
        update={"failures": ledger.failures, "frozen_at": ledger.frozen_at, "released_by": release}
    )


def _after_release(variable: OrchestrationVariable) -> _Ledger:
    """The stored failures; after a release none of them counts any more."""
    before = variable.status
    if not is_released(variable):
        return _Ledger(before.failures, before.frozen_at)
    released = tuple(failure.model_copy(update={"released": True}) for failure in before.failures)
    event = Event(Reason.VARIABLE_RELEASED, "released; the failure window is empty again")
    return _Ledger(released, None, (event,) if before.frozen_at is not None else ())


def _with_failure(variable: OrchestrationVariable, ledger: _Ledger, kstatus: KStatus, now: datetime) -> _Ledger:
    """The ledger with one more failure, frozen when that exhausts the budget."""
    tolerance, moment = variable.spec.fault_tolerance, now.replace(microsecond=0)
    failure = CoordinationFailure(time=moment, error=kstatus.reason, message=kstatus.message[:1024])
    failures = (*ledger.failures, failure)[-LEDGER_LENGTH:]
    if tolerance is None or not _is_exhausted(failures, tolerance, now):
        return replace(ledger, failures=failures)
    note = _exhausted_message(variable, tolerance, failures)
    event = Event(Reason.FAILURE_BUDGET_EXHAUSTED, note, "Warning")
    return _Ledger(failures, moment, (*ledger.events, event))


def _is_new_failure(
    variable: OrchestrationVariable, ledger: _Ledger, kstatus: KStatus, *, now: datetime, undecided: bool
) -> bool:
    """Whether this failure counts: one that lasts counts once, and again with each due retry that failed."""
    tolerance = variable.spec.fault_tolerance
    ready = find_condition(variable.status.conditions, ConditionType.READY)
    last = ledger.failures[-1] if ledger.failures and not ledger.failures[-1].released else None
    if ready is None or ready.reason != kstatus.reason or last is None or last.error != kstatus.reason:
        return True
    retries = undecided and tolerance is not None and tolerance.recovery_strategy is VariableRecovery.RETRY
    return retries and tolerance is not None and retry_in(ledger.failures, tolerance, now) <= 0


# --- the window ---------------------------------------------------------------------------------------------------------------


def is_retry_due(variable: OrchestrationVariable, now: datetime) -> bool:
    """Whether a failed decision is to be tried again now, whatever the negotiation's period."""
    tolerance = variable.spec.fault_tolerance
    if tolerance is None or tolerance.recovery_strategy is not VariableRecovery.RETRY:
        return False
    return retry_in(variable.status.failures, tolerance, now) <= 0


def retry_in(failures: tuple[CoordinationFailure, ...], tolerance: VariableFaultTolerance, now: datetime) -> float:
    """Seconds until a failed decision is tried again: 1, 2, 4, … up to 60 after the last failure."""
    if not failures:
        return FIRST_RETRY_SECONDS
    attempts = max(_count(failures, tolerance, now), 1)
    delay = capped_exponential(attempts - 1, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
    return max(0.0, delay - max(0.0, (now - failures[-1].time).total_seconds()))


def _count(failures: tuple[CoordinationFailure, ...], tolerance: VariableFaultTolerance, now: datetime) -> int:
    """The failures inside the window, without released ones."""
    times = [failure.time for failure in failures if not failure.released]
    return count_in_window(times, now, tolerance.failure_window_seconds)


def _is_exhausted(failures: tuple[CoordinationFailure, ...], tolerance: VariableFaultTolerance, now: datetime) -> bool:
    return _count(failures, tolerance, now) > tolerance.max_failures


def _exhausted_message(
    variable: OrchestrationVariable, tolerance: VariableFaultTolerance, failures: tuple[CoordinationFailure, ...]
) -> str:
    last = failures[-1] if failures else None
    why = f"; the last: {last.error}: {last.message}"[:400] if last is not None else ""
    return (
        f"more than {tolerance.max_failures} failures in {tolerance.failure_window_seconds} s{why}. "
        f"{tolerance.escalation_policy}: fix it, then change the spec or: {release_command('mov', variable.metadata)}"
    )


# --- Events -------------------------------------------------------------------------------------------------------------------

# Reasons of Ready that are failures, and the reason of the Warning that announces each: every coordination error
# (`api.variable.CoordinationError`), a refusing agent, and an invalid spec.
FAILURES: Final[Mapping[str, Reason]] = {
    Reason.TIMEOUT: Reason.COORDINATION_FAILED,
    Reason.AGENT_UNAVAILABLE: Reason.COORDINATION_FAILED,
    Reason.RESOURCE_EXHAUSTED: Reason.COORDINATION_FAILED,
    Reason.INVALID_CONFIGURATION: Reason.COORDINATION_FAILED,
    Reason.UNSUPPORTED_COORDINATION_TYPE: Reason.COORDINATION_FAILED,
    Reason.REFUSED: Reason.COORDINATION_FAILED,
    Reason.FUNCTION_FAILED: Reason.COORDINATION_FAILED,
    Reason.CONSTRAINT_VIOLATION: Reason.COORDINATION_FAILED,
    Reason.INVALID_SPEC: Reason.INVALID_SPEC,
}


def failure_events(before: OrchestrationVariableStatus, kstatus: KStatus) -> tuple[Event, ...]:
    """The Warning of a failure that the stored status does not have yet; one that lasts is announced once."""
    stored = next((c.reason for c in before.conditions if c.type == ConditionType.READY), None)
    reason = FAILURES.get(kstatus.reason)
    if reason is None or stored == kstatus.reason:
        return ()
    return (Event(reason, f"{kstatus.reason}: {kstatus.message}", "Warning"),)
