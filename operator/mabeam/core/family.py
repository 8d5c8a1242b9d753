"""Who is whose child, and how each child is: the facts a Supervisor's pass rests on.

A link holds when the parent lists the child and the child agrees: an Agent names its Supervisor, a nested Supervisor names it or
names none. Of two that list a nested Supervisor the older one has it, then the first by name: a total order, so all passes agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final, NamedTuple

from mabeam.api.agent import Agent, AgentEscalationPolicy, RestartStrategy
from mabeam.api.agent_status import AgentState, AgentStatus, DesiredState
from mabeam.api.base import Conditions, ConditionStatus
from mabeam.api.names import ConditionType, Reason
from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import ChildEnd, ChildKind, ChildRecord, Supervisor, SupervisorSpec
from mabeam.core.memo import once

# A life beyond this is nobody's honest work. Far below the last number a status can hold: one that follows it has successors.
LAST_BELIEVED_LIFE: Final = 10**9
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
AT_REST: Final = frozenset({AgentState.STOPPED, AgentState.FAILED})


class End(Enum):
    """How a child's life under its Supervisor ended."""

    NORMAL = "finished"  # a Transient agent: not restarted by itself
    FOR_GOOD = "ended"  # a Temporary agent, in any way: never restarted
    DEATH = "gave up"  # its own budget is exhausted: the Supervisor's to handle


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
    up: bool
    down: bool
    state: str
    stalled: bool = False
    end: End | None = None
    ended_at: datetime | None = None
    temporary: bool = False
    unborn: bool = False
    lingers: bool = False
    budget: int = 0


def children_of(
    supervisor: Supervisor, agents: Mapping[str, Agent], supervisors: Mapping[str, Supervisor]
) -> tuple[dict[tuple[ChildKind, str], Child], tuple[str, ...]]:
    """The children that are there and its own, and what is wrong with the others."""
    found: dict[tuple[ChildKind, str], Child] = {}
    problems = []
    above = {supervisor.metadata.name, *(one.metadata.name for one in ancestors(supervisor, supervisors))}
    for reference in supervisor.spec.children:
        other = (agents if reference.kind is ChildKind.AGENT else supervisors).get(reference.name)
        problem = _problem(supervisor, other, supervisors, above)
        if problem is not None:
            problems.append(f"{reference.kind} {reference.name} {problem}")
        elif isinstance(other, Agent):
            found[reference.kind, reference.name] = _agent(other)
        elif isinstance(other, Supervisor):
            found[reference.kind, reference.name] = _supervisor(other, supervisor.metadata.name)
    return found, tuple(problems)


def _problem(
    supervisor: Supervisor, child: Agent | Supervisor | None, supervisors: Mapping[str, Supervisor], above: set[str]
) -> str | None:
    if child is None:
        return "does not exist"
    named, own = child.spec.supervisor, supervisor.metadata.name
    if isinstance(child, Agent):
        if named is None:
            return f"does not name this Supervisor: set its spec.supervisor to {own}"
        return None if named == own else f"names another Supervisor, {named}"
    parent = parent_of(child, supervisors)
    if parent is None or parent.metadata.name != own:
        return (
            f"is under another Supervisor, {parent.metadata.name}" if parent else f"names another Supervisor, {named}"
        )
    if child.metadata.name not in above:
        return None
    return f"closes a cycle: {' → '.join(cycle_of(child, supervisors))}"


def parent_of(supervisor: Supervisor, supervisors: Mapping[str, Supervisor]) -> Supervisor | None:
    """The Supervisor that has this one as a child; None of a root."""
    own, named = supervisor.metadata.name, supervisor.spec.supervisor
    if named is not None:
        other = supervisors.get(named)
        return other if other is not None and own in _supervisors_in(other.spec) else None
    listing = (other for other in supervisors.values() if own in _supervisors_in(other.spec))
    return min(listing, key=lambda o: (o.metadata.creation_timestamp or _LATEST, o.metadata.name), default=None)


