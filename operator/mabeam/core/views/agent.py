"""The record of an Agent in the REST API `/v1`: nothing in it that a reader of its status could not see."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState, Failure
from mabeam.api.base import Condition, ConditionStatus
from mabeam.api.directive import AgentDirectives, DirectiveState
from mabeam.api.names import ConditionType, Reason
from mabeam.api.rest import AgentDirectiveSet, AgentInfo, AgentPreference, DirectiveCounts, LastFailure, Usage
from mabeam.core.reports.report import PRIMARY_METRIC, Report
from mabeam.core.views.metrics import is_overruled

# The most samples of one agent in an answer: an agent's process chooses their number.
MAX_SAMPLES: Final = 64


@dataclass(frozen=True, slots=True)
class ObservedAgent:
    """An Agent, and what is known of it besides its status."""

    agent: Agent
    invalid: bool = False  # its spec could not be parsed, and `agent.spec` is a default
    report: Report | None = None  # the latest; None: there is none
    usage: Usage | None = None  # of all its pods together; None: not measured


# --- one agent --------------------------------------------------------------------------------------------------------


def agent_info(observed: ObservedAgent) -> AgentInfo:
    """The agent's record."""
    agent, status = observed.agent, observed.agent.status
    running = [record for record in status.pods if record.state is AgentState.RUNNING]
    return AgentInfo(
        namespace=agent.metadata.namespace,
        name=agent.metadata.name,
        role=status.role or agent.spec.role_name,
        state=status.state or AgentState.REGISTERED,
        desired_state=agent.wanted_state,
        active=is_active(agent),
        reason=ready_reason(status.conditions),
        report_problem=report_problem(status.conditions),
        invalid=observed.invalid or None,
        start_time=min((r.start_time for r in running if r.start_time is not None), default=None),
        nodes=tuple(sorted({record.node for record in running if record.node is not None})),
        replicas=agent.wanted_replicas,
        ready_replicas=status.ready_replicas,
        restarts=status.restarts,
        disruptions=status.disruptions,
        parked_at=status.parked_at,
        supervisor=agent.spec.supervisor,
        performance=performance_of(observed.report),
        preferences=_preferences(observed.report),
        requested=_requested(observed),
        effective=(status.effective.resources or None) if status.effective is not None else None,
        usage=observed.usage,
        directives=_directive_set(status.directives),
        last_failure=_last_failure(status.failures),
    )


def _requested(observed: ObservedAgent) -> dict[str, dict[str, str]] | None:
    """Requests and limits in the agent's spec; None when it has none, or could not be parsed."""
    resources = observed.agent.spec.resources
    if observed.invalid or resources is None:
        return None
    sides = {"requests": resources.requests, "limits": resources.limits}
    return {side: dict(amounts) for side, amounts in sides.items() if amounts} or None


def _last_failure(failures: Sequence[Failure]) -> LastFailure | None:
    if not failures:
        return None
    last = failures[-1]
    return LastFailure(
        time=last.time,
        cause=last.cause,
        ordinal=last.ordinal,
        exit_code=last.exit_code,
        pod=last.pod,
        node=last.node,
        counted=last.counted,
    )


def is_active(agent: Agent) -> bool:
    """Whether the agent is Running, all its replicas are ready, and no variable deactivated it."""
    status = agent.status
    is_complete = status.ready_replicas >= agent.wanted_replicas > 0
    return status.state is AgentState.RUNNING and is_complete and status.active is not False


def performance_of(report: Report | None) -> dict[str, float]:
    """Metric name → the reported value, at most MAX_SAMPLES; the unlabelled one is named PRIMARY_METRIC."""
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


def _directive_set(directives: AgentDirectives | None) -> AgentDirectiveSet | None:
    if directives is None:
        return None
    return AgentDirectiveSet(
        generation=directives.generation,
        applied_generation=directives.applied_generation,
        counts=count_directives(directive_states(directives)),
        variables=tuple(sorted({item.variable for item in directives.items})),
    )


def directive_states(directives: AgentDirectives) -> Iterable[str]:
    """The state of each directive, as the field of `DirectiveCounts` that counts it."""
    return ("overruled" if is_overruled(item) else _COUNT_FIELDS[item.state] for item in directives.items)


_COUNT_FIELDS: Final[Mapping[DirectiveState, str]] = {state: state.value.lower() for state in DirectiveState}


def count_directives(states: Iterable[str]) -> DirectiveCounts:
    """The number of directives in each state; `states` as by `directive_states`."""
    return DirectiveCounts(**Counter(states))


def report_problem(conditions: Iterable[Condition]) -> str | None:
    """What the condition ReportsValid says while it is False; None otherwise. A message that quotes the process is left out."""
    false = (c for c in conditions if c.type == ConditionType.REPORTS_VALID and c.status is ConditionStatus.FALSE)
    return next((c.message if c.reason == Reason.UNREACHABLE else c.reason for c in false), None)


def ready_reason(conditions: Iterable[Condition]) -> str | None:
    """The reason of the condition Ready; None when there is no such condition."""
    return next((c.reason for c in conditions if c.type == ConditionType.READY), None)
