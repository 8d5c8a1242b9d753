"""The strategy of AgentSelection: filter by requirements, rank, take `maxConcurrent`.

Hysteresis keeps noise in the metrics from replacing one agent by another.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import DesiredState
from mabeam.api.base import MAGNITUDE, JsonDict
from mabeam.api.directive import DirectiveAction, DirectiveState
from mabeam.api.names import Reason
from mabeam.api.variable_blocks import TaskRequirements
from mabeam.api.variable_status import Candidate
from mabeam.core.algorithms import quantity
from mabeam.core.coordination.strategies.interface import (
    FollowUp,
    StrategyInputs,
    StrategyResult,
    is_member,
    is_ready,
)
from mabeam.core.coordination.strategies.parameter import call_function
from mabeam.core.pods.resources import declared_resources
from mabeam.core.values import SelectionValue, parse_selection

RANKED: Final = "Ranked"
# A score nearer to zero has the margin of this one: a share of almost zero would let any noise change the agents.
LEAST_SCALE: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Contender:
    """One agent that could be selected."""

    name: str
    score: float | None  # its primary metric; None ranks last
    active: bool  # whether the value in force selects it
    lacks: str | None  # the first requirement it does not meet, as a phrase; None: it qualifies

    @property
    def rank(self) -> tuple[bool, float, str]:
        """The sort key: highest score first, then by name."""
        return self.score is None, -(self.score or 0.0), self.name


def select(inputs: StrategyInputs) -> StrategyResult:
    """A `SelectionValue`. Ties go by name; an active agent keeps its place unless a challenger is better by the hysteresis."""
    if inputs.variable.spec.function is not None:
        return call_function(inputs, inputs.variable.spec.function, lambda result: _parse_result(inputs, result))
    requirements = inputs.variable.spec.task_requirements or TaskRequirements()
    active = set(parse_selection(inputs.before.value).active)
    contenders = [_contender(inputs, requirements, agent, agent.metadata.name in active) for agent in inputs.agents]
    qualified = sorted((c for c in contenders if c.lacks is None), key=lambda c: c.rank)
    constraints = inputs.variable.spec.constraints
    places = (constraints.max_concurrent if constraints else None) or len(contenders)
    chosen = _chosen(qualified, places, requirements.hysteresis)
    ranked = sorted(contenders, key=lambda c: (c.lacks is not None, c.rank))
    # While no agent qualifies the value in force stays, and with it the agents that are active.
    memory = FollowUp(memory=_last_scores(inputs, contenders, chosen if qualified else active))
    candidates = tuple(_candidate(c, chosen, places) for c in ranked)
    if not qualified:
        why = "; ".join(f"{c.name} {c.lacks}" for c in contenders[:3])
        more = f" and {len(contenders) - 3} more" if len(contenders) > 3 else ""
        text = f"no agent qualifies: {why}{more}"
        return StrategyResult(Reason.AGENT_UNAVAILABLE, text, candidates=candidates, follow_up=memory)
    names = tuple(sorted(chosen))
    text = f"{len(names)} of {len(contenders)} active: {', '.join(names[:5])}{'…' if len(names) > 5 else ''}"
    return StrategyResult(RANKED, text, SelectionValue(names), candidates=candidates, follow_up=memory)


def _contender(inputs: StrategyInputs, requirements: TaskRequirements, agent: Agent, active: bool) -> _Contender:
    lacks = next((lack for check in REQUIREMENTS if (lack := check(inputs, requirements, agent, active))), None)
    return _Contender(agent.metadata.name, _score(inputs, agent), active, lacks)


def _score(inputs: StrategyInputs, agent: Agent) -> float | None:
    """The agent's primary metric; of an agent that this variable stopped, the last one before it stopped."""
    name = agent.metadata.name
    known = (inputs.before.watching or {}).get(name)
    stopped = _is_stopped_by(inputs.variable.metadata.name, agent)
    if stopped and isinstance(known, int | float) and not isinstance(known, bool):
        return min(max(float(known), -MAGNITUDE), MAGNITUDE)
    return inputs.metric(name)


def _last_scores(inputs: StrategyInputs, contenders: Iterable[_Contender], chosen: set[str]) -> JsonDict:
    """Agent name → score of each agent that will be stopped: it reports nothing then, and must be ranked all the same."""
    requirements = inputs.variable.spec.task_requirements
    if requirements is None or requirements.inactive_policy != "Stop":
        return {}
    return {c.name: c.score for c in contenders if c.name not in chosen and c.score is not None}


def _chosen(qualified: Sequence[_Contender], places: int, hysteresis: float) -> set[str]:
    """Names of at most `places` agents: the active ones, then the best others, then challengers that beat the weakest."""
    seated = [c for c in qualified if c.active][:places]
    waiting = [c for c in qualified if c not in seated]
    free = places - len(seated)
    seated, waiting = sorted([*seated, *waiting[:free]], key=lambda c: c.rank), waiting[free:]
    for challenger in waiting:
        weakest = seated[-1] if seated else None
        if weakest is None or not _beats(challenger, weakest, hysteresis):
            break  # the next challenger is no better, and the next weakest no worse
        seated = sorted([*seated[:-1], challenger], key=lambda c: c.rank)
    return {c.name for c in seated}


