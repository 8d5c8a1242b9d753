"""Failures of a variable's coordination: counted in a window, and what too many of them lead to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mabeam.api.names import ANNOTATION_RELEASE, ConditionType, Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_blocks import VariableEscalation, VariableFaultTolerance, VariableRecovery
from mabeam.api.variable_status import CoordinationFailure, OrchestrationVariableStatus
from mabeam.core.algorithms.otp import count_in_window
from mabeam.core.conventions.conditions import KStatus
from mabeam.core.conventions.metadata import annotation_request, release_command
from mabeam.core.decision import Event
from mabeam.core.directives.suspension import is_released

LEDGER_LENGTH: Final = 64
FIRST_RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 60.0


@dataclass(frozen=True)
class FailureBudgetUpdate:
    """The status with its failures of this moment, what is told of them, and when to look again."""

    status: OrchestrationVariableStatus
    verdict: KStatus
    events: tuple[Event, ...] = ()
    requeue: float | None = None


def update_failure_budget(
    variable: OrchestrationVariable,
    status: OrchestrationVariableStatus,
    verdict: KStatus,
    now: datetime,
    *,
    undecided: bool,
    tried: bool,
) -> FailureBudgetUpdate:
    """What this pass's verdict means for the budget; nothing when the variable has no `faultTolerance`.

    `undecided` says that it is the decision that failed, so that trying again may help, and `tried` that this pass did.
    """
    tolerance, before = variable.spec.fault_tolerance, variable.status
    asked = annotation_request(variable.metadata, ANNOTATION_RELEASE)
    events: list[Event] = []
    failures, frozen_at = before.failures, before.frozen_at
    if tolerance is None:
        spared = {"failures": (), "frozen_at": None, "released_by": asked or before.released_by}
        return FailureBudgetUpdate(status.model_copy(update=spared), verdict)
    if is_released(variable):
        if frozen_at is not None:
            events.append(Event(Reason.VARIABLE_RELEASED, "released; the failure window is empty again"))
        failures, frozen_at = tuple(f.model_copy(update={"released": True}) for f in failures), None
    requeue = None
    # A failure on record that this pass did not try to mend is the old one, also to whoever was just released.
    told = verdict.reason in FAILURES and (tried or not undecided)
    if told and frozen_at is None and _is_new(before, failures, tolerance, verdict, now, undecided):
        failure = CoordinationFailure(
            time=now.replace(microsecond=0), error=verdict.reason, message=verdict.message[:1024]
        )
        failures = (*failures, failure)[-LEDGER_LENGTH:]
        if _spent(failures, tolerance, now) > tolerance.max_failures:
            frozen_at = now.replace(microsecond=0)
            events.append(
                Event(Reason.FAILURE_BUDGET_EXHAUSTED, _message(variable, failures, tolerance, now), "Warning")
            )
    if undecided and frozen_at is None and tolerance.recovery_strategy is VariableRecovery.RETRY:
        requeue = retry_in(failures, tolerance, now) or None  # one that is due already waits for something else
    if frozen_at is not None and tolerance.escalation_policy is not VariableEscalation.ALERT:
        message = _message(variable, failures, tolerance, now)
        verdict = KStatus(False, Reason.FAILURE_BUDGET_EXHAUSTED, message, stalled=True, accepted=verdict.accepted)
    elif frozen_at is not None and _spent(failures, tolerance, now) <= tolerance.max_failures:
        frozen_at = None  # an alert is over when its window is
    changed = {"failures": failures, "frozen_at": frozen_at, "released_by": asked or before.released_by}
    return FailureBudgetUpdate(status.model_copy(update=changed), verdict, tuple(events), requeue)


def is_retry_due(variable: OrchestrationVariable, now: datetime) -> bool:
    """Whether a decision that failed is to be tried again now, however long ago the last round was."""
    tolerance = variable.spec.fault_tolerance
    if tolerance is None or tolerance.recovery_strategy is not VariableRecovery.RETRY:
        return False
    return retry_in(variable.status.failures, tolerance, now) <= 0


def retry_in(failures: tuple[CoordinationFailure, ...], tolerance: VariableFaultTolerance, now: datetime) -> float:
    """In how many seconds a failed decision is tried again: 1, 2, 4, … up to 60 s after the last failure."""
    if not failures:
        return FIRST_RETRY_SECONDS
    spent = max(_spent(failures, tolerance, now), 1)
    delay = min(FIRST_RETRY_SECONDS * float(1 << min(spent - 1, 8)), MAX_RETRY_SECONDS)
    return max(0.0, delay - max(0.0, (now - failures[-1].time).total_seconds()))


def _is_new(
    before: OrchestrationVariableStatus,
    failures: tuple[CoordinationFailure, ...],
    tolerance: VariableFaultTolerance,
    verdict: KStatus,
    now: datetime,
    tried: bool,
) -> bool:
    """Whether it went wrong anew: one that lasts counts once, unless it was `tried` again when that was due."""
    ready = next((c for c in before.conditions if c.type == "Ready"), None)
    last = failures[-1] if failures and not failures[-1].released else None
    if ready is None or ready.reason != verdict.reason or last is None or last.error != verdict.reason:
        return True
    retried = tried and tolerance.recovery_strategy is VariableRecovery.RETRY
    return retried and retry_in(failures, tolerance, now) <= 0


def _spent(failures: tuple[CoordinationFailure, ...], tolerance: VariableFaultTolerance, now: datetime) -> int:
    times = [failure.time for failure in failures if not failure.released]
    return count_in_window(times, now, tolerance.failure_window_seconds)


def _message(
    variable: OrchestrationVariable,
    failures: tuple[CoordinationFailure, ...],
    tolerance: VariableFaultTolerance,
    now: datetime,
) -> str:
    last = failures[-1] if failures else None
    told = f"more than {tolerance.max_failures} failures in {tolerance.failure_window_seconds} s"
    why = f"; the last: {last.error}: {last.message}"[:400] if last is not None else ""
    command = release_command("mov", variable.metadata)
    return f"{told}{why}. {tolerance.escalation_policy}: fix it, then change the spec or: {command}"


# What is told by a Warning when it begins: the coordination errors of the design, and an agent's refusal.
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


def failure_events(before: OrchestrationVariableStatus, verdict: KStatus) -> tuple[Event, ...]:
    """The Warning of a failure that is new; one that lasts was told already."""
    told = next((c.reason for c in before.conditions if c.type == ConditionType.READY), None)
    reason = FAILURES.get(verdict.reason)
    if reason is None or told == verdict.reason:
        return ()
    return (Event(reason, f"{verdict.reason}: {verdict.message}", "Warning"),)
