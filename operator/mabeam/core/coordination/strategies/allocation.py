"""The strategy of ResourceAllocation: each resource divided by weighted max-min fairness among the agents that take part."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mabeam.api.agent import Agent, AgentResources, ResourceBounds
from mabeam.api.names import Reason
from mabeam.api.variable_status import Candidate
from mabeam.core.algorithms import quantity
from mabeam.core.algorithms.fair_division import Demand, Division, divide
from mabeam.core.coordination.strategies.interface import (
    NO_MEMBER,
    StrategyInputs,
    StrategyResult,
    failure,
    is_member,
)
from mabeam.core.pods.resources import RESIZABLE, declared_resources
from mabeam.core.values import AllocationValue

RULE: Final = "WeightedMaxMin"
# Below either a container does not run: the kernel kills it for memory, or it is never given CPU time.
_FLOORS: Final[Mapping[str, Fraction]] = {"cpu": Fraction(1, 1000), "memory": Fraction(4 * 1024**2)}

_Members = tuple[Agent, ...]


@dataclass(frozen=True, slots=True)
class _Budget:
    """What there is of one resource."""

    resource: str
    amount: str  # a quantity
    source: str  # where the amount comes from, for messages


@dataclass(frozen=True, slots=True)
class _Allotment:
    """One resource, divided among the members."""

    shares: Mapping[str, str]  # agent name → quantity for each of its replicas
    candidates: tuple[Candidate, ...]
    message: str


def allocate(inputs: StrategyInputs) -> StrategyResult:
    """An `AllocationValue`: the whole of each budget, as long as an agent may have more."""
    members = tuple(agent for agent in inputs.agents if is_member(agent))
    if not members:
        return StrategyResult(Reason.AGENT_UNAVAILABLE, NO_MEMBER)
    budgets = _budgets(inputs, members)
    if not budgets:
        text = "there is nothing to divide: set `budget`, or `resources.bounds` on the agents"
        return failure(Reason.INVALID_CONFIGURATION, text)
    shares: dict[str, dict[str, str]] = {agent.metadata.name: {} for agent in members}
    allotments: list[_Allotment] = []
    for budget in budgets:
        allotment = _allot(inputs, members, budget)
        if isinstance(allotment, StrategyResult):
            return allotment
        allotments.append(allotment)
        for name, amount in allotment.shares.items():
            shares[name][budget.resource] = amount
    return StrategyResult(
        RULE,
        "; ".join(allotment.message for allotment in allotments),
        AllocationValue({name: share for name, share in shares.items() if share}),
        candidates=tuple(candidate for allotment in allotments for candidate in allotment.candidates),
    )


def _allot(inputs: StrategyInputs, members: _Members, budget: _Budget) -> _Allotment | StrategyResult:
    """The division of one resource, or the failure when it cannot be divided."""
    resource, unit = budget.resource, quantity.unit_of(budget.resource)
    try:
        available = unit.floor(quantity.parse(budget.amount))
        demands = {a.metadata.name: d for a in members if (d := _demand(inputs, resource, a)) is not None}
    except ValueError as problem:
        return failure(Reason.INVALID_CONFIGURATION, str(problem))
    if not demands:
        text = f"no agent can get {resource}: the agents' pods request none, and a request would change their QoS class"
        return failure(Reason.INVALID_CONFIGURATION, text)
    division = divide(available, demands)
    if division.short:
        lacking = unit.write(division.short)
        text = f"the agents need at least {lacking} {resource} more than the {budget.amount} of {budget.source}"
        return failure(Reason.RESOURCE_EXHAUSTED, text)
    shares = {
        agent.metadata.name: unit.write(division.shares[agent.metadata.name] // agent.wanted_replicas)
        for agent in members
        if agent.metadata.name in division.shares
    }
    return _Allotment(
        shares=shares,
        candidates=tuple(_candidate(agent, resource, shares, demands) for agent in members),
        message=_message(budget, division, unit, len(demands)),
    )


def _candidate(agent: Agent, resource: str, shares: Mapping[str, str], demands: Mapping[str, Demand]) -> Candidate:
    name = agent.metadata.name
    if name not in shares:
        reason = f"its pods request no {resource}, and a request would change their QoS class"
        return Candidate(name=f"{name}: {resource}", reason=reason)
    weight = float(demands[name].weight)
    reason = f"{shares[name]} {resource} for each replica, weight {weight:g}{_crossed_bounds(agent, resource)}"
    return Candidate(name=f"{name}: {resource}", score=weight, chosen=True, reason=reason)


def _message(budget: _Budget, division: Division, unit: quantity.Unit, agents: int) -> str:
    left = f", {unit.write(division.left)} left" if division.left else ""
    return f"{budget.amount} {budget.resource} of {budget.source} among {agents}{left}"


def _budgets(inputs: StrategyInputs, members: _Members) -> tuple[_Budget, ...]:
    """What there is to divide, by resource name: `spec.budget`; else, of each resource that is named, quota or node capacity.

    A resource is named by an agent's bounds or by `spec.resources`.
    """
    spec = inputs.variable.spec
    if spec.budget:
        by_name = {item.resource: _Budget(item.resource, item.amount, "spec.budget") for item in spec.budget}
        return tuple(by_name[resource] for resource in sorted(by_name))
    named = {bounds.resource for agent in members for bounds in _bounds(agent)}
    if spec.resources is not None:
        named |= set(spec.resources.requests or {}) | set(spec.resources.limits or {})
    sources = (
        (inputs.context.quota, "the ResourceQuota"),
        (inputs.context.allocatable, "what the nodes can allocate"),
    )
    found = (
        next((_Budget(resource, amounts[resource], source) for amounts, source in sources if resource in amounts), None)
        for resource in sorted(named)
    )
    return tuple(budget for budget in found if budget is not None)


def _bounds(agent: Agent) -> tuple[ResourceBounds, ...]:
    return (agent.spec.resources or AgentResources()).bounds or ()


def _bounds_of(agent: Agent, resource: str) -> ResourceBounds | None:
    return next((bounds for bounds in _bounds(agent) if bounds.resource == resource), None)


def _crossed_bounds(agent: Agent, resource: str) -> str:
    """The warning about an agent's bounds whose `min` is above their `max`; empty when they are in order."""
    own = _bounds_of(agent, resource)
    if own is None or own.min is None or own.max is None or quantity.parse(own.min) <= quantity.parse(own.max):
        return ""
    return f"; in its spec.resources.bounds `min` {own.min} is above `max` {own.max}, and `max` holds"


