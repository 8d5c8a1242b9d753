"""ResourceAllocation: each resource divided by weighted max-min fairness among the agents that take part."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mabeam.api.agent import Agent, AgentResources, ResourceBounds
from mabeam.api.names import Reason
from mabeam.api.variable_status import Candidate
from mabeam.core.algorithms import quantity
from mabeam.core.algorithms.fair_division import Demand, divide
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult, is_member
from mabeam.core.pods.resources import RESIZABLE, declared_resources

RULE: Final = "WeightedMaxMin"
# Less of either and nothing runs: the kernel kills, or the scheduler of the node never turns to it.
_FLOORS: Final[Mapping[str, Fraction]] = {"cpu": Fraction(1, 1000), "memory": Fraction(4 * 1024**2)}


@dataclass(frozen=True, slots=True)
class _Budget:
    """How much there is of a resource, and who says so."""

    amount: str
    source: str


def allocate(inputs: StrategyInputs) -> StrategyResult:
    """`{agent: {resource: amount of each of its replicas}}`, the whole of each budget as long as somebody may have more."""
    members = tuple(agent for agent in inputs.agents if is_member(agent))
    if not members:
        return StrategyResult(Reason.AGENT_UNAVAILABLE, "no agent takes part: all are stopped, parked or at an end")
    budgets = _budgets(inputs, members)
    if not budgets:
        text = "there is nothing to divide: set `budget`, or `resources.bounds` on the agents"
        return StrategyResult(Reason.INVALID_CONFIGURATION, text, error=Reason.INVALID_CONFIGURATION)
    shares: dict[str, dict[str, str]] = {agent.metadata.name: {} for agent in members}
    told: list[str] = []
    candidates: list[Candidate] = []
    for resource, budget in sorted(budgets.items()):
        unit = quantity.unit_of(resource)
        try:
            available = unit.floor(quantity.parse(budget.amount))
            claims = {a.metadata.name: claim for a in members if (claim := _claim(inputs, resource, a)) is not None}
        except ValueError as wrong:
            return StrategyResult(Reason.INVALID_CONFIGURATION, str(wrong), error=Reason.INVALID_CONFIGURATION)
        if not claims:
            text = (
                f"nobody can have {resource}: the agents' pods ask for none, and giving it would change their QoS class"
            )
            return StrategyResult(Reason.INVALID_CONFIGURATION, text, error=Reason.INVALID_CONFIGURATION)
        division = divide(available, claims)
        if division.short:
            lacking = unit.write(division.short)
            text = f"the agents need at least {lacking} {resource} more than the {budget.amount} of {budget.source}"
            return StrategyResult(Reason.RESOURCE_EXHAUSTED, text, error=Reason.RESOURCE_EXHAUSTED)
        for agent in members:
            name = agent.metadata.name
            if name not in division.shares:
                why = f"its pods ask for no {resource}: giving it some would change their QoS class"
                candidates.append(Candidate(name=f"{name}: {resource}", reason=why))
            else:
                amount = unit.write(division.shares[name] // agent.wanted_replicas)
                shares[name][resource] = amount
                weight = float(claims[name].weight)
                why = f"{amount} {resource} for each replica, weight {weight:g}"
                why += _contradiction(agent, resource)
                candidates.append(Candidate(name=f"{name}: {resource}", score=weight, chosen=True, reason=why))
        left = f", {unit.write(division.left)} left" if division.left else ""
        told.append(f"{budget.amount} {resource} of {budget.source} among {len(claims)}{left}")
    value = {name: share for name, share in shares.items() if share}
    return StrategyResult(RULE, "; ".join(told), value, candidates=tuple(candidates))


def _budgets(inputs: StrategyInputs, members: tuple[Agent, ...]) -> dict[str, _Budget]:
    """What there is to divide: what the variable says; else of what agents have bounds for, the quota, else the nodes' own."""
    spec = inputs.variable.spec
    if spec.budget:
        return {item.resource: _Budget(item.amount, "spec.budget") for item in spec.budget}
    asked = {b.resource for agent in members for b in _bounds(agent)}
    if spec.resources is not None:
        asked |= set(spec.resources.requests or {}) | set(spec.resources.limits or {})
    found: dict[str, _Budget] = {}
    for resource in asked:
        for amount, source in (
            (inputs.context.quota.get(resource), "the ResourceQuota"),
            (inputs.context.allocatable.get(resource), "what the nodes can allocate"),
        ):
            if amount is not None:
                found[resource] = _Budget(amount, source)
                break
    return found


def _bounds(agent: Agent) -> tuple[ResourceBounds, ...]:
    return (agent.spec.resources or AgentResources()).bounds or ()


def _contradiction(agent: Agent, resource: str) -> str:
    """What is to be said of the agent's bounds when the least is above the most, which holds then."""
    own = next((bounds for bounds in _bounds(agent) if bounds.resource == resource), None)
    if own is None or own.min is None or own.max is None or quantity.parse(own.min) <= quantity.parse(own.max):
        return ""
    return f"; in its spec.resources.bounds `min` {own.min} is above `max` {own.max}, and `max` holds"


def _claim(inputs: StrategyInputs, resource: str, agent: Agent) -> Demand | None:
    """What the agent may get of a resource, all its replicas together; None when it has no part in it.

    A pod that asks for no cpu or memory has no part in those: giving it some would change its QoS class.
    """
    bounds = next((b for b in _bounds(agent) if b.resource == resource), None)
    requests = declared_resources(agent.spec).requests
    if resource in RESIZABLE and resource not in requests:
        return None
    unit, replicas = quantity.unit_of(resource), agent.wanted_replicas
    asked = inputs.variable.spec.resources
    least = [_FLOORS.get(resource, Fraction(0))]
    if bounds is not None and bounds.min is not None:
        # Of a least above the most the most holds: it is a promise to the others.
        least.append(min(quantity.parse(end) for end in (bounds.min, bounds.max) if end is not None))
    if bounds is None and resource in RESIZABLE:
        least.append(quantity.parse(requests[resource]))  # nobody said that it may have less than it asks for
    if asked is not None and (asked.requests or {}).get(resource) is not None:
        least.append(quantity.parse((asked.requests or {})[resource]))
    most = [quantity.parse(bounds.max)] if bounds is not None and bounds.max is not None else []
    if asked is not None and (asked.limits or {}).get(resource) is not None:
        most.append(quantity.parse((asked.limits or {})[resource]))
    floor = unit.ceil(max(least)) * replicas
    return Demand(
        minimum=floor,
        maximum=max(unit.floor(min(most)) * replicas, floor) if most else None,
        weight=Fraction(repr(_weight(inputs, resource, agent, bounds))) * replicas,
    )


def _weight(inputs: StrategyInputs, resource: str, agent: Agent, bounds: ResourceBounds | None) -> float:
    """The bounds' weight; of cpu, the agent's `cpuWeight` besides, else the variable's."""
    own = bounds.weight if bounds is not None else 1.0
    if resource != "cpu":
        return own
    named = agent.spec.resources.cpu_weight if agent.spec.resources is not None else None
    asked = inputs.variable.spec.resources
    default = asked.cpu_weight if asked is not None and asked.cpu_weight is not None else 1.0
    return own * (default if named is None else named)
