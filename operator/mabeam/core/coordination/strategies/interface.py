"""What a strategy may look at, and what it asks functions of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState, DesiredState
from mabeam.api.base import MAGNITUDE, JsonDict
from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_status import Candidate, Offer, OrchestrationVariableStatus
from mabeam.core.coordination.offers import GatheredOffers
from mabeam.core.functions import FunctionCall, FunctionResult
from mabeam.core.reports.report import PRIMARY_METRIC, Report
from mabeam.core.snapshot import SystemContext


@dataclass(frozen=True)
class StrategyInputs:
    """All that deciding rests on. `agents` are in order of name; `asked` are the questions of this decision so far."""

    variable: OrchestrationVariable
    agents: tuple[Agent, ...]
    now: datetime
    reports: Mapping[str, Report] = field(default_factory=dict)
    gathered: GatheredOffers = field(default_factory=GatheredOffers)
    context: SystemContext = field(default_factory=SystemContext)
    function_results: Mapping[str, FunctionResult] = field(default_factory=dict)
    open_calls: tuple[FunctionCall, ...] = ()
    results_used_at: datetime | None = None

    @property
    def before(self) -> OrchestrationVariableStatus:
        return self.variable.status

    def metric(self, agent: str, metric: str = PRIMARY_METRIC) -> float | None:
        """What the agent last reported of a metric; None when it reports none. `performance` is the primary one.

        Bounded as a status can carry it: a report may hold any finite number.
        """
        report = self.reports.get(agent)
        if report is None:
            return None
        named = report.performance.get(metric)
        found = report.performance.get("") if named is None and metric == PRIMARY_METRIC else named
        return None if found is None else min(max(found, -MAGNITUDE), MAGNITUDE)  # as far as a status can tell it


_UP: Final = frozenset({None, AgentState.REGISTERED, AgentState.STARTING, AgentState.RUNNING, AgentState.MIGRATING})


def is_member(agent: Agent) -> bool:
    """Whether the agent takes part: it is to run, and neither parked nor at an end. One that is restarted takes part on."""
    status = agent.status
    wanted = agent.wanted_state is DesiredState.RUNNING and agent.wanted_replicas > 0
    return wanted and status.parked_at is None and status.state in _UP


def is_ready(agent: Agent) -> bool:
    """Whether it runs and is ready; one of which nothing was seen yet is taken at its word."""
    status = agent.status
    if status.state is None:
        return True
    return status.state in (AgentState.RUNNING, AgentState.MIGRATING) and (
        status.ready_replicas > 0 or not status.conditions
    )


def agent_input(inputs: StrategyInputs, agent: Agent) -> JsonDict:
    """The agent as functions are given it; what it does not report is not there."""
    name, report = agent.metadata.name, inputs.reports.get(agent.metadata.name, Report())
    offer = next((o for o in inputs.gathered.offers if o.agent == name), None)
    metrics = {metric: value for metric, value in report.performance.items() if metric}
    primary = inputs.metric(name)
    known = {
        "name": name,
        "role": agent.status.role or agent.spec.role_name,
        "labels": dict(agent.metadata.labels),
        "capabilities": list(agent.spec.capabilities),
        "replicas": agent.wanted_replicas,
        "ready": is_ready(agent),
        "member": is_member(agent),
        "metrics": metrics,
    }
    maybe = {
        "performance": primary,
        "preference": offer.value if offer is not None else None,
        "weight": offer.weight if offer is not None else None,
        "bid": offer.bid if offer is not None else None,
    }
    return known | {key: value for key, value in maybe.items() if value is not None}


def function_inputs(inputs: StrategyInputs, value: Any) -> JsonDict:
    """What a function or a rule is given: the value (in force, or proposed), what was before it, the agents, the system."""
    return {
        "variable": {"name": inputs.variable.metadata.name, "type": str(inputs.variable.spec.type)},
        "value": value,
        "previous": inputs.before.previous_value,
        "round": inputs.before.round,
        "agents": [agent_input(inputs, agent) for agent in inputs.agents],
        "context": inputs.context.to_wire(),
    }


def result_of_call(inputs: StrategyInputs, ask: FunctionCall) -> tuple[FunctionCall, FunctionResult | None]:
    """The question to stand by, and its answer if it is known.

    Reports tick, so every pass would ask anew and never hear an answer: a question about the same that is under way, or
    answered and not used yet, is good enough. It is older than this pass by no more than its own answer took.
    """
    known = inputs.function_results.get(ask.id)
    if known is not None:
        return ask, known
    last = inputs.before.last_decision
    for other in inputs.open_calls:
        if _subject(other) != _subject(ask):
            continue
        answer = inputs.function_results.get(other.id)
        if answer is None:
            return other, None
        if last is None or last.inputs_hash != other.id:
            return other, answer
    return ask, None


def _subject(ask: FunctionCall) -> tuple[Any, ...]:
    """What a question is about: the function, the value, and of a vote which one and whether it is over."""
    given = ask.inputs.get
    return ask.language, ask.text, ask.group, given("value"), given("proposal"), given("closed")


@dataclass(frozen=True)
class StrategyResult:
    """What a round came to. Without a `value`, `rule` is the reason why; `error` blames the configuration or the function.

    `winner` and `payment` are an auction's. `candidates` are what was weighed, best first. With `asks` nothing is decided until
    they are answered; `asked` is the question whose answer this is. `memory` is what the strategy wants to remember of what it
    saw, though nothing was decided on it yet; `again` says in how many seconds time alone may change the outcome.
    """

    rule: str
    message: str
    value: Any = None
    winner: str | None = None
    payment: float | None = None
    error: Reason | None = None
    offers: tuple[Offer, ...] = ()
    dropped: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    function_calls: tuple[FunctionCall, ...] = ()
    memory: JsonDict | None = None
    again: float | None = None
    asked: str | None = None


def failed_call(answer: FunctionResult, what: str, ask: FunctionCall) -> StrategyResult:
    """The outcome of a function that gave no answer: the last good value stays."""
    reason = Reason.TIMEOUT if answer.timed_out else Reason.FUNCTION_FAILED
    return StrategyResult(reason, f"{what}: {answer.error}", error=reason, asked=ask.id)
