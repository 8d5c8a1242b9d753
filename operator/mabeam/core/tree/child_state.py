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

# A life beyond this is nobody's honest work. Far below the last number a status can hold: one that follows it has successors.
LARGEST_VALID_TOKEN: Final = 10**9
AT_REST: Final = frozenset({AgentState.STOPPED, AgentState.FAILED})


class End(Enum):
    """How a child's life under its Supervisor ended."""

    COMPLETED = "finished"  # a Transient agent: not restarted by itself
    ENDED = "ended"  # a Temporary agent, in any way: never restarted
    BUDGET_EXHAUSTED = "gave up"  # its own budget is exhausted: the Supervisor's to handle


@dataclass(frozen=True, slots=True)
class Child:
    """One child that exists, as its own status tells of it.

    `token` is the life it is in under this Supervisor, 0 before the first; `up` says that nothing has to be waited for before
    those after it start; `down` that none of its processes runs, or that it cannot be told to end them; `unborn` that none ever
    did; `lingers` that its end is known before its process is gone.
    """

    kind: ChildKind
    name: str
    token: int
    intent: Intent | None
    ready: bool
    stopped: bool
    state: str
    stalled: bool = False
    end: End | None = None
    ended_at: datetime | None = None
    temporary: bool = False
    never_started: bool = False
    terminating: bool = False
    budget: int = 0


# --- how a child is ---------------------------------------------------------------------------------------------------


def _own(supervision: Supervision | None, parent: str | None) -> tuple[int, Intent | None]:
    if supervision is None or supervision.supervisor != parent:
        return 0, None
    return supervision.token, supervision.intent


@memoize_by_identity
def child_of_agent(agent: Agent) -> Child:
    """The agent as a child of the Supervisor that it names."""
    status, spec = agent.status, agent.spec
    token, intent = _own(status.supervision, spec.supervisor)
    end, ended_at = _end_of_agent(agent)
    resting = spec.desired_state is DesiredState.STOPPED
    return Child(
        kind=ChildKind.AGENT,
        name=agent.metadata.name,
        token=token,
        intent=intent,
        ready=resting or end in (End.COMPLETED, End.ENDED) or is_true(status.conditions, ConditionType.READY),
        stopped=_is_down(status) or _is_unreadable(status.conditions),
        state=str(status.state or AgentState.REGISTERED),
        stalled=is_true(status.conditions, ConditionType.STALLED),
        terminating=all(record.state in AT_REST for record in status.pods) and not _is_down(status),
        end=None if resting else end,
        ended_at=ended_at,
        temporary=spec.restart_strategy is RestartStrategy.TEMPORARY,
        never_started=not status.pods,
        budget=spec.fault_tolerance.max_failures,
    )


def _is_down(status: AgentStatus) -> bool:
    return all(record.state in AT_REST and not record.terminating for record in status.pods)


def _end_of_agent(agent: Agent) -> tuple[End | None, datetime | None]:
    status, strategy = agent.status, agent.spec.restart_strategy
    if status.parked_at is not None:
        escalates = agent.spec.fault_tolerance.escalation_policy is AgentEscalationPolicy.ESCALATE
        # When it fell, not when that was noticed: ends that are seen late together must not be taken for a burst.
        return (End.BUDGET_EXHAUSTED if escalates else None), status.failures[
            -1
        ].time if status.failures else status.parked_at
    reasons = {record.reason for record in status.pods}
    over = bool(status.pods) and _is_down(status)
    if over and strategy is RestartStrategy.TEMPORARY and Reason.STOPPED not in reasons:
        return End.ENDED, None
    if over and strategy is RestartStrategy.TRANSIENT and reasons == {Reason.COMPLETED}:
        return End.COMPLETED, None
    return None, None


def child_of_supervisor(supervisor: Supervisor, parent: str) -> Child:
    status = supervisor.status
    token, intent = _own(status.supervision, parent)
    ended_at = status.parked_at or status.shut_down_at
    if status.parked_at is not None and status.restarts:
        ended_at = status.restarts[-1].time
    return Child(
        kind=ChildKind.SUPERVISOR,
        name=supervisor.metadata.name,
        token=token,
        intent=intent,
        ready=is_true(status.conditions, ConditionType.READY) and ended_at is None,
        stopped=status.state in _DOWN_STATES or _is_unreadable(status.conditions),
        state=status.state or str(AgentState.REGISTERED),
        stalled=is_true(status.conditions, ConditionType.STALLED),
        end=End.BUDGET_EXHAUSTED if ended_at is not None else None,
        ended_at=ended_at,
        budget=supervisor.spec.max_restarts,
    )


# A Supervisor is Stopping until the last of its children is down.
_DOWN_STATES: Final = frozenset({None, *map(str, AT_REST), str(AgentState.REGISTERED)})


def _is_unreadable(conditions: Conditions) -> bool:
    """Whether its spec cannot be read: it obeys nobody until that is mended, and is not waited for."""
    return any(c.type == ConditionType.ACCEPTED and c.reason == Reason.INVALID_SPEC for c in conditions)