def _beats(challenger: _Contender, holder: _Contender, hysteresis: float) -> bool:
    if challenger.score is None:
        return False
    if holder.score is None:
        return True
    margin = _margin(hysteresis, holder.score) if holder.active else 0.0
    return challenger.score > holder.score + margin


def _margin(hysteresis: float, score: float) -> float:
    """The difference that noise may make at this score: a share of it, but not of almost nothing."""
    return hysteresis * max(abs(score), LEAST_SCALE)


def _candidate(contender: _Contender, chosen: set[str], places: int) -> Candidate:
    taken = contender.name in chosen
    why = contender.lacks or (
        "" if taken else f"places: {places}, taken by agents with a higher score or selected earlier"
    )
    return Candidate(name=contender.name, score=contender.score, chosen=taken, reason=why[:256])


# --- requirements: each returns what the agent lacks, as a phrase that follows its name, or None ------------------------------


def _role(inputs: StrategyInputs, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    role = agent.spec.role
    return None if not wanted.roles or role in wanted.roles else f"is {role}, not {' or '.join(wanted.roles)}"


def _capabilities(inputs: StrategyInputs, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    lacking = [capability for capability in wanted.capabilities if capability not in agent.spec.capabilities]
    return f"cannot {', '.join(lacking)}" if lacking else None


def _labels(inputs: StrategyInputs, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    labels = agent.metadata.labels
    lacking = [f"{k}={v}" for k, v in (wanted.match_labels or {}).items() if labels.get(k) != v]
    return f"has no label {', '.join(lacking)}" if lacking else None


def _readiness(inputs: StrategyInputs, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    """None for a ready agent, and for one that this variable stopped: only being selected starts that one again.

    An active agent that is restarted keeps its place: a restart alone must not change the other agents' directives.
    """
    if is_ready(agent) or (active and is_member(agent)) or _is_stopped_by(inputs.variable.metadata.name, agent):
        return None
    if agent.status.parked_at is not None:
        return "is parked"
    return f"is not ready ({agent.status.state})"


def _is_stopped_by(variable: str, agent: Agent) -> bool:
    """Whether a Stop directive of this variable is the only thing that keeps the agent from running."""
    held, status = agent.status.directives, agent.status
    if held is None or status.parked_at is not None or agent.spec.desired_state is DesiredState.STOPPED:
        return False
    return any(
        item.variable == variable and item.action is DirectiveAction.STOP and item.state is not DirectiveState.REFUSED
        for item in held.items
    )


def _performance(inputs: StrategyInputs, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    least = wanted.min_performance
    if least is None:
        return None
    score = _score(inputs, agent)
    if score is None and _is_stopped_by(inputs.variable.metadata.name, agent):
        return None  # it never reported: it has to run before its performance can be known
    if score is None:
        return "reports no performance"
    slack = _margin(wanted.hysteresis, least) if active else 0.0
    return None if score >= least - slack else f"performs at {score:g}, below {least:g}"


def _resources(inputs: StrategyInputs, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    """`spec.resources.requests` against the agent's limits, else its requests, else what the nodes have free."""
    required = inputs.variable.spec.resources
    own = declared_resources(agent.spec)
    for resource, amount in sorted(((required.requests or {}) if required else {}).items()):
        available = own.limits.get(resource) or own.requests.get(resource) or inputs.context.free.get(resource)
        if available is not None and quantity.parse(available) < quantity.parse(amount):
            return f"has {available} {resource}, not {amount}"
        if available is None and resource not in ("cpu", "memory"):
            return f"has no {resource}"
    return None


Requirement = Callable[[StrategyInputs, TaskRequirements, Agent, bool], str | None]
REQUIREMENTS: Final[tuple[Requirement, ...]] = (_role, _capabilities, _labels, _readiness, _performance, _resources)


# --- the result of a function -------------------------------------------------------------------------------------------------


def _parse_result(inputs: StrategyInputs, result: Any) -> SelectionValue | str:
    """The agents in `[name]` or `{active: [name]}`, or what is wrong with the result."""
    names = result.get("active") if isinstance(result, dict) else result
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "must return a list of agent names"
    known = {agent.metadata.name for agent in inputs.agents}
    unknown = sorted(set(names) - known)
    if unknown:
        return f"named {', '.join(unknown[:3])}, which are not among its agents"
    constraints = inputs.variable.spec.constraints
    most = constraints.max_concurrent if constraints else None
    if most is not None and len(set(names)) > most:
        return f"named {len(set(names))} agents; `constraints.maxConcurrent` is {most}"
    return SelectionValue(tuple(sorted(set(names))))