@once
def _supervisors_in(spec: SupervisorSpec) -> frozenset[str]:
    return frozenset(child.name for child in spec.children if child.kind is ChildKind.SUPERVISOR)


def ancestors(supervisor: Supervisor, supervisors: Mapping[str, Supervisor]) -> tuple[Supervisor, ...]:
    """Its parent, the parent's parent, up to the root; a cycle ends where it would begin again."""
    found: list[Supervisor] = []
    above = parent_of(supervisor, supervisors)
    while above is not None and above.metadata.name not in {o.metadata.name for o in found}:
        found.append(above)
        above = parent_of(above, supervisors)
    return tuple(found)


def cycle_of(supervisor: Supervisor, supervisors: Mapping[str, Supervisor]) -> tuple[str, ...]:
    """The names along the cycle this one is on, from it back to it; empty when it is on none."""
    above = [other.metadata.name for other in ancestors(supervisor, supervisors)]
    own = supervisor.metadata.name
    return (*reversed(above[: above.index(own) + 1]), own) if own in above else ()


def worst_case(supervisor: Supervisor, supervisors: Mapping[str, Supervisor]) -> int:
    """The product of the budgets from the root down to this one, each at least 1 (sup_princ, "Tuning the intensity")."""
    product = 1
    for one in (supervisor, *ancestors(supervisor, supervisors)):
        product *= max(1, one.spec.max_restarts)
    return min(product, 2**53)


# --- what a child is told -----------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What a child hears: the word, whom it waits for if that is nothing yet, and why a stop is for good if it is.

    One that was told before goes on by itself when its Supervisor is gone or lists it no more: word and `held` are told then.
    """

    word: Supervision | None = None
    held: str | None = None
    over: str | None = None


def word_for(child: Agent | Supervisor, supervisors: Mapping[str, Supervisor]) -> Told:
    """What its Supervisor's status tells the child."""
    named = child.spec.supervisor
    if isinstance(child, Agent):
        kind, listed = ChildKind.AGENT, supervisors.get(named) if named else None
        parent = listed if listed is not None and _lists(listed, child.metadata.name) else None
    else:
        kind, parent = ChildKind.SUPERVISOR, parent_of(child, supervisors)
    name, before = parent.metadata.name if parent is not None else named, child.status.supervision
    if name is None:
        return Told()
    if parent is not None:
        record = next((r for r in parent.status.children if (r.kind, r.name) == (kind, child.metadata.name)), None)
        if record is not None:
            said = (name, record.intent, record.token)
            over = _why_over(child, parent, record, supervisors) if record.intent is Intent.STOP else None
            if before is not None and (before.supervisor, before.intent, before.token) == said:
                return Told(before, over=over)
            return Told(Supervision(supervisor=name, intent=record.intent, token=record.token), over=over)
    told = before if before is not None and before.supervisor == name else None
    if parent is not None:
        return Told(told, f"Supervisor {name}" if told is None else None)
    alone = told.model_copy(update={"intent": Intent.START}) if told is not None else None
    why = "does not list it as a child" if name in supervisors else "does not exist"
    return Told(alone, f"Supervisor {name}, which {why}")


def _why_over(
    child: Agent | Supervisor, parent: Supervisor, record: ChildRecord, supervisors: Mapping[str, Supervisor]
) -> str | None:
    """Why a child that is told to stop is never started again; None when it may be.

    Of automatic shutdowns only the root's is the end: one below a parent is started again by it.
    """
    if record.end is ChildEnd.REMOVED and isinstance(child, Agent) and child.status.pods:
        return f"removed by Supervisor {parent.metadata.name}: a Temporary agent that a sibling took along; made anew it starts"
    root = (parent, *ancestors(parent, supervisors))[-1]
    if root.status.shut_down_at is None:
        return None
    return f"stopped for good: Supervisor {root.metadata.name} has completed; a release of it starts all anew"


