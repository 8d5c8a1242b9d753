"""The REST record of the whole system, from all agents and variables and the process's own counters; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, median
from typing import Final

from mabeam.api.agent_status import AgentState
from mabeam.api.base import ObjectMeta
from mabeam.api.names import Reason
from mabeam.api.rest import (
    AgentCounts,
    Aggregate,
    Capacity,
    Communication,
    Load,
    OperatorInfo,
    Performance,
    RecentEvent,
    Recovery,
    SystemStatus,
    Usage,
    Utilisation,
    VariableCounts,
)
from mabeam.core.decision import RecordedEvent
from mabeam.core.views.agent import ObservedAgent, count_directives, directive_states, is_active, performance_of
from mabeam.core.views.metrics import ACKNOWLEDGED, EXPIRED, REFUSED
from mabeam.core.views.variable import ObservedVariable, has_converged, is_in_force

LISTED: Final = 100

# Reasons of Events whose notes quote nobody but the operator. Notes of failures quote a process's termination message, those of
# refusals the apiserver or an agent: /v1 has no authentication, so it leaves them out.
PUBLISHED_NOTES: Final = frozenset(
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
        Reason.UNREACHABLE,
        Reason.REPORTS_OK,
    }
)


@dataclass(frozen=True)
class ProcessCounters:
    """What the operator's process counted and measured since it started."""

    directives: Mapping[str, int] = field(default_factory=dict)  # outcome → directives that ended so
    recoveries: Sequence[float] = ()  # seconds of each recovery, newest last
    events: Sequence[RecordedEvent] = ()  # the latest, newest last
    nodes: Capacity | None = None  # None: not measured
    load: Load | None = None


def system_status(
    operator: OperatorInfo,
    agents: Sequence[ObservedAgent],
    variables: Sequence[ObservedVariable],
    process: ProcessCounters,
    now: datetime,
    namespace: str | None = None,
) -> SystemStatus:
    """The record of the whole system, or of one namespace: `agents`, `variables` and Events of others are left out then."""
    own_agents = [seen for seen in agents if namespace in (None, seen.agent.metadata.namespace)]
    own_variables = [seen for seen in variables if namespace in (None, seen.variable.metadata.namespace)]
    active = sorted(_full_name(seen.agent.metadata) for seen in own_agents if is_active(seen.agent))
    in_force = sorted(_full_name(seen.variable.metadata) for seen in own_variables if is_in_force(seen))
    events = (event for event in reversed(process.events) if namespace in (None, event.namespace))
    return SystemStatus(
        time=now,
        operator=operator,
        namespace=namespace,
        agents=_agent_counts(own_agents, len(active)),
        variables=_variable_counts(own_variables, len(in_force)),
        active_agents=tuple(active[:LISTED]),
        active_variables=tuple(in_force[:LISTED]),
        performance=_performance(own_agents),
        utilisation=Utilisation(agents=_total_usage(own_agents), nodes=process.nodes, load=process.load),
        communication=_communication(own_agents, process.directives),
        recovery=recovery_of(process.recoveries),
        recent_events=tuple(_recent(event) for event in events),
    )


def _agent_counts(agents: Sequence[ObservedAgent], active: int) -> AgentCounts:
    return AgentCounts(
        total=len(agents),
        active=active,
        parked=sum(seen.agent.status.parked_at is not None for seen in agents),
        invalid=sum(seen.invalid for seen in agents),
        states=Counter(seen.agent.status.state or AgentState.REGISTERED for seen in agents),
        roles=Counter(seen.agent.spec.role for seen in agents if not seen.invalid),
    )


def _variable_counts(variables: Sequence[ObservedVariable], active: int) -> VariableCounts:
    return VariableCounts(
        total=len(variables),
        active=active,
        converged=sum(has_converged(seen.variable) for seen in variables),
        invalid=sum(seen.invalid for seen in variables),
        types=Counter(seen.variable.spec.type for seen in variables if not seen.invalid),
    )


def _full_name(meta: ObjectMeta) -> str:
    return f"{meta.namespace}/{meta.name}"


def _performance(agents: Iterable[ObservedAgent]) -> Performance:
    individual: dict[str, dict[str, float]] = {}
    samples: dict[str, list[float]] = {}
    for seen in agents:
        reported = performance_of(seen.report)
        if reported and len(individual) < LISTED:
            individual[_full_name(seen.agent.metadata)] = reported
        for metric, value in reported.items():
            samples.setdefault(metric, []).append(value)
    metrics = sorted(samples, key=lambda metric: (-len(samples[metric]), metric))[:LISTED]
    return Performance(aggregate={metric: aggregate_of(samples[metric]) for metric in metrics}, individual=individual)


def aggregate_of(values: Sequence[float]) -> Aggregate:
    """The number of values, their mean and bounds; `values` are finite, and at least one."""
    least, most = min(values), max(values)
    # The sum of finite numbers can overflow, their mean cannot.
    mean = sum(value / len(values) for value in values)
    return Aggregate(agents=len(values), mean=min(max(mean, least), most), minimum=least, maximum=most)


def _total_usage(agents: Iterable[ObservedAgent]) -> Usage | None:
    used = [seen.usage for seen in agents if seen.usage is not None]
    if not used:
        return None
    return Usage(
        cpu=round(sum(one.cpu for one in used), 6),
        memory=sum(one.memory for one in used),
        pods=sum(one.pods for one in used),
        source=used[0].source,
    )


def _communication(agents: Iterable[ObservedAgent], since_start: Mapping[str, int]) -> Communication:
    in_status = (seen.agent.status.directives for seen in agents)
    current = Counter(end for directives in in_status if directives is not None for end in directive_states(directives))
    return Communication(
        efficiency=efficiency(since_start),
        current_efficiency=efficiency(current),
        since_start=dict(sorted(since_start.items())),
        current=count_directives(current.elements()),
    )


def efficiency(outcomes: Mapping[str, int]) -> float | None:
    """The share of the ended directives that was acknowledged in time, from 0 to 1; None when none ended."""
    acknowledged = outcomes.get(ACKNOWLEDGED, 0)
    ended = acknowledged + outcomes.get(REFUSED, 0) + outcomes.get(EXPIRED, 0)
    return round(acknowledged / ended, 4) if ended else None


def recovery_of(seconds: Sequence[float]) -> Recovery:
    """The number and durations of recoveries; `seconds` holds each duration, the newest last."""
    if not seconds:
        return Recovery(count=0)
    return Recovery(
        count=len(seconds),
        last_seconds=round(seconds[-1], 3),
        mean_seconds=round(fmean(seconds), 3),
        median_seconds=round(median(seconds), 3),
    )


def _recent(event: RecordedEvent) -> RecentEvent:
    return RecentEvent(
        time=event.time,
        type=event.type,
        reason=event.reason,
        kind=event.kind,
        namespace=event.namespace,
        name=event.name,
        action=event.action,
        note=event.note if event.reason in PUBLISHED_NOTES else None,
    )
