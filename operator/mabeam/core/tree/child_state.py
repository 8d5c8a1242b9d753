"""The state of one child of a Supervisor, read from the child's own status."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from mabeam.api.agent import Agent, AgentEscalationPolicy, RestartStrategy
from mabeam.api.agent_status import AgentState, AgentStatus, DesiredState
from mabeam.api.base import Conditions
from mabeam.api.names import ConditionType, Reason
from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import ChildKind, Supervisor
from mabeam.core.conventions.conditions import is_true
from mabeam.core.memoize import memoize_by_identity

# Larger tokens in a child's status are ignored: only an edited or corrupted status holds them. The bound is far below the
# largest number that a status can hold, so every valid token has successors.
LARGEST_VALID_TOKEN: Final = 10**9


class End(Enum):
    """How a child ended under its Supervisor."""

    COMPLETED = "a Transient agent whose replicas all succeeded: restarted only with its group"
    ENDED = "a Temporary agent, however it ended: never restarted"
    BUDGET_EXHAUSTED = (
        "the child's own budget is exhausted, or a nested Supervisor shut down: restarted by its Supervisor"
    )


@dataclass(frozen=True, slots=True)
class Child:
    """An existing child of a Supervisor, derived from the child's own spec and status."""

    kind: ChildKind
    name: str
    token: int  # of the start by this Supervisor that it acted on last; 0 before the first
    intent: Intent | None  # that it acted on last; None before the first instruction
    ready: bool  # the children after it may start; also when it is stopped by its user, or ended and is not restarted
    stopped: bool  # none of its processes runs; also while its spec is invalid, for then it follows no instruction
    state: str  # `status.state`, Registered before there is one
    stalled: bool = False  # the condition Stalled is True
    end: End | None = None  # None: it has not ended
    ended_at: datetime | None = None  # set with End.BUDGET_EXHAUSTED
    temporary: bool = False  # an agent with restartStrategy Temporary
    never_started: bool = False  # an agent without any record of a pod
    terminating: bool = False  # its end is decided while a process of it may still run
    budget: int = 0  # failures (Agent) or restarts (Supervisor) that it allows itself within its window


def _last_instruction(supervision: Supervision | None, parent: str | None) -> tuple[int, Intent | None]:
    if supervision is None or supervision.supervisor != parent:
        return 0, None
    return supervision.token, supervision.intent


@memoize_by_identity
def child_of_agent(agent: Agent) -> Child:
    """The agent as a child of the Supervisor that it names."""
    status, spec = agent.status, agent.spec
    token, intent = _last_instruction(status.supervision, spec.supervisor)
    end, ended_at = _end_of_agent(agent)
    stopped_by_user = spec.desired_state is DesiredState.STOPPED
    not_restarted = end in (End.COMPLETED, End.ENDED)
    return Child(
        kind=ChildKind.AGENT,
        name=agent.metadata.name,
        token=token,
        intent=intent,
        ready=stopped_by_user or not_restarted or is_true(status.conditions, ConditionType.READY),
        stopped=_has_stopped(status) or _has_invalid_spec(status.conditions),
        state=str(status.state or AgentState.REGISTERED),
        stalled=is_true(status.conditions, ConditionType.STALLED),
        terminating=all(record.is_at_rest for record in status.pods) and not _has_stopped(status),
        end=None if stopped_by_user else end,
        ended_at=ended_at,
        temporary=spec.restart_strategy is RestartStrategy.TEMPORARY,
        never_started=not status.pods,
        budget=spec.fault_tolerance.max_failures,
    )


def _has_stopped(status: AgentStatus) -> bool:
    return all(record.is_at_rest and not record.terminating for record in status.pods)


def _end_of_agent(agent: Agent) -> tuple[End | None, datetime | None]:
    status, strategy = agent.status, agent.spec.restart_strategy
    if status.parked_at is not None:
        escalates = agent.spec.fault_tolerance.escalation_policy is AgentEscalationPolicy.ESCALATE
        # When it failed, not when that was discovered: ends that are discovered late and together must not count as a burst.
        ended_at = status.failures[-1].time if status.failures else status.parked_at
        return (End.BUDGET_EXHAUSTED if escalates else None), ended_at
    reasons = {record.reason for record in status.pods}
    ended = bool(status.pods) and _has_stopped(status)
    if ended and strategy is RestartStrategy.TEMPORARY and Reason.STOPPED not in reasons:
        return End.ENDED, None
    if ended and strategy is RestartStrategy.TRANSIENT and reasons == {Reason.COMPLETED}:
        return End.COMPLETED, None
    return None, None


def child_of_supervisor(supervisor: Supervisor, parent: str) -> Child:
    """The nested Supervisor as a child of the Supervisor named `parent`."""
    status = supervisor.status
    token, intent = _last_instruction(status.supervision, parent)
    ended_at = status.parked_at or status.shut_down_at
    if status.parked_at is not None and status.restarts:
        ended_at = status.restarts[-1].time
    return Child(
        kind=ChildKind.SUPERVISOR,
        name=supervisor.metadata.name,
        token=token,
        intent=intent,
        ready=is_true(status.conditions, ConditionType.READY) and ended_at is None,
        stopped=status.state in _STOPPED_STATES or _has_invalid_spec(status.conditions),
        state=status.state or str(AgentState.REGISTERED),
        stalled=is_true(status.conditions, ConditionType.STALLED),
        end=End.BUDGET_EXHAUSTED if ended_at is not None else None,
        ended_at=ended_at,
        budget=supervisor.spec.max_restarts,
    )


# A Supervisor is Stopping until the last of its children has stopped.
_STOPPED_STATES: Final = frozenset({None, str(AgentState.STOPPED), str(AgentState.FAILED), str(AgentState.REGISTERED)})


def _has_invalid_spec(conditions: Conditions) -> bool:
    return any(c.type == ConditionType.ACCEPTED and c.reason == Reason.INVALID_SPEC for c in conditions)
