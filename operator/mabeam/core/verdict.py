"""What a pass comes to: one verdict, its kstatus conditions, and the Warning when a variable's failure is new."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mabeam.api.base import Condition
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.conditions import condition
from mabeam.core.decision import Event


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line about the whole object; `stalled` is the only "failed" (kstatus). The reason may be the kubelet's own word."""

    ready: bool
    reason: str
    message: str
    reconciling: bool = False
    stalled: bool = False
    accepted: bool = True


def conditions_of(verdict: Verdict) -> tuple[Condition, ...]:
    """Accepted, Ready, Reconciling and Stalled, without their times."""
    quiet = Reason.PROGRESSING if verdict.reconciling else Reason.AS_DESIRED
    return (
        condition(
            ConditionType.ACCEPTED,
            verdict.accepted,
            Reason.VALID if verdict.accepted else verdict.reason,
            "" if verdict.accepted else verdict.message,
        ),
        condition(ConditionType.READY, verdict.ready, verdict.reason, verdict.message),
        condition(
            ConditionType.RECONCILING,
            verdict.reconciling,
            Reason.AS_DESIRED if verdict.ready else verdict.reason,
            verdict.message if verdict.reconciling else "",
        ),
        condition(
            ConditionType.STALLED,
            verdict.stalled,
            verdict.reason if verdict.stalled else quiet,
            verdict.message if verdict.stalled else "",
        ),
    )


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


def failure_events(before: OrchestrationVariableStatus, verdict: Verdict) -> tuple[Event, ...]:
    """The Warning of a failure that is new; one that lasts was told already."""
    told = next((c.reason for c in before.conditions if c.type == ConditionType.READY), None)
    reason = FAILURES.get(verdict.reason)
    if reason is None or told == verdict.reason:
        return ()
    return (Event(reason, f"{verdict.reason}: {verdict.message}", "Warning"),)
