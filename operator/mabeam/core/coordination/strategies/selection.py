"""AgentSelection: filter by requirements, rank, take `maxConcurrent`; with inertia, so that noise flaps nobody."""

from collections.abc import Callable
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
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult, is_member, is_ready
from mabeam.core.coordination.strategies.parameter import called
from mabeam.core.pods.resources import declared_resources

RANKED: Final = "Ranked"


@dataclass(frozen=True, slots=True)
class _Contender:
    """One agent in the running: its score (None ranks last), whether it is active now, and why it does not qualify."""

    name: str
    score: float | None
    active: bool
    lacks: str | None

    @property
    def rank(self) -> tuple[bool, float, str]:
        return self.score is None, -(self.score or 0.0), self.name


def select(inputs: StrategyInputs) -> StrategyResult:
    """`{active: [names]}`. Ties go by name; an active agent keeps its place unless a challenger is better by the hysteresis."""
    if inputs.variable.spec.function is not None:
        return called(inputs, inputs.variable.spec.function, lambda answer: _named(inputs, answer))
    requirements = inputs.variable.spec.task_requirements or TaskRequirements()
    active = set(active_in(inputs.before.value))
    contenders = [_contender(inputs, requirements, agent, agent.metadata.name in active) for agent in inputs.agents]
    able = sorted((c for c in contenders if c.lacks is None), key=lambda c: c.rank)
    constraints = inputs.variable.spec.constraints
    seats = (constraints.max_concurrent if constraints else None) or len(contenders)
    chosen = _seated(able, seats, requirements.hysteresis)
    candidates = tuple(_told(c, chosen, seats) for c in sorted(contenders, key=lambda c: (c.lacks is not None, c.rank)))
    if not able:
        why = "; ".join(f"{c.name} {c.lacks}" for c in contenders[:3])
        more = f" and {len(contenders) - 3} more" if len(contenders) > 3 else ""
        text = f"no agent qualifies: {why}{more}"
        return StrategyResult(
            Reason.AGENT_UNAVAILABLE, text, candidates=candidates, memory=_remembered(inputs, contenders, active)
        )
    told = f"{len(chosen)} of {len(contenders)} active: {', '.join(sorted(chosen)[:5])}{'…' if len(chosen) > 5 else ''}"
    memory = _remembered(inputs, contenders, chosen)
    return StrategyResult(RANKED, told, {"active": sorted(chosen)}, candidates=candidates, memory=memory)


def _remembered(inputs: StrategyInputs, contenders: list[_Contender], chosen: set[str]) -> JsonDict:
    """The last scores of those that are stopped: who rests reports nothing, and must be judged all the same."""
    requirements = inputs.variable.spec.task_requirements
    if requirements is None or requirements.inactive_policy != "Stop":
        return {}
    return {c.name: c.score for c in contenders if c.name not in chosen and c.score is not None}


def _score(inputs: StrategyInputs, agent: Agent) -> float | None:
    """What the agent performs at; of one that rests for this variable, what it did when it last ran."""
    name = agent.metadata.name
    known = (inputs.before.watching or {}).get(name)
    if (
        _rests_for(inputs.variable.metadata.name, agent)
        and isinstance(known, int | float)
        and not isinstance(known, bool)
    ):
        return min(max(float(known), -MAGNITUDE), MAGNITUDE)
    return inputs.metric(name)


def active_in(value: Any) -> tuple[str, ...]:
    """The names a selection's value holds."""
    found = value.get("active") if isinstance(value, dict) else None
    return tuple(str(name) for name in found) if isinstance(found, list) else ()


def _seated(able: list[_Contender], seats: int, hysteresis: float) -> set[str]:
    """Who is active: those who are, best first, then the best of the others; then each challenger against the weakest."""
    seated = [c for c in able if c.active][:seats]
    waiting = [c for c in able if c not in seated]
    free = seats - len(seated)
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
    margin = hysteresis * abs(holder.score) if holder.active else 0.0
    return challenger.score > holder.score + margin


def _contender(inputs: StrategyInputs, requirements: TaskRequirements, agent: Agent, active: bool) -> _Contender:
    name = agent.metadata.name
    score = _score(inputs, agent)
    lacks = next((found for lack in REQUIREMENTS if (found := lack(inputs, requirements, agent, active))), None)
    return _Contender(name, score, active, lacks)


def _told(contender: _Contender, chosen: set[str], seats: int) -> Candidate:
    taken = contender.name in chosen
    why = contender.lacks or ("" if taken else f"{seats} places, and better or earlier ones have them")
    return Candidate(name=contender.name, score=contender.score, chosen=taken, reason=why[:256])


# --- requirements: each says what an agent lacks, or None ---------------------------------------------------------------------


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
    """Ready; or stopped by this very variable, for then only being selected makes it run again.

    One that is active and is started anew keeps its place: a restart is no reason to tell everybody something else.
    """
    if is_ready(agent) or (active and is_member(agent)) or _rests_for(inputs.variable.metadata.name, agent):
        return None
    if agent.status.parked_at is not None:
        return "is parked"
    return f"is not ready ({agent.status.state})"


def _rests_for(variable: str, agent: Agent) -> bool:
    """Whether it is this variable alone that keeps the agent from running."""
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
    found = _score(inputs, agent)
    if found is None and _rests_for(inputs.variable.metadata.name, agent):
        return None  # it was never heard: it has to run to show what it can do
    if found is None:
        return "reports no performance"
    slack = wanted.hysteresis * abs(least) if active else 0.0
    return None if found >= least - slack else f"performs at {found:g}, below {least:g}"


def _resources(inputs: StrategyInputs, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    """The variable's own `resources`: what the agent may use has to suffice; where it is not bounded, what nodes have free."""
    asked = inputs.variable.spec.resources
    own = declared_resources(agent.spec)
    for resource, amount in sorted(((asked.requests or {}) if asked else {}).items()):
        least = quantity.parse(amount)
        has = own.limits.get(resource) or own.requests.get(resource) or inputs.context.free.get(resource)
        if has is not None and quantity.parse(has) < least:
            return f"has {has} {resource}, not {amount}"
        if has is None and resource not in ("cpu", "memory"):
            return f"has no {resource}"
    return None


Lack = Callable[[StrategyInputs, TaskRequirements, Agent, bool], str | None]
REQUIREMENTS: Final[tuple[Lack, ...]] = (_role, _capabilities, _labels, _readiness, _performance, _resources)


def _named(inputs: StrategyInputs, answer: Any) -> tuple[JsonDict | None, str | None]:
    """The names a function gave, as a list or as `{active: [...]}`."""
    names = answer.get("active") if isinstance(answer, dict) else answer
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None, "must give a list of agents' names"
    known = {agent.metadata.name for agent in inputs.agents}
    strangers = sorted(set(names) - known)
    if strangers:
        return None, f"named {', '.join(strangers[:3])}, which are none of its agents"
    constraints = inputs.variable.spec.constraints
    most = constraints.max_concurrent if constraints else None
    if most is not None and len(set(names)) > most:
        return None, f"named {len(set(names))} agents; `constraints.maxConcurrent` is {most}"
    return {"active": sorted(set(names))}, None
