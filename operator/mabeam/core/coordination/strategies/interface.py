"""The interface of a strategy: `StrategyInputs → StrategyResult`, and what strategies share."""

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
from mabeam.core.values import Value


@dataclass(frozen=True, kw_only=True)
class StrategyInputs:
    """Everything that the value of one variable may depend on."""

    variable: OrchestrationVariable
    agents: tuple[Agent, ...]  # the selected agents, by name
    now: datetime
    reports: Mapping[str, Report] = field(default_factory=dict)  # agent name → its best report
    gathered: GatheredOffers = field(default_factory=GatheredOffers)  # empty without `spec.negotiation`
    context: SystemContext = field(default_factory=SystemContext)
    function_results: Mapping[str, FunctionResult] = field(default_factory=dict)  # call id → its result
    open_calls: tuple[FunctionCall, ...] = ()  # requested for the decision under way; their results are not used yet
    results_used_at: datetime | None = (
        None  # when a decision last had all its results; None: not since the operator started
    )
    reading_since: datetime | None = None  # since when the operator reads reports

    @property
    def before(self) -> OrchestrationVariableStatus:
        """The stored status."""
        return self.variable.status

    def metric(self, agent: str, metric: str = PRIMARY_METRIC) -> float | None:
        """The agent's last reported value of the metric, bounded as a status can store it; None without a report of it."""
        report = self.reports.get(agent)
        if report is None:
            return None
        named = report.performance.get(metric)
        value = report.performance.get("") if named is None and metric == PRIMARY_METRIC else named
        return None if value is None else min(max(value, -MAGNITUDE), MAGNITUDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """What has to happen before, or may change, the next result of a strategy."""

    function_calls: tuple[FunctionCall, ...] = ()  # with any, nothing is decided until each has a result
    used_call: str | None = None  # id of the call whose result this is
    after_seconds: float | None = None  # time alone may change the result after so long; None: it cannot
    memory: JsonDict | None = None  # stored as `status.watching` for the next pass, whatever the result


@dataclass(frozen=True)
class StrategyResult:
    """The value that a strategy decided on, or why it decided on none."""

    rule: str  # the rule that gave the value; without a value, the Reason
    message: str
    value: Value | None = None
    winner: str | None = None  # agent that won the auction
    payment: float | None = None  # what the winner pays
    error: Reason | None = None  # set when the configuration or a function is at fault
    offers: tuple[Offer, ...] = ()
    dropped: tuple[str, ...] = ()  # offers that do not count, one sentence each
    candidates: tuple[Candidate, ...] = ()  # everything that was weighed, best first
    follow_up: FollowUp = FollowUp()


def failure(reason: Reason, message: str, *, used_call: str | None = None) -> StrategyResult:
    """The result of a strategy that cannot decide: the value in force stays."""
    return StrategyResult(reason, message, error=reason, follow_up=FollowUp(used_call=used_call))


# --- agents -----------------------------------------------------------------------------------------------------------------

_MEMBER_STATES: Final = frozenset(
    {None, AgentState.REGISTERED, AgentState.STARTING, AgentState.RUNNING, AgentState.MIGRATING}
)
NO_MEMBER: Final = "no agent takes part: each is stopped, parked or has ended"


def is_member(agent: Agent) -> bool:
    """Whether the agent takes part: it is desired to run, not parked, not at an end. A restart does not end membership."""
    status = agent.status
    wanted = agent.wanted_state is DesiredState.RUNNING and agent.wanted_replicas > 0
    return wanted and status.parked_at is None and status.state in _MEMBER_STATES


def is_ready(agent: Agent) -> bool:
    """Whether the agent runs and is ready; True also for a new agent without any status."""
    status = agent.status
    if status.state is None:
        return True
    return status.state in (AgentState.RUNNING, AgentState.MIGRATING) and (
        status.ready_replicas > 0 or not status.conditions
    )


# --- functions --------------------------------------------------------------------------------------------------------------


def agent_input(inputs: StrategyInputs, agent: Agent) -> JsonDict:
    """The agent as functions receive it; keys of what it does not report are absent."""
    name, report = agent.metadata.name, inputs.reports.get(agent.metadata.name, Report())
    offer = next((o for o in inputs.gathered.offers if o.agent == name), None)
    always = {
        "name": name,
        "role": agent.status.role or agent.spec.role_name,
        "labels": dict(agent.metadata.labels),
        "capabilities": list(agent.spec.capabilities),
        "replicas": agent.wanted_replicas,
        "ready": is_ready(agent),
        "member": is_member(agent),
        "metrics": {metric: value for metric, value in report.performance.items() if metric},
    }
    reported = {
        "performance": inputs.metric(name),
        "preference": offer.value if offer is not None else None,
        "weight": offer.weight if offer is not None else None,
        "bid": offer.bid if offer is not None else None,
    }
    return always | {key: value for key, value in reported.items() if value is not None}


def function_inputs(inputs: StrategyInputs, value: Any) -> JsonDict:
    """The inputs of a function or a constraint; `value` is the JSON value in force, or the proposed one."""
    return {
        "variable": {"name": inputs.variable.metadata.name, "type": str(inputs.variable.spec.type)},
        "value": value,
        "previous": inputs.before.previous_value,
        "round": inputs.before.round,
        "agents": [agent_input(inputs, agent) for agent in inputs.agents],
        "context": inputs.context.to_wire(),
    }


def result_of_call(inputs: StrategyInputs, call: FunctionCall) -> tuple[FunctionCall, FunctionResult | None]:
    """The call to wait for, and its result, None until it is known.

    A pending or unused call on the same subject is reused: its inputs change with every report, so that a call which must match
    exactly would never have a result. The result is older than this pass by no more than the time that the call took.
    """
    known = inputs.function_results.get(call.id)
    if known is not None:
        return call, known
    last = inputs.before.last_decision
    for other in inputs.open_calls:
        if _subject(other) != _subject(call):
            continue
        result = inputs.function_results.get(other.id)
        if result is None:
            return other, None
        if last is None or last.inputs_hash != other.id:
            return other, result
    return call, None


def _subject(call: FunctionCall) -> tuple[Any, ...]:
    """The function and the value it is called about; for a vote also the proposal and whether voting is closed."""
    given = call.inputs.get
    return call.language, call.text, call.group, given("value"), given("proposal"), given("closed")


def failed_call(result: FunctionResult, function: str, call: FunctionCall) -> StrategyResult:
    """The result of a strategy whose function failed; `function` names it in the message."""
    reason = Reason.TIMEOUT if result.timed_out else Reason.FUNCTION_FAILED
    return failure(reason, f"{function}: {result.error}", used_call=call.id)
