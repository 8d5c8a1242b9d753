"""An agent or a variable as it is known → its record of `/v1`: never more than a reader of its status could see."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState
from mabeam.api.base import Condition
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveState
from mabeam.api.names import ConditionType
from mabeam.api.rest import AgentDirectiveSet, AgentInfo, AgentPreference, DirectiveCounts, LastFailure, Usage
from mabeam.core.reports.report import PRIMARY_METRIC, Report
from mabeam.core.views.metrics import is_overruled

# So many samples of an agent are told: what a process makes up must not make an answer large.
MAX_SAMPLES: Final = 64


@dataclass(frozen=True, slots=True)
class ObservedAgent:
    """An agent and what is known of it besides its status."""

    agent: Agent
    invalid: bool = False
    report: Report | None = None
    usage: Usage | None = None


# --- one agent --------------------------------------------------------------------------------------------------------


def agent_info(seen: ObservedAgent) -> AgentInfo:
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
        desired_state=agent.wanted_state,
        active=is_active(agent),
        reason=ready_reason(status.conditions),
        invalid=seen.invalid or None,
        start_time=min((r.start_time for r in running if r.start_time is not None), default=None),
        nodes=tuple(sorted({record.node for record in running if record.node is not None})),
        replicas=agent.wanted_replicas,
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
    whole = status.ready_replicas >= agent.wanted_replicas > 0
    return status.state is AgentState.RUNNING and whole and status.active is not False


def performance_of(report: Report | None) -> dict[str, float]:
    """The reported samples by metric; the unlabelled one has the name that variables know it by."""
    if report is None:
        return {}
    first = {PRIMARY_METRIC: report.performance[""]} if "" in report.performance else {}
    named = sorted(name for name in report.performance if name and name not in first)
    return {**first, **{name: report.performance[name] for name in named[: MAX_SAMPLES - len(first)]}}


def _preferences(report: Report | None) -> dict[str, AgentPreference]:
    if report is None:
        return {}
    variables = sorted({*report.numbers, *report.choices, *report.weights, *report.bids})[:MAX_SAMPLES]
    return {
        name: AgentPreference(
            value=report.numbers.get(name),
            choices=_strongest(report.choices[name]) if name in report.choices else None,
            weight=report.weights.get(name),
            bid=report.bids.get(name),
        )
        for name in variables
    }


def _strongest(strengths: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(strengths.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_SAMPLES])


def _directive_set(told: AgentDirectives | None) -> AgentDirectiveSet | None:
    if told is None:
        return None
    return AgentDirectiveSet(
        generation=told.generation,
        applied_generation=told.applied_generation,
        counts=count_directives(directive_states(told)),
        variables=tuple(sorted({item.variable for item in told.items})),
    )


def directive_states(told: AgentDirectives) -> Iterable[str]:
    """How far each directive came, as `DirectiveCounts` names it."""
    return (_end(told, item) for item in told.items)


def _end(told: AgentDirectives, item: AgentDirective) -> str:
    return "overruled" if is_overruled(told, item) else _FIELDS[item.state]


_FIELDS: Final[Mapping[DirectiveState, str]] = {state: state.value.lower() for state in DirectiveState}


def count_directives(found: Iterable[str]) -> DirectiveCounts:
    """How many of each."""
    return DirectiveCounts(**Counter(found))


def ready_reason(conditions: Iterable[Condition]) -> str | None:
    return next((c.reason for c in conditions if c.type == ConditionType.READY), None)