def _demand(inputs: StrategyInputs, resource: str, agent: Agent) -> Demand | None:
    """The agent's minimum, maximum and weight for all its replicas together, in the resource's unit.

    None for a pod that requests no cpu (or memory) at all: giving it some would change its QoS class.
    """
    bounds = _bounds_of(agent, resource)
    requests = declared_resources(agent.spec).requests
    if resource in RESIZABLE and resource not in requests:
        return None
    unit, replicas = quantity.unit_of(resource), agent.wanted_replicas
    demanded = inputs.variable.spec.resources
    minima = [_FLOORS.get(resource, Fraction(0))]
    if bounds is not None and bounds.min is not None:
        # When `min` is above `max`, `max` holds: the other agents rely on it.
        minima.append(min(quantity.parse(end) for end in (bounds.min, bounds.max) if end is not None))
    if bounds is None and resource in RESIZABLE:
        minima.append(quantity.parse(requests[resource]))  # without bounds, nobody allowed less than the request
    if demanded is not None and (demanded.requests or {}).get(resource) is not None:
        minima.append(quantity.parse((demanded.requests or {})[resource]))
    maxima = [quantity.parse(bounds.max)] if bounds is not None and bounds.max is not None else []
    if demanded is not None and (demanded.limits or {}).get(resource) is not None:
        maxima.append(quantity.parse((demanded.limits or {})[resource]))
    minimum = unit.ceil(max(minima)) * replicas
    return Demand(
        minimum=minimum,
        maximum=max(unit.floor(min(maxima)) * replicas, minimum) if maxima else None,
        weight=Fraction(repr(_weight(inputs, resource, agent, bounds))) * replicas,
        lot=replicas,
    )


def _weight(inputs: StrategyInputs, resource: str, agent: Agent, bounds: ResourceBounds | None) -> float:
    """The weight of the bounds; for cpu multiplied by the agent's `cpuWeight`, else by the variable's."""
    own = bounds.weight if bounds is not None else 1.0
    if resource != "cpu":
        return own
    named = agent.spec.resources.cpu_weight if agent.spec.resources is not None else None
    demanded = inputs.variable.spec.resources
    default = demanded.cpu_weight if demanded is not None and demanded.cpu_weight is not None else 1.0
    return own * (default if named is None else named)
