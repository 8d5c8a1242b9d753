"""What is known → the records of `/v1`: pure, and never more than a reader of the objects' statuses could see."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, median
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState, DesiredState
from mabeam.api.base import Condition, ConditionStatus, ObjectMeta
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveState
from mabeam.api.names import ConditionType, Reason
from mabeam.api.records import (
    AgentCounts,
    AgentDirectiveSet,
    AgentInfo,
    AgentPreference,
    Aggregate,
    Capacity,
    Communication,
    ConsensusInfo,
    DirectiveCounts,
    LastFailure,
    Load,
    NegotiationInfo,
    OperatorInfo,
    Performance,
    RecentEvent,
    Recovery,
    SelectedAgents,
    SystemStatus,
    Usage,
    Utilisation,
    VariableCounts,
    VariableInfo,
)
from mabeam.api.variable import CoordinationError, Mode, OrchestrationVariable
from mabeam.core.outcomes import ACKNOWLEDGED, EXPIRED, REFUSED, is_overruled
from mabeam.core.reports import Report

LISTED: Final = 100
PRIMARY: Final = "performance"
_ERRORS: Final = frozenset(map(str, CoordinationError))

# Events whose notes hold the operator's own words alone. Those of failures quote a process's last words, those of refusals
# the apiserver or an agent: /v1 asks nobody who he is, so it leaves them out.
OWN_WORDS: Final = frozenset(
    {
        Reason.AGENT_REGISTERED,
        Reason.AGENT_STARTED,
        Reason.AGENT_MIGRATED,
        Reason.AGENT_PROBED,
        Reason.MIGRATING,
        Reason.REPLACING,
        Reason.VARIABLE_REGISTERED,
        Reason.COORDINATION_COMPLETED,
        Reason.GROUP_RESTARTED,
        Reason.AUTO_SHUTDOWN,
    }
)


@dataclass(frozen=True, slots=True)
class Told:
    """An Event as it was told."""

    time: datetime
    type: str
    reason: str
    kind: str
    namespace: str
    name: str
    action: str
    note: str


@dataclass(frozen=True, slots=True)
class SeenAgent:
    """An agent and what is known of it besides its status."""

    agent: Agent
    invalid: bool = False
    report: Report | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class SeenVariable:
    """A variable, and whether its spec cannot be read."""

    variable: OrchestrationVariable
    invalid: bool = False


@dataclass(frozen=True)
class Books:
    """What the process counted and measured since it started."""

    directives: Mapping[str, int] = field(default_factory=dict)
    recoveries: Sequence[float] = ()
    events: Sequence[Told] = ()
    nodes: Capacity | None = None
    load: Load | None = None


# --- one agent --------------------------------------------------------------------------------------------------------


def agent_info(seen: SeenAgent) -> AgentInfo:
    """One agent's record."""
    agent, status = seen.agent, seen.agent.status
    last = status.failures[-1] if status.failures else None
    running = [record for record in status.pods if record.state is AgentState.RUNNING]
    resources = None if seen.invalid else agent.spec.resources
    requested = (
        {
            name: dict(amounts)
            for name, amounts in (("requests", resources.requests), ("limits", resources.limits))
            if amounts
        }
        if resources is not None
        else {}
    )
    return AgentInfo(
        namespace=agent.metadata.namespace,
        name=agent.metadata.name,
        role=status.role or agent.spec.role_name,
        state=status.state or AgentState.REGISTERED,
        desired_state=_desired(agent),
        active=is_active(agent),
        reason=_reason(status.conditions),
        invalid=seen.invalid or None,
        start_time=min((r.start_time for r in running if r.start_time is not None), default=None),
        nodes=tuple(sorted({record.node for record in running if record.node is not None})),
        replicas=_wanted(agent),
        ready_replicas=status.ready_replicas,
        restarts=status.restarts,
        disruptions=status.disruptions,
        parked_at=status.parked_at,
        supervisor=agent.spec.supervisor,
        performance=performance_of(seen.report),
        preferences=_preferences(seen.report),
        requested=requested or None,
        effective=(status.effective.resources or None) if status.effective is not None else None,
        usage=seen.usage,
        directives=_directive_set(status.directives),
        last_failure=LastFailure(
            time=last.time,
            cause=last.cause,
            ordinal=last.ordinal,
            exit_code=last.exit_code,
            pod=last.pod,
            node=last.node,
            counted=last.counted,
        )
        if last is not None
        else None,
    )


def is_active(agent: Agent) -> bool:
    """Whether the agent works: it runs, all of it is ready, and no variable left it idle."""
    status = agent.status
    whole = status.ready_replicas >= _wanted(agent) > 0
    return status.state is AgentState.RUNNING and whole and status.active is not False


