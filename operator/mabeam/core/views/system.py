"""Everything that is known → the record of the whole system; pure, the process's own counts among its arguments."""

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

# Events whose notes hold the operator's own words alone. Those of failures quote a process's last words, those of refusals
# the apiserver or an agent: /v1 asks nobody who he is, so it leaves them out.
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
    }
)


@dataclass(frozen=True)
class ProcessCounters:
    """What the process counted and measured since it started."""

    directives: Mapping[str, int] = field(default_factory=dict)
    recoveries: Sequence[float] = ()
    events: Sequence[RecordedEvent] = ()
    nodes: Capacity | None = None
    load: Load | None = None


def system_status(
    operator: OperatorInfo,
    agents: Sequence[ObservedAgent],
    variables: Sequence[ObservedVariable],
    books: ProcessCounters,
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


def _performance(agents: Iterable[ObservedAgent]) -> Performance:
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


def _together(agents: Iterable[ObservedAgent]) -> Usage | None:
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
    told = (seen.agent.status.directives for seen in agents)
    current = Counter(end for directives in told if directives is not None for end in directive_states(directives))
    return Communication(
        efficiency=efficiency(since_start),
        current_efficiency=efficiency(current),
        since_start=dict(sorted(since_start.items())),
        current=count_directives(current.elements()),
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


def _recent(told: RecordedEvent) -> RecentEvent:
    return RecentEvent(
        time=told.time,
        type=told.type,
        reason=told.reason,
        kind=told.kind,
        namespace=told.namespace,
        name=told.name,
        action=told.action,
        note=told.note if told.reason in PUBLISHED_NOTES else None,
    )
