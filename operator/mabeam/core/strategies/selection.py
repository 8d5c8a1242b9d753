"""AgentSelection: filter by requirements, rank, take `maxConcurrent`; with inertia, so that noise flaps nobody."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.blocks import TaskRequirements
from mabeam.api.directive import DirectiveAction
from mabeam.api.names import Reason
from mabeam.api.variable_status import Candidate
from mabeam.core import quantity
from mabeam.core.outcome import Outcome
from mabeam.core.resources import declared
from mabeam.core.strategies.round import Round, is_member, is_ready
from mabeam.core.strategies.valued import called

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


def select(round_: Round) -> Outcome:
    """`{active: [names]}`. Ties go by name; an active agent keeps its place unless a challenger is better by the hysteresis."""
    if round_.variable.spec.function is not None:
        return called(round_, lambda answer: _named(round_, answer))
    requirements = round_.variable.spec.task_requirements or TaskRequirements()
    active = set(active_in(round_.before.value))
    contenders = [_contender(round_, requirements, agent, agent.metadata.name in active) for agent in round_.agents]
    able = sorted((c for c in contenders if c.lacks is None), key=lambda c: c.rank)
    constraints = round_.variable.spec.constraints
    seats = (constraints.max_concurrent if constraints else None) or len(contenders)
    chosen = _seated(able, seats, requirements.hysteresis)
    candidates = tuple(_told(c, chosen, seats) for c in sorted(contenders, key=lambda c: (c.lacks is not None, c.rank)))
    if not able:
        why = "; ".join(f"{c.name} {c.lacks}" for c in contenders[:3])
        more = f" and {len(contenders) - 3} more" if len(contenders) > 3 else ""
        return Outcome(Reason.AGENT_UNAVAILABLE, f"no agent qualifies: {why}{more}", candidates=candidates)
    told = f"{len(chosen)} of {len(contenders)} active: {', '.join(sorted(chosen)[:5])}{'…' if len(chosen) > 5 else ''}"
    return Outcome(RANKED, told, {"active": sorted(chosen)}, candidates=candidates)


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


def _contender(round_: Round, requirements: TaskRequirements, agent: Agent, active: bool) -> _Contender:
    name = agent.metadata.name
    score = round_.metric(name)
    lacks = next((found for lack in REQUIREMENTS if (found := lack(round_, requirements, agent, active))), None)
    return _Contender(name, score, active, lacks)


def _told(contender: _Contender, chosen: set[str], seats: int) -> Candidate:
    taken = contender.name in chosen
    why = contender.lacks or ("" if taken else f"{seats} places, and better or earlier ones have them")
    return Candidate(name=contender.name, score=contender.score, chosen=taken, reason=why[:256])


# --- requirements: each says what an agent lacks, or None ---------------------------------------------------------------------


def _role(round_: Round, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    role = agent.spec.role
    return None if not wanted.roles or role in wanted.roles else f"is {role}, not {' or '.join(wanted.roles)}"


def _capabilities(round_: Round, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    lacking = [capability for capability in wanted.capabilities if capability not in agent.spec.capabilities]
    return f"cannot {', '.join(lacking)}" if lacking else None


def _labels(round_: Round, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    labels = agent.metadata.labels
    lacking = [f"{k}={v}" for k, v in (wanted.match_labels or {}).items() if labels.get(k) != v]
    return f"has no label {', '.join(lacking)}" if lacking else None


def _readiness(round_: Round, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    """Ready; or stopped by this very variable, for then only being selected makes it run again.

    One that is active and is started anew keeps its place: a restart is no reason to tell everybody something else.
    """
    if is_ready(agent) or (active and is_member(agent)) or _rests_for(round_.variable.metadata.name, agent):
        return None
    if agent.status.parked_at is not None:
        return "is parked"
    return f"is not ready ({agent.status.state})"


def _rests_for(variable: str, agent: Agent) -> bool:
    held = agent.status.directives
    return held is not None and any(i.variable == variable and i.action is DirectiveAction.STOP for i in held.items)


def _performance(round_: Round, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    least = wanted.min_performance
    if least is None or _rests_for(round_.variable.metadata.name, agent):
        return None
    found = round_.metric(agent.metadata.name)
    if found is None:
        return "reports no performance"
    slack = wanted.hysteresis * abs(least) if active else 0.0
    return None if found >= least - slack else f"performs at {found:g}, below {least:g}"


def _resources(round_: Round, wanted: TaskRequirements, agent: Agent, active: bool) -> str | None:
    """The variable's own `resources`: what the agent may use has to suffice; where it is not bounded, what nodes have free."""
    asked = round_.variable.spec.resources
    own = declared(agent.spec)
    for resource, amount in sorted(((asked.requests or {}) if asked else {}).items()):
        least = quantity.parse(amount)
        has = own.limits.get(resource) or own.requests.get(resource) or round_.context.free.get(resource)
        if has is not None and quantity.parse(has) < least:
            return f"has {has} {resource}, not {amount}"
        if has is None and resource not in ("cpu", "memory"):
            return f"has no {resource}"
    return None


Lack = Callable[[Round, TaskRequirements, Agent, bool], str | None]
REQUIREMENTS: Final[tuple[Lack, ...]] = (_role, _capabilities, _labels, _readiness, _performance, _resources)


def _named(round_: Round, answer: Any) -> tuple[JsonDict | None, str | None]:
    """The names a function gave, as a list or as `{active: [...]}`."""
    names = answer.get("active") if isinstance(answer, dict) else answer
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None, "must give a list of agents' names"
    known = {agent.metadata.name for agent in round_.agents}
    strangers = sorted(set(names) - known)
    if strangers:
        return None, f"named {', '.join(strangers[:3])}, which are none of its agents"
    constraints = round_.variable.spec.constraints
    most = constraints.max_concurrent if constraints else None
    if most is not None and len(set(names)) > most:
        return None, f"named {len(set(names))} agents; `constraints.maxConcurrent` is {most}"
    return {"active": sorted(set(names))}, None