def performance_of(report: Report | None) -> dict[str, float]:
    """The reported samples by metric; the unlabelled one has the name that variables know it by."""
    if report is None:
        return {}
    named = {name: value for name, value in report.performance.items() if name}
    return {**named, PRIMARY: report.performance[""]} if "" in report.performance else named


def _desired(agent: Agent) -> DesiredState:
    effective = agent.status.effective
    return effective.desired_state if effective is not None else agent.spec.desired_state


def _wanted(agent: Agent) -> int:
    effective = agent.status.effective
    return effective.replicas if effective is not None else agent.spec.replicas


def _preferences(report: Report | None) -> dict[str, AgentPreference]:
    if report is None:
        return {}
    variables = sorted({*report.numbers, *report.choices, *report.weights, *report.bids})
    return {
        name: AgentPreference(
            value=report.numbers.get(name),
            choices=dict(report.choices[name]) if name in report.choices else None,
            weight=report.weights.get(name),
            bid=report.bids.get(name),
        )
        for name in variables
    }


def _directive_set(told: AgentDirectives | None) -> AgentDirectiveSet | None:
    if told is None:
        return None
    return AgentDirectiveSet(
        generation=told.generation,
        applied_generation=told.applied_generation,
        counts=_counts(_ends(told)),
        variables=tuple(sorted({item.variable for item in told.items})),
    )


def _ends(told: AgentDirectives) -> Iterable[str]:
    return (_end(told, item) for item in told.items)


def _end(told: AgentDirectives, item: AgentDirective) -> str:
    return "overruled" if is_overruled(told, item) else _FIELDS[item.state]


_FIELDS: Final[Mapping[DirectiveState, str]] = {state: state.value.lower() for state in DirectiveState}


def _counts(ends: Iterable[str]) -> DirectiveCounts:
    return DirectiveCounts(**Counter(ends))


def _reason(conditions: Iterable[Condition]) -> str | None:
    return next((c.reason for c in conditions if c.type == ConditionType.READY), None)


# --- one variable -----------------------------------------------------------------------------------------------------


def variable_info(seen: SeenVariable) -> VariableInfo:
    """One variable's record."""
    variable, spec, status = seen.variable, seen.variable.spec, seen.variable.status
    reason, last, told = _reason(status.conditions), status.last_decision, status.directives
    session, round_, found = status.negotiation, status.consensus, status.agents
    return VariableInfo(
        namespace=variable.metadata.namespace,
        name=variable.metadata.name,
        type=spec.type,
        parameter=variable.parameter,
        mode=spec.mode,
        paused=spec.paused,
        priority=spec.priority,
        active=is_in_force(seen),
        converged=has_converged(variable),
        reason=reason,
        error=CoordinationError(reason) if reason in _ERRORS else None,
        invalid=seen.invalid or None,
        value=status.value,
        previous_value=status.previous_value,
        round=status.round,
        decided_at=last.time if last is not None else None,
        rule=last.rule if last is not None else None,
        message=last.message if last is not None else None,
        agents=SelectedAgents(
            selected=found.selected if found is not None else 0,
            names=found.names if found is not None else (),
            missing=found.missing if found is not None else (),
        ),
        negotiation=NegotiationInfo(
            strategy=session.strategy,
            state=session.state,
            participants=len(session.participants),
            winner=session.winner,
            payment=session.payment,
        )
        if session is not None
        else None,
        consensus=ConsensusInfo(
            protocol=spec.consensus.protocol if spec.consensus is not None else None,
            proposal=round_.proposal,
            outcome=round_.outcome,
            votes=len(round_.votes),
            deadline=round_.deadline,
        )
        if round_ is not None
        else None,
        directives=DirectiveCounts(
            issued=told.issued,
            delivered=told.delivered,
            acknowledged=told.acknowledged,
            refused=told.refused,
            expired=told.expired,
        )
        if told is not None
        else DirectiveCounts(),
    )


def is_in_force(seen: SeenVariable) -> bool:
    """Whether agents are told a value of it: accepted, not paused, in the mode Active, and with a value."""
    variable = seen.variable
    refused = _is(variable, ConditionType.ACCEPTED, ConditionStatus.FALSE)
    spec = variable.spec
    return not (seen.invalid or refused or spec.paused) and spec.mode is Mode.ACTIVE and variable.status.decided


def has_converged(variable: OrchestrationVariable) -> bool:
    """Whether it is Ready."""
    return _is(variable, ConditionType.READY, ConditionStatus.TRUE)


def _is(variable: OrchestrationVariable, type_: ConditionType, status: ConditionStatus) -> bool:
    return any(c.type == type_ and c.status is status for c in variable.status.conditions)


# --- the system -------------------------------------------------------------------------------------------------------