def _lists(supervisor: Supervisor, agent: str) -> bool:
    return any(c.kind is ChildKind.AGENT and c.name == agent for c in supervisor.spec.children)


def obeyed(before: Supervision | None, word: Supervision | None) -> tuple[Supervision | None, bool]:
    """What the child now acts on, and whether a new life begins with it.

    The first word of a Supervisor begins none: what runs goes on, what was held starts. Of an older life only the intent is read.
    """
    if word is None or before is None or before.supervisor != word.supervisor:
        return word, False
    if word == before:
        return before, False
    if before.token > max(word.token, LAST_BELIEVED_LIFE):
        return word, False
    if word.intent is Intent.START and word.token > before.token:
        return word, True
    return word.model_copy(
        update={"token": max(before.token, word.token) if word.intent is Intent.START else before.token}
    ), False


# --- how a child is ---------------------------------------------------------------------------------------------------


def _own(supervision: Supervision | None, parent: str | None) -> tuple[int, Intent | None]:
    if supervision is None or supervision.supervisor != parent:
        return 0, None
    return supervision.token, supervision.intent


@once
def _agent(agent: Agent) -> Child:
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
        up=resting or end in (End.NORMAL, End.FOR_GOOD) or is_true(status.conditions, ConditionType.READY),
        down=_is_down(status) or _is_unreadable(status.conditions),
        state=str(status.state or AgentState.REGISTERED),
        stalled=is_true(status.conditions, ConditionType.STALLED),
        lingers=all(record.state in AT_REST for record in status.pods) and not _is_down(status),
        end=None if resting else end,
        ended_at=ended_at,
        temporary=spec.restart_strategy is RestartStrategy.TEMPORARY,
        unborn=not status.pods,
        budget=spec.fault_tolerance.max_failures,
    )


def _is_down(status: AgentStatus) -> bool:
    return all(record.state in AT_REST and not record.terminating for record in status.pods)


def _end_of_agent(agent: Agent) -> tuple[End | None, datetime | None]:
    status, strategy = agent.status, agent.spec.restart_strategy
    if status.parked_at is not None:
        escalates = agent.spec.fault_tolerance.escalation_policy is AgentEscalationPolicy.ESCALATE
        # When it fell, not when that was noticed: ends that are seen late together must not be taken for a burst.
        return (End.DEATH if escalates else None), status.failures[-1].time if status.failures else status.parked_at
    reasons = {record.reason for record in status.pods}
    over = bool(status.pods) and _is_down(status)
    if over and strategy is RestartStrategy.TEMPORARY and Reason.STOPPED not in reasons:
        return End.FOR_GOOD, None
    if over and strategy is RestartStrategy.TRANSIENT and reasons == {Reason.COMPLETED}:
        return End.NORMAL, None
    return None, None


def _supervisor(supervisor: Supervisor, parent: str) -> Child:
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
        up=is_true(status.conditions, ConditionType.READY) and ended_at is None,
        down=status.state in _DOWN_STATES or _is_unreadable(status.conditions),
        state=status.state or str(AgentState.REGISTERED),
        stalled=is_true(status.conditions, ConditionType.STALLED),
        end=End.DEATH if ended_at is not None else None,
        ended_at=ended_at,
        budget=supervisor.spec.max_restarts,
    )


# A Supervisor is Stopping until the last of its children is down.
_DOWN_STATES: Final = frozenset({None, *map(str, AT_REST), str(AgentState.REGISTERED)})


def _is_unreadable(conditions: Conditions) -> bool:
    """Whether its spec cannot be read: it obeys nobody until that is mended, and is not waited for."""
    return any(c.type == ConditionType.ACCEPTED and c.reason == Reason.INVALID_SPEC for c in conditions)


def is_true(conditions: Conditions, type_: ConditionType) -> bool:
    """Whether that condition is True."""
    return any(c.type == type_ and c.status is ConditionStatus.TRUE for c in conditions)