def system_status(
    operator: OperatorInfo,
    agents: Sequence[SeenAgent],
    variables: Sequence[SeenVariable],
    books: Books,
    now: datetime,
    namespace: str | None = None,
) -> SystemStatus:
    """The record of the whole; of `agents`, `variables` and Events only those of the namespace, when one is given."""
    mine = [seen for seen in agents if namespace in (None, seen.agent.metadata.namespace)]
    theirs = [seen for seen in variables if namespace in (None, seen.variable.metadata.namespace)]
    working = sorted(_where(seen.agent.metadata) for seen in mine if is_active(seen.agent))
    in_force = sorted(_where(seen.variable.metadata) for seen in theirs if is_in_force(seen))
    return SystemStatus(
        time=now,
        operator=operator,
        namespace=namespace,
        agents=AgentCounts(
            total=len(mine),
            active=len(working),
            parked=sum(seen.agent.status.parked_at is not None for seen in mine),
            invalid=sum(seen.invalid for seen in mine),
            states=Counter(seen.agent.status.state or AgentState.REGISTERED for seen in mine),
            roles=Counter(seen.agent.spec.role for seen in mine if not seen.invalid),
        ),
        variables=VariableCounts(
            total=len(theirs),
            active=len(in_force),
            converged=sum(has_converged(seen.variable) for seen in theirs),
            invalid=sum(seen.invalid for seen in theirs),
            types=Counter(seen.variable.spec.type for seen in theirs if not seen.invalid),
        ),
        active_agents=tuple(working[:LISTED]),
        active_variables=tuple(in_force[:LISTED]),
        performance=_performance(mine),
        utilisation=Utilisation(agents=_together(mine), nodes=books.nodes, load=books.load),
        communication=_communication(mine, books.directives),
        recovery=recovery_of(books.recoveries),
        recent_events=tuple(_recent(told) for told in reversed(books.events) if namespace in (None, told.namespace)),
    )


def _where(meta: ObjectMeta) -> str:
    return f"{meta.namespace}/{meta.name}"


def _performance(agents: Iterable[SeenAgent]) -> Performance:
    individual: dict[str, dict[str, float]] = {}
    samples: dict[str, list[float]] = {}
    for seen in agents:
        reported = performance_of(seen.report)
        if reported and len(individual) < LISTED:
            individual[_where(seen.agent.metadata)] = reported
        for metric, value in reported.items():
            samples.setdefault(metric, []).append(value)
    metrics = sorted(samples, key=lambda metric: (-len(samples[metric]), metric))[:LISTED]
    return Performance(aggregate={metric: aggregate_of(samples[metric]) for metric in metrics}, individual=individual)


def aggregate_of(values: Sequence[float]) -> Aggregate:
    """Of finite numbers, of which there is one at least."""
    least, most = min(values), max(values)
    # The sum of finite numbers need not be finite; the mean lies between them in any case.
    mean = sum(value / len(values) for value in values)
    return Aggregate(agents=len(values), mean=min(max(mean, least), most), minimum=least, maximum=most)


def _together(agents: Iterable[SeenAgent]) -> Usage | None:
    used = [seen.usage for seen in agents if seen.usage is not None]
    if not used:
        return None
    return Usage(
        cpu=round(sum(one.cpu for one in used), 6),
        memory=sum(one.memory for one in used),
        pods=sum(one.pods for one in used),
        source=used[0].source,
    )


def _communication(agents: Iterable[SeenAgent], since_start: Mapping[str, int]) -> Communication:
    told = (seen.agent.status.directives for seen in agents)
    current = Counter(end for directives in told if directives is not None for end in _ends(directives))
    return Communication(
        efficiency=efficiency(since_start),
        current_efficiency=efficiency(current),
        since_start=dict(sorted(since_start.items())),
        current=_counts(current.elements()),
    )


def efficiency(outcomes: Mapping[str, int]) -> float | None:
    """Of the directives that came to an end, the share that was acknowledged in time; None when none came to one."""
    heard = outcomes.get(ACKNOWLEDGED, 0)
    ended = heard + outcomes.get(REFUSED, 0) + outcomes.get(EXPIRED, 0)
    return round(heard / ended, 4) if ended else None


def recovery_of(seconds: Sequence[float]) -> Recovery:
    """How long recoveries took, the newest one last in `seconds`."""
    if not seconds:
        return Recovery(count=0)
    return Recovery(
        count=len(seconds),
        last_seconds=round(seconds[-1], 3),
        mean_seconds=round(fmean(seconds), 3),
        median_seconds=round(median(seconds), 3),
    )


def _recent(told: Told) -> RecentEvent:
    return RecentEvent(
        time=told.time,
        type=told.type,
        reason=told.reason,
        kind=told.kind,
        namespace=told.namespace,
        name=told.name,
        action=told.action,
        note=told.note if told.reason in OWN_WORDS else None,
    )
